"""Random Llama checkpoints of any size, written a tensor at a time (no copy of them in memory)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ftt_hub.checkpoint.writer import CheckpointWriter, PlannedTensor
from ftt_hub.tensors.dtypes import BF16
from ftt_hub.tensors.rounding import narrow

SIZES = {
    "tiny": {"hidden": 64, "inner": 128, "layers": 2, "heads": 4, "kv": 2, "vocab": 512},
    "19M": {"hidden": 384, "inner": 1024, "layers": 6, "heads": 6, "kv": 2, "vocab": 24576},
    "134M": {"hidden": 576, "inner": 1536, "layers": 30, "heads": 9, "kv": 3, "vocab": 49152},
    "1.1B": {"hidden": 2048, "inner": 5632, "layers": 22, "heads": 32, "kv": 4, "vocab": 32000},
}
TIED = {"tiny": True, "19M": True, "134M": True, "1.1B": False}


def shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Checkpoint names and shapes."""
    s = SIZES[size]
    hidden, inner, kv = s["hidden"], s["inner"], s["hidden"] // s["heads"] * s["kv"]
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (s["vocab"], hidden)}
    if not TIED[size]:
        result["lm_head.weight"] = (s["vocab"], hidden)
    for i in range(s["layers"]):
        prefix = f"model.layers.{i}"
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }.items():
            result[f"{prefix}.{name}.weight"] = shape
    result["model.norm.weight"] = (hidden,)
    return result


def _config(size: str) -> dict[str, object]:
    s = SIZES[size]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": s["hidden"],
        "intermediate_size": s["inner"],
        "num_hidden_layers": s["layers"],
        "num_attention_heads": s["heads"],
        "num_key_value_heads": s["kv"],
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": s["vocab"],
        "tie_word_embeddings": TIED[size],
        "torch_dtype": "bfloat16",
    }


def make(folder: Path, size: str, *, drift: float, seed: int, shard: int) -> Path:
    """M = base + drift·noise in bf16; base has σ = 0.02 and is the same for every call.

    Args:
        folder: Where to write; left alone when it is complete.
        size: A key of `SIZES`.
        drift: σ of the noise; 0 gives the source base.
        seed: Of the noise.
        shard: Bytes of a file.
    """
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    plan = [PlannedTensor(n, BF16, shape) for n, shape in shapes(size).items()]
    with CheckpointWriter(folder, plan, max_shard_size=shard) as writer:
        for number, tensor in enumerate(plan):
            base, noise = np.random.default_rng(number), np.random.default_rng((seed, number))
            for start in range(0, tensor.count, 1 << 22):
                count = min(1 << 22, tensor.count - start)
                values = base.standard_normal(count, dtype=np.float32) * np.float32(0.02)
                if drift:
                    # from the rounded base, as training starts from bf16 weights
                    values = narrow(values, BF16).astype(np.uint32) << 16
                    values = values.view(np.float32)
                    values += noise.standard_normal(count, dtype=np.float32) * np.float32(drift)
                writer.write_bits(tensor.name, start, narrow(values, BF16))
        writer.finish()
    (folder / "config.json").write_text(json.dumps(_config(size), indent=2))
    return folder


def family(cache: Path, size: str, shard: int) -> tuple[Path, Path, Path]:
    """m_s, m'_s (Δ σ = 2e-4) and m_t (drift σ = 1e-3), as in the comparison of the peers."""
    root = cache / f"synthetic-{size}"
    return (
        make(root / "source", size, drift=0.0, seed=0, shard=shard),
        make(root / "tuned", size, drift=2e-4, seed=1, shard=shard),
        make(root / "target", size, drift=1e-3, seed=2, shard=shard),
    )
