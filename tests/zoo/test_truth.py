"""The zoo's judge itself: it must find each kind of fault."""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

from zoo.truth import Family, expected, faults
from zoo.weights import Loaded, State

SOURCE, TUNED, TARGET = 1.0, 1.5, 3.0


def _loaded(
    value: float, rows: int = 2, missing: tuple[str, ...] = (), unexpected: tuple[str, ...] = ()
) -> Loaded:
    state: State = {
        "body": torch.full((2, 3), value, dtype=torch.bfloat16),
        "head": torch.full((rows, 3), value, dtype=torch.bfloat16),
    }
    return Loaded(state, frozenset(missing), frozenset(unexpected), PreTrainedConfig())


FAMILY = Family(_loaded(SOURCE), _loaded(TUNED), _loaded(TARGET))


def test_the_sum_is_right_and_everything_else_is_not() -> None:
    right = _loaded(TARGET + TUNED - SOURCE)
    assert not faults(right, FAMILY)
    assert set(faults(_loaded(TARGET), FAMILY).values()) == {"as in the target"}
    assert set(faults(_loaded(TUNED), FAMILY).values()) == {"as in the fine-tune"}
    assert set(faults(_loaded(TARGET + TUNED), FAMILY).values()) == {"target + whole fine-tune"}
    assert set(faults(_loaded(0.25), FAMILY).values()) == {"other value"}


def test_names_that_are_missing_or_left_over_are_faults() -> None:
    value = TARGET + TUNED - SOURCE
    assert faults(_loaded(value, missing=("head",)), FAMILY) == {"head": "not in the result"}
    assert faults(_loaded(value, unexpected=("x",)), FAMILY) == {"x": "not used by the model"}


def test_a_head_that_only_the_fine_tune_has_is_its_own() -> None:
    bases = _loaded(SOURCE, missing=("head",)), _loaded(TARGET, missing=("head",))
    family = Family(bases[0], _loaded(TUNED), bases[1])
    assert torch.equal(expected("head", family, added_tokens=False), family.tuned.state["head"])


def test_added_rows_are_the_fine_tunes_and_the_others_are_sums() -> None:
    family = Family(_loaded(SOURCE), _loaded(TUNED, rows=4), _loaded(TARGET))
    value = expected("head", family, added_tokens=True)
    assert value[:, 0].tolist() == [TARGET + TUNED - SOURCE] * 2 + [TUNED] * 2
    assert torch.equal(expected("head", family, added_tokens=False), family.tuned.state["head"])
