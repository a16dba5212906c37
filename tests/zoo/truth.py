"""The right result, from what transformers loads of base, fine-tune and target; and the faults."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zoo.weights import Loaded


@dataclass(frozen=True)
class Family:
    """Source base, fine-tune and target as transformers loads them."""

    source: Loaded
    tuned: Loaded
    target: Loaded
    ignored: frozenset[str] = frozenset()  # what transformers does not read back as it wrote it

    @property
    def on_itself(self) -> Family:
        """The same with the source base as target."""
        return Family(self.source, self.tuned, self.source, self.ignored)


def _sum(target: torch.Tensor, tuned: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    if not target.is_floating_point():
        return target
    exact = target.double() + (tuned.double() - source.double())
    return exact.to(torch.bfloat16).to(target.dtype)  # all checkpoints here are stored in bf16


def _longer_by_rows(tuned: torch.Tensor, source: torch.Tensor) -> int | None:
    """The only axis along which the fine-tune is longer."""
    if tuned.dim() != source.dim():
        return None
    axes = [i for i, (a, b) in enumerate(zip(tuned.shape, source.shape, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 and tuned.shape[axes[0]] > source.shape[axes[0]] else None


def expected(name: str, family: Family, added_tokens: bool) -> torch.Tensor:
    """The value that a parameter must have in the result.

    Args:
        name: In the loaded model.
        family: The three models.
        added_tokens: The fine-tune's longer axes are vocabularies: their first rows are shared.
    """
    source, tuned, target = family.source, family.tuned, family.target
    if name not in tuned.state or name in tuned.missing:
        return target.state[name]
    value = tuned.state[name]
    if name in source.missing | target.missing or name not in source.state:
        return value
    s, t = source.state[name], target.state[name]
    if value.shape == s.shape == t.shape:
        return _sum(t, value, s)
    axis = _longer_by_rows(value, s)
    if not added_tokens or axis is None:
        return value
    shared, new = value.split([s.shape[axis], value.shape[axis] - s.shape[axis]], axis)
    return torch.cat([_sum(t, shared, s), new], axis)


def _fault(name: str, got: torch.Tensor, right: torch.Tensor, family: Family) -> str:
    if got.shape != right.shape:
        return f"shape {tuple(got.shape)} for {tuple(right.shape)}"
    for word, loaded in (
        ("as in the target", family.target),
        ("as in the fine-tune", family.tuned),
    ):
        value = loaded.state.get(name)
        if value is not None and value.shape == got.shape and torch.equal(value, got):
            return word
    t, f = family.target.state.get(name), family.tuned.state.get(name)
    if (
        t is not None
        and f is not None
        and t.shape == f.shape == got.shape
        and torch.allclose((t.double() + f.double()), got.double(), rtol=1e-2, atol=1e-3)
    ):
        return "target + whole fine-tune"
    return "other value"


def _fault_of(name: str, result: Loaded, family: Family, added_tokens: bool) -> str | None:
    if name not in result.state:
        return "not in the model"
    got = result.state[name]
    if name in result.missing and got.is_floating_point():  # counters begin at the right value
        return "not in the result"
    right = expected(name, family, added_tokens)
    if got.shape == right.shape and torch.equal(got, right):
        return None
    return _fault(name, got, right, family)


def faults(result: Loaded, family: Family, *, added_tokens: bool = False) -> dict[str, str]:
    """What is wrong in a result, by parameter; empty if all is right.

    Args:
        result: What `from_pretrained` loads of it.
        family: What it loads of the three checkpoints.
        added_tokens: As for `expected`.
    """
    known = family.target.unexpected | family.tuned.unexpected | family.source.unexpected
    found = dict.fromkeys(result.unexpected - known, "not used by the model")
    nowhere = family.ignored | (family.target.missing & family.tuned.missing)
    for name in (family.tuned.state.keys() | result.state.keys()) - nowhere:
        fault = _fault_of(name, result, family, added_tokens)
        if fault is not None:
            found[name] = fault
    return found
