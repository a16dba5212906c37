"""Recipes that cannot be followed: one line each, with the file, the line and the next step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from models import WORDS, TinyFamily, config, drifted, random_state, save_model

import ftt_hub
from ftt_hub.combining.greedy import choose
from ftt_hub.combining.recipe import parse_layers, read_recipe
from ftt_hub.errors import FttError, IncompatibleError, NonFiniteError
from ftt_hub.support.licences import combine_licences


@pytest.fixture(scope="module")
def pair(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of one source base."""
    root = tmp_path_factory.mktemp("pair")
    other = save_model(root / "f", drifted(random_state(0), 5, 0.02))
    ftt_hub.extract(family.source, family.tuned, root / "one")
    ftt_hub.extract(family.source, other, root / "two")
    return root / "one", root / "two"


GOOD = "adapters:\n- adapter: a/b\n- adapter: c/d\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: best\n" + GOOD, "line 1: unknown method 'best': expected one of linear, average"),
        (GOOD + "weights: [1]\n", "line 4: unknown key 'weights': expected method, parameters"),
        (
            "method: ties\nparameters:\n  density: 0.2\n  desnity: 1\n" + GOOD,
            "line 4: unknown key 'desnity': expected density, scale",
        ),
        (
            "parameters:\n  density: 0.2\n" + GOOD,
            "line 2: unknown key 'density': expected none for this method",
        ),
        ("method: ties\nparameters: {density: 1.5}\n" + GOOD, "line 2: density: 1.5 is greater"),
        ("method: dare\nparameters: {drop: 1}\n" + GOOD, "line 2: drop: 1 is greater"),
        (GOOD + "  weigth: 1\n", "line 4: unknown key 'weigth': expected adapter, recipe, weight"),
        (GOOD + "  weight: high\n", 'line 4: weight: "high" is not of type'),
        (GOOD + "  weight: .nan\n", "line 4: a number must be finite: found nan"),
        (GOOD + "  weight: -.inf\n", "line 4: a number must be finite: found -inf"),
        ("method: ties\nparameters: {scale: .nan}\n" + GOOD, "line 2: a number must be finite"),
        ("method: ties\n" + GOOD + "  weight: -1\n", "line 5: ties takes weights above zero"),
        ("method: average\n" + GOOD + "  weight: 2\n", "line 5: average takes no weights"),
        ("method: slerp\nadapters:\n- adapter: a/b\n", "slerp takes two adapters: found 1"),
        ("adapters:\n- adapter: a/b\n  weight: 0\n", "all weights are zero"),
        (GOOD + "  layers: 3-1\n", "line 4: not a range of layers"),
        (GOOD + "  outside_layers: true\n", '"layers" is a required property'),
        (GOOD + "adapters: []\n", "line 4: 'adapters' is there twice"),
        ("adapters: []\n", r"line 1: adapters: \[\] has less than 1 item"),
        ("adapters: {\n", "line 2: not valid YAML"),
        ("- a\n", "is not a YAML mapping"),
        ("method: greedy_soup\n" + GOOD, '"parameters" is a required property'),
        ("codec: {id: anchored}\n" + GOOD, "line 1: unknown id 'anchored'"),
        ("codec: {id: exact, bits: 1}\n" + GOOD, "codec exact is lossless and takes no limit"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(FttError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_contains_itself_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.yaml").write_text(f"adapters:\n- recipe: {other}.yaml\n")
    with pytest.raises(FttError, match=r"contains itself: found b\.yaml → c\.yaml → b\.yaml"):
        read_recipe(tmp_path / "a.yaml")


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FttError, match=r"none\.yaml: cannot be read"):
        ftt_hub.combine(tmp_path / "none.yaml", tmp_path / "out")


def test_paths_are_relative_to_the_recipe(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").symlink_to(pair[0])
    (tmp_path / "in" / "r.yaml").write_text("adapters:\n- adapter: one\n")
    assert ftt_hub.combine(tmp_path / "in" / "r.yaml", tmp_path / "out").parents[0]["ref"] == "one"


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("best", {}, "unknown method 'best'"),
        ("ties", {"desnity": 1}, "unknown key 'desnity': expected density, scale"),
        ("ties", {"density": float("nan")}, "density: a number must be finite"),
    ],
)
def test_python_arguments_are_checked_alike(
    pair: tuple[Path, Path], tmp_path: Path, method: str, parameters: dict[str, float], message: str
) -> None:
    with pytest.raises(FttError, match=message):
        ftt_hub.combine(list(pair), tmp_path / "out", method=method, parameters=parameters)


