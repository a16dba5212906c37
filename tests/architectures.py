"""Tiny random models of many architectures, saved by transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from models import drifted, load_state, save_model

_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 96,
    "max_position_embeddings": 64,
}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}


def _llama() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**_DECODER, tie_word_embeddings=False)
    )


def _tied_llama() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**_DECODER, tie_word_embeddings=True)
    )


def _mixtral() -> Any:
    return transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**_DECODER, num_local_experts=4, num_experts_per_tok=2)
    )


def _qwen3_moe() -> Any:
    return transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(
            **_DECODER, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8
        )
    )


def _bert() -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**_SMALL))


def _t5() -> Any:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=96,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            eos_token_id=1,
            pad_token_id=0,
        )
    )


def _llava() -> Any:
    vision = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
    )
    text = transformers.LlamaConfig(**_DECODER)
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=95)
    )


ARCHITECTURES: dict[str, tuple[Callable[[], Any], str]] = {
    "llama": (_llama, "AutoModelForCausalLM"),
    "tied-llama": (_tied_llama, "AutoModelForCausalLM"),
    "mixtral": (_mixtral, "AutoModelForCausalLM"),
    "qwen3-moe": (_qwen3_moe, "AutoModelForCausalLM"),
    "bert": (_bert, "AutoModelForSequenceClassification"),
    "t5": (_t5, "AutoModelForSeq2SeqLM"),
    "llava": (_llava, "AutoModelForImageTextToText"),
}


def build(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Source base, fine-tuned model and target of an architecture, in bfloat16 checkpoints."""
    torch.manual_seed(7)
    model = ARCHITECTURES[name][0]().to(torch.bfloat16)
    source = folder / "source"
    model.save_pretrained(source)
    state = {
        key: t.float() if t.is_floating_point() else t for key, t in load_state(source).items()
    }
    config = transformers.AutoConfig.from_pretrained(source).to_dict()
    config["architectures"] = [type(model).__name__]
    made = []
    for label, seed, size in (("tuned", 1, 0.01), ("target", 2, 0.05)):
        moved = drifted({k: t for k, t in state.items() if t.is_floating_point()}, seed, size)
        made.append(save_model(folder / label, {**state, **moved}, config, words=None))
        generation = source / "generation_config.json"
        if generation.is_file():
            (folder / label / generation.name).write_bytes(generation.read_bytes())
    return source, made[0], made[1]
