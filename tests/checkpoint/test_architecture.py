"""What the model class says: ties, vocabulary, buffers, defaults; kept on disk and validated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from models import config

from ftt_hub.checkpoint import facts, inspections
from ftt_hub.checkpoint.architecture import Architecture, architecture_of
from ftt_hub.checkpoint.meta_model import meta_model


def described(kind: str, model_class: str, **changes: Any) -> Architecture:
    value = getattr(transformers, kind)(**changes).to_dict()
    found = architecture_of({**value, "architectures": [model_class]})
    assert found is not None
    return found


HEADS = {
    "BertForMaskedLM": ("cls.predictions.decoder.weight", "cls.predictions.bias"),
    "DistilBertForMaskedLM": ("vocab_projector.weight", "vocab_projector.bias"),
    "ElectraForMaskedLM": ("generator_lm_head.weight", "generator_lm_head.bias"),
    "XLMWithLMHeadModel": ("pred_layer.proj.weight", "pred_layer.proj.bias"),
    "WhisperForConditionalGeneration": ("proj_out.weight",),
    "GPT2LMHeadModel": ("lm_head.weight",),
}


@pytest.mark.parametrize("model_class", HEADS)
def test_heads_of_any_name_and_their_biases_are_vocabulary(model_class: str) -> None:
    kind = getattr(transformers, model_class).config_class.__name__
    found = described(kind, model_class)
    assert all(found.vocabulary[name] == 0 for name in HEADS[model_class])
    assert found.tied[HEADS[model_class][0]] in found.vocabulary
    layers = [
        name
        for name in found.vocabulary
        if "layers." in name or "layer." in name.replace("pred_layer.", "")
    ]
    assert layers == []


def test_a_bias_of_shape_one_by_vocabulary_has_its_tokens_on_the_second_axis() -> None:
    found = described("BartConfig", "BartForConditionalGeneration")
    assert found.vocabulary["final_logits_bias"] == 1


def test_ties_are_known_whether_the_config_uses_them_or_not() -> None:
    for tied in (True, False):
        found = described("LlamaConfig", "LlamaForCausalLM", tie_word_embeddings=tied)
        assert found.ties == {"lm_head.weight": "model.embed_tokens.weight"}
        assert found.tied == (found.ties if tied else {})


def test_the_class_follows_the_type_of_the_config_where_architectures_names_another() -> None:
    found = architecture_of({"model_type": "gemma3", "architectures": ["LlamaForCausalLM"]})
    assert found is not None
    assert found.model_class == "Gemma3ForConditionalGeneration"


@pytest.mark.parametrize(
    "value",
    [
        {"model_type": "nobody-knows"},
        {"model_type": 7},
        {},
        {"model_type": "llama", "num_hidden_layers": 10**9},
        {"model_type": "llama", "hidden_size": "wide"},
    ],
)
def test_a_config_that_cannot_be_built_is_unknown_and_no_error(value: dict[str, Any]) -> None:
    assert meta_model(value) is None
    assert architecture_of(value) is None


def test_stored_names_are_those_of_the_facts() -> None:
    stored = ["language_model.model.embed_tokens.weight", "language_model.model.norm.weight", "x"]
    found = facts.derive({"model_type": "gemma3", "text_config": {"hidden_size": 32}}, stored)
    assert found is not None
    assert found.facts.ties == {"lm_head.weight": stored[0]}
    assert found.facts.vocabulary[stored[0]] == 0
    assert found.unknown == {"x"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(inspections, "cache_folder", lambda kind: tmp_path / kind)
    return tmp_path / "architectures"


def test_what_was_found_is_read_back_and_never_trusted_when_damaged(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    first = facts.inspect(config(), names)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    monkeypatch.setattr(facts, "derive", lambda config, names: None)
    assert facts.inspect(config(), names) == first
    for bad in (b"", b"[]", good[:-2], json.dumps({**json.loads(good), "facts": 7}).encode()):
        file.write_bytes(bad)
        assert facts.inspect(config(), names) is None


def test_another_process_finds_the_same() -> None:
    names = ["model.embed_tokens.weight", "model.norm.weight", "ids"]
    here = facts.derive(config(), names)
    question = json.dumps({"config": config(), "names": names})
    command = [sys.executable, "-W", "ignore", "-m", "ftt_hub.checkpoint.facts"]
    done = subprocess.run(command, input=question, capture_output=True, text=True, check=True)
    assert here is not None
    assert json.loads(done.stdout) == here.to_json()
