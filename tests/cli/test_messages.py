"""Refusals name the true reason and a next step that works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from models import TinyFamily, config, load_state, save_model

import ftt_hub
from ftt_hub.combining.recipe import read_recipe
from ftt_hub.errors import FttError, UnsupportedError
from ftt_hub.extraction.manifest import Provenance


def test_a_lora_where_a_transfer_adapter_belongs(family: TinyFamily, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    with pytest.raises(UnsupportedError, match=r"is a PEFT adapter.*LORA.*from-peft"):
        ftt_hub.apply(tmp_path, family.target, tmp_path / "out")


def test_a_transfer_adapter_where_a_model_belongs(family: TinyFamily, tmp_path: Path) -> None:
    ftt_hub.extract(family.source, family.tuned, tmp_path / "a")
    with pytest.raises(FttError, match=r"found a transfer adapter.*ftt-hub apply"):
        ftt_hub.apply(tmp_path / "a", tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("tag", ["zh_Hans", "", "t r", "tr\n"])
def test_a_language_tag_that_is_none(tag: str) -> None:
    with pytest.raises(FttError, match=r"not a BCP-47 language tag.*zh-Hans"):
        Provenance(languages=[tag])


@pytest.mark.parametrize("number", ["5e-1", "0.5", "5E-1", ".5e0"])
def test_a_weight_in_any_notation_of_numbers(number: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"method: linear\nadapters:\n  - adapter: a\n    weight: {number}\n")
    assert read_recipe(path).ingredients[0].weight == 0.5


def test_labels_of_a_nested_config_are_not_recorded(family: TinyFamily, tmp_path: Path) -> None:
    labels = {str(i): f"the label of class number {i}" for i in range(4000)}
    nested = config(vision_config={"id2label": labels, "size": 3})
    source = save_model(tmp_path / "s", load_state(family.source), nested)
    adapter = ftt_hub.extract(source, family.tuned, tmp_path / "a")
    assert adapter.config.source_base.config["vision_config"] == {"size": 3}


def test_a_base_without_a_model_type(family: TinyFamily, tmp_path: Path) -> None:
    value = config()
    del value["model_type"]
    source = save_model(tmp_path / "s", load_state(family.source), value)
    with pytest.raises(FttError, match=r"expected a model_type in .*config\.json"):
        ftt_hub.extract(source, family.tuned, tmp_path / "a")
    assert json.loads((source / "config.json").read_text()) == value
