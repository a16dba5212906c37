"""Tiny checkpoints with the structure of real ones: Llama names, bf16, tokenizer, shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HIDDEN, INNER, LAYERS, HEADS = 32, 64, 2, 4
WORDS = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(93))]
State = dict[str, torch.Tensor]


def config(**changes: Any) -> dict[str, Any]:
    """A small Llama config."""
    value = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": len(WORDS),
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    value.update(changes)
    return value


def tokenizer(words: list[str], *, template: str | None = None) -> dict[str, bytes]:
    """Files of a word-level tokenizer."""
    value = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": i,
                "content": w,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for i, w in enumerate(words[:3])
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "truncation": None,
        "padding": None,
        "model": {
            "type": "WordLevel",
            "vocab": {w: i for i, w in enumerate(words)},
            "unk_token": "<unk>",
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    files = {
        "tokenizer.json": json.dumps(value).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }
    if template is not None:
        files["chat_template.jinja"] = template.encode()
    return files


def random_state(seed: int, *, rows: int = len(WORDS), tied: bool = True) -> State:
    """Random weights in fp32 under a Llama checkpoint's names."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.05

    state = {"model.embed_tokens.weight": normal(rows, HIDDEN)}
    kv = HIDDEN // HEADS * 2
    for i in range(LAYERS):
        prefix = f"model.layers.{i}"
        state[f"{prefix}.self_attn.q_proj.weight"] = normal(HIDDEN, HIDDEN)
        state[f"{prefix}.self_attn.k_proj.weight"] = normal(kv, HIDDEN)
        state[f"{prefix}.self_attn.v_proj.weight"] = normal(kv, HIDDEN)
        state[f"{prefix}.self_attn.o_proj.weight"] = normal(HIDDEN, HIDDEN)
        state[f"{prefix}.mlp.gate_proj.weight"] = normal(INNER, HIDDEN)
        state[f"{prefix}.mlp.up_proj.weight"] = normal(INNER, HIDDEN)
        state[f"{prefix}.mlp.down_proj.weight"] = normal(HIDDEN, INNER)
        state[f"{prefix}.input_layernorm.weight"] = 1 + normal(HIDDEN)
        state[f"{prefix}.post_attention_layernorm.weight"] = 1 + normal(HIDDEN)
    state["model.norm.weight"] = 1 + normal(HIDDEN)
    if not tied:
        state["lm_head.weight"] = normal(rows, HIDDEN)
    return state


def drifted(state: State, seed: int, size: float) -> State:
    """The state plus noise of a relative size, tensor by tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t + size * t.std() * torch.randn(t.shape, generator=generator)
        for name, t in state.items()
    }


def save_model(
    folder: Path,
    state: State,
    model_config: dict[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
    words: list[str] | None = WORDS,
    template: str | None = None,
) -> Path:
    """Write a checkpoint folder, sharded if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    cast = {n: (t.to(dtype) if t.is_floating_point() else t) for n, t in state.items()}
    names = sorted(cast)
    if shards == 1:
        save_file(cast, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            part = names[i::shards]
            save_file({n: cast[n] for n in part}, folder / file, metadata={"format": "pt"})
            weight_map.update(dict.fromkeys(part, file))
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(model_config or config(), indent=2))
    if words is not None:
        for name, data in tokenizer(words, template=template).items():
            (folder / name).write_bytes(data)
    return folder


def load_state(folder: Path) -> State:
    """All tensors of a checkpoint folder."""
    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    a, b = (t.contiguous().view(-1).view(torch.uint8).numpy() for t in (first, second))
    return bool(np.array_equal(a, b))


@dataclass(frozen=True)
class TinyFamily:
    """Folders of a source base, a fine-tuned model, a newer base, and a stranger."""

    root: Path
    source: Path
    tuned: Path
    target: Path
    stranger: Path


def make_family(root: Path, **options: Any) -> TinyFamily:
    """A family: m_s, m'_s = m_s + small change, m_t = m_s + drift, and an unrelated model."""
    source = random_state(0)
    return TinyFamily(
        root,
        save_model(root / "source", source, **options),
        save_model(root / "tuned", drifted(source, 1, 0.01), **options),
        save_model(root / "target", drifted(source, 2, 0.05), **options),
        save_model(root / "stranger", random_state(99), **options),
    )