def test_layers_are_read_as_ranges() -> None:
    assert parse_layers("0-3, 7,28 - 31") == ((0, 3), (7, 7), (28, 31))


def test_different_source_bases_are_refused_unless_told(
    family: TinyFamily, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    newer = save_model(tmp_path / "f", drifted(random_state(0), 3, 0.05))
    ftt_hub.extract(family.target, newer, tmp_path / "newer")
    both = [pair[0], tmp_path / "newer"]
    with pytest.raises(IncompatibleError, match=r"different source bases.*source .*found target"):
        ftt_hub.combine(both, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = ftt_hub.combine(both, tmp_path / "out", allow_different_bases=True)
    assert any("newer comes from target" in note for note in result.notes)


@pytest.mark.parametrize("named", [True, False])
def test_vocabularies_that_contradict_each_other_are_refused(tmp_path: Path, named: bool) -> None:
    source = save_model(tmp_path / "s", random_state(0), words=WORDS if named else None)
    for name in ("one", "two"):
        words = [*WORDS, f"<{name}>"] if named else None
        state = random_state(1, rows=len(WORDS) + 1)
        tuned = save_model(tmp_path / f"f-{name}", state, config(vocab_size=97), words=words)
        ftt_hub.extract(source, tuned, tmp_path / name)
    with pytest.raises(IncompatibleError, match="changed the vocabulary in different ways"):
        ftt_hub.combine([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_shapes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    adapters = []
    for name, rows in (("one", 3), ("two", 5)):
        source = save_model(tmp_path / "s", random_state(0))
        head = {"score.weight": torch.randn(rows, 32)}
        tuned = save_model(tmp_path / f"f-{name}", {**drifted(random_state(0), 1, 0.01), **head})
        ftt_hub.extract(source, tuned, tmp_path / name)
        adapters.append(tmp_path / name)
    with pytest.raises(IncompatibleError, match=r"score\.weight: the adapters have other shapes"):
        ftt_hub.combine(adapters, tmp_path / "out")


def test_adapters_that_cancel_out_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FttError, match="the combined Δ is zero"):
        ftt_hub.combine([(pair[0], 1.0), (pair[0], -1.0)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sum_that_overflows_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="the combined Δ overflows its dtype"):
        ftt_hub.combine([(pair[0], 3e38), (pair[0], 3e38)], tmp_path / "out", dtype="float16")


def test_a_damaged_input_leaves_nothing_behind(
    family: TinyFamily, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "bad")
    path = tmp_path / "bad" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(FttError, match="does not match its hash"):
        ftt_hub.combine([pair[0], tmp_path / "bad"], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad"]


def test_an_anchored_input_needs_its_source_base(family: TinyFamily, tmp_path: Path) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "one", codec="anchored")
    with pytest.raises(
        FttError, match=r"decodes against its source base only.*source_base: source"
    ):
        ftt_hub.combine([tmp_path / "one"], tmp_path / "out")
    ftt_hub.combine([tmp_path / "one"], tmp_path / "out", source_base=family.source)
    ftt_hub.apply(tmp_path / "out", family.source, tmp_path / "back")
    weights = "model.safetensors"
    assert (tmp_path / "back" / weights).read_bytes() == (family.tuned / weights).read_bytes()


@pytest.mark.parametrize(
    ("licences", "result", "conflict"),
    [
        (["mit", "mit"], "mit", None),
        (["mit", "apache-2.0"], "apache-2.0+mit", None),
        (["mit", "cc-by-nc-4.0"], "cc-by-nc-4.0", None),
        (["llama3", "gemma"], "gemma+llama3", "hold together"),
        (["gpl-3.0", "cc-by-nc-4.0"], "cc-by-nc-4.0+gpl-3.0", "conflict"),
        (["mit", "cc-by-nc-nd-4.0"], "cc-by-nc-nd-4.0", "allows no derived works"),
        (["mit", None], None, "names no licence"),
    ],
)
def test_licences_are_combined_and_conflicts_reported(
    licences: Sequence[str | None], result: str | None, conflict: str | None
) -> None:
    found, notes = combine_licences({f"p{i}": text for i, text in enumerate(licences)})
    assert found == result
    assert [conflict in note for note in notes] == [True] * (conflict is not None)


SCORE = """
import sys
import numpy as np

def values(path):
    data = open(path, "rb").read()
    bits = np.frombuffer(data[8 + int.from_bytes(data[:8], "little"):], np.uint16)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(float)

print("scoring", sys.argv[1])
print(-np.square(values(sys.argv[1] + "/model.safetensors") - values({wanted!r})).sum())
"""


def test_a_greedy_soup_keeps_what_the_command_scores_higher(
    family: TinyFamily, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    far = save_model(tmp_path / "f", drifted(random_state(0), 8, 0.5))
    ftt_hub.extract(family.source, far, tmp_path / "far")
    near = save_model(tmp_path / "n", drifted(drifted(random_state(0), 1, 0.01), 9, 0.001))
    ftt_hub.extract(family.source, near, tmp_path / "near")
    script = tmp_path / "score.py"
    script.write_text(SCORE.format(wanted=str(family.tuned / "model.safetensors")))
    result = ftt_hub.combine(
        [tmp_path / "far", tmp_path / "near", pair[0]],
        tmp_path / "out",
        method="greedy_soup",
        parameters={"command": [sys.executable, str(script)], "score_on": str(family.source)},
    )
    assert [parent["ref"] for parent in result.parents] == ["one"]
    assert result.soup is not None
    assert len(result.soup.tried) == 5
    assert ftt_hub.verify(tmp_path / "out").combination["soup"]["trials"] == 5
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_greedy_choice_follows_the_paper() -> None:
    items = [ftt_hub.Ingredient(f"a/{n}") for n in range(4)]
    values = {"a/0": 3.0, "a/1": 5.0, "a/2": 1.0, "a/3": 4.0}
    worth = {("a/1", "a/3"): 6.0, ("a/1", "a/3", "a/0"): 5.5, ("a/1", "a/3", "a/2"): 6.0}

    def score(mix: Sequence[ftt_hub.Ingredient]) -> float:
        names = tuple(str(item.adapter) for item in mix)
        return worth[names] if len(names) > 1 else values[names[0]]

    soup = choose(items, score)
    assert [item.adapter for item in soup.ingredients] == ["a/1", "a/3", "a/2"]
    assert soup.score == 6.0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no model')", "failed with exit code 1: found no model"),
        ("print('good')", "printed no number on its last line: found 'good'"),
        ("print('nan')", "printed no number"),
        ("pass", "found nothing"),
        ("import time; time.sleep(60)", "takes too long: expected ≤ 0.5 s"),
    ],
)
def test_a_scoring_command_that_fails_is_an_error(
    family: TinyFamily, pair: tuple[Path, Path], tmp_path: Path, code: str, message: str
) -> None:
    with pytest.raises(FttError, match=message):
        ftt_hub.combine(
            list(pair),
            tmp_path / "out",
            method="greedy_soup",
            target=family.target,
            parameters={
                "command": [sys.executable, "-c", code],
                "timeout": 0.5 if "sleep" in code else 60,
            },
        )
    assert list(tmp_path.iterdir()) == []


def test_a_scoring_command_that_is_not_there_is_an_error(
    family: TinyFamily, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FttError, match="cannot be run: found No such file"):
        ftt_hub.combine(
            list(pair),
            tmp_path / "out",
            method="greedy_soup",
            target=family.target,
            parameters={"command": ["no-such-command"]},
        )
