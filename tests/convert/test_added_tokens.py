"""A PEFT adapter is consumed whole: added tokens, saved modules, and keys that find no place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import (
    HIDDEN,
    WORDS,
    TinyFamily,
    config,
    load_state,
    random_state,
    same_bits,
    save_model,
    tokenizer,
)
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ftt_hub
from ftt_hub.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's notes on training

ADDED = [*WORDS, "<a>", "<b>"]


def trained(base: Path, out: Path, *, save_embeddings: Any = "auto", **settings: Any) -> Path:
    """A LoRA trained after two tokens were added, its tokenizer beside it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.resize_token_embeddings(len(ADDED), mean_resizing=False)
    adapted = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.02 * noise.to(parameter.dtype))
    adapted.save_pretrained(out, save_embedding_layers=save_embeddings)
    for name, data in tokenizer(ADDED).items():
        (out / name).write_bytes(data)
    return out


def merged(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What PEFT makes of it, as its documentation says: resize, load, merge."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.resize_token_embeddings(len(ADDED), mean_resizing=False)
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())


RECIPES: dict[str, dict[str, Any]] = {
    "embeddings saved": {"target_modules": ["q_proj"], "save_embeddings": True},
    "modules to save": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "low rank on the embeddings": {
        "target_modules": ["q_proj", "embed_tokens", "lm_head"],
        "save_embeddings": True,
    },
    "only the added rows trained": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [len(WORDS), len(WORDS) + 1]},
        "save_embeddings": True,
    },
}


@pytest.mark.parametrize("codec", ["exact", "factored"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_lora_with_added_tokens_is_what_peft_merges(
    recipe: str, codec: str, tmp_path: Path
) -> None:
    base = save_model(
        tmp_path / "base", random_state(0, tied=False), config(tie_word_embeddings=False)
    )
    lora = trained(base, tmp_path / "lora", **RECIPES[recipe])
    ftt_hub.extract(base, lora, tmp_path / "adapter", codec=codec)
    ftt_hub.apply(tmp_path / "adapter", base, tmp_path / "out")
    result, wanted = load_state(tmp_path / "out"), merged(base, lora)
    assert result.keys() == wanted.keys()
    assert result["model.embed_tokens.weight"].shape == (len(ADDED), HIDDEN)
    for name, value in wanted.items():
        exact = codec == "exact" or value.ndim < 2
        same = (
            same_bits(result[name], value)
            if exact
            else torch.allclose(result[name].float(), value.float(), rtol=2e-2, atol=2e-3)
        )
        assert same, name
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert loaded.config.vocab_size == len(ADDED)


def test_tied_embeddings_of_a_lora_stay_tied(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", random_state(0))
    lora = trained(base, tmp_path / "lora", target_modules=["q_proj"], save_embeddings=True)
    ftt_hub.extract(base, lora, tmp_path / "adapter")
    ftt_hub.apply(tmp_path / "adapter", base, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    for name, value in merged(base, lora).items():
        assert same_bits(loaded[name], value), name


def test_a_lora_that_lacks_the_resized_embeddings_says_how_to_save_them(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", random_state(0))
    targets = ["q_proj", "embed_tokens"]
    lora = trained(base, tmp_path / "lora", target_modules=targets, save_embeddings=False)
    with pytest.raises(CheckpointError, match="save_embedding_layers=True"):
        ftt_hub.extract(base, lora, tmp_path / "adapter")


Tensors = dict[str, torch.Tensor]
BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "another prefix": (
        lambda w: {k.replace("layers.1", "language_model.layers.1"): v for k, v in w.items()},
        r"2 tensors of the adapter have no counterpart.*language_model\.layers\.1",
    ),
    "more layers": (
        lambda w: {**w, **{k.replace("layers.1", "layers.7"): v.clone() for k, v in w.items()}},
        r"2 tensors of the adapter have no counterpart.*layers\.7",
    ),
    "half a pair": (
        lambda w: {k: v for k, v in w.items() if "layers.1" not in k or "lora_B" not in k},
        r"1 tensors of the adapter are missing.*layers\.1\.self_attn\.q_proj\.lora_B",
    ),
    "a module that is no parameter": (
        lambda w: {**w, "base_model.model.extra.weight": torch.ones(2)},
        r"1 tensors of the adapter have no counterpart.*extra\.weight",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tensors_that_reach_no_weight_are_listed(
    case: str, family: TinyFamily, tmp_path: Path
) -> None:
    change, message = BROKEN[case]
    model = AutoModelForCausalLM.from_pretrained(family.source, dtype=torch.bfloat16)
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "l"
    )
    path = tmp_path / "l" / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(CheckpointError, match=message):
        ftt_hub.extract(family.source, tmp_path / "l", tmp_path / "adapter")


def test_a_lora_beside_a_config_is_taken_for_a_lora(family: TinyFamily, tmp_path: Path) -> None:
    lora = trained(family.source, tmp_path / "lora", target_modules=["q_proj"])
    (lora / "config.json").write_bytes((family.source / "config.json").read_bytes())
    adapter = ftt_hub.extract(family.source, lora, tmp_path / "adapter")
    assert adapter.config.extra["x-peft"]["peft_type"] == "LORA"
