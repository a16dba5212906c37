"""Values checked against our schemas: one validator, and messages that lead to the mistake."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ftt_hub.errors import FttError
from ftt_hub.support.json_schema import violation
from ftt_hub.support.yaml_lines import read_yaml

ADAPTERS = [{"adapter": "a/b"}, {"adapter": "c/d"}]


def test_a_valid_value_breaks_nothing() -> None:
    assert violation({"adapters": ADAPTERS}, "combine_recipe") is None


@pytest.mark.parametrize(
    ("value", "keys", "rule"),
    [
        ({"adapters": ADAPTERS, "method": "best"}, ("method",), "enum"),
        ({"adapters": ADAPTERS, "parameters": {"x": 1}}, ("parameters",), "additionalProperties"),
        ({"adapters": [*ADAPTERS, {"adapter": 1}]}, ("adapters", 2, "adapter"), "type"),
        ({"adapters": ADAPTERS, "license": date(2026, 1, 1)}, (), "type"),
        ([], (), "type"),
    ],
)
def test_the_clearest_error_is_reported(value: object, keys: tuple[object, ...], rule: str) -> None:
    wrong = violation(value, "combine_recipe")
    assert wrong is not None
    assert (wrong.keys, wrong.rule) == (keys, rule)


def test_a_pattern_ends_where_the_text_ends() -> None:
    """A line break at the end is no part of a name."""
    recipe = {"bases": ["a/b"], "dataset": {"train": "t.jsonl"}}
    assert violation({**recipe, "name": "fine"}, "recycle_recipe") is None
    wrong = violation({**recipe, "name": "fine\n"}, "recycle_recipe")
    assert wrong is not None
    assert wrong.keys == ("name",)


def test_of_alternatives_the_one_that_was_meant_is_explained() -> None:
    recipe = {"bases": ["a/b"], "dataset": {"train": "t.jsonl"}, "variant": ["direct", "itrative"]}
    wrong = violation(recipe, "recycle_recipe")
    assert wrong is not None
    assert (wrong.keys, wrong.rule) == (("variant", 1), "enum")
    assert "direct" in wrong.allowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("license: 2026-01-01\n", "line 1: a date cannot be used here: found 2026-01-01"),
        ("1: x\n", "unknown key '1'"),
    ],
)
def test_what_yaml_has_and_json_has_not_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(FttError, match=message):
        read_yaml(path, "combine_recipe", FttError)
