"""Tiny random models whose checkpoints are spelled otherwise than their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

State = dict[str, torch.Tensor]

_SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"moe_intermediate_size": 8, "num_experts_per_tok": 2, "n_routed_experts": 4}
_VISION = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4,
           "mlp_ratio": 2, "in_channels": 3}  # fmt: skip

CONFIGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "mixtral": (
        "MixtralForCausalLM",
        lambda: transformers.MixtralConfig(**_SMALL, num_local_experts=4),
    ),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        lambda: transformers.Qwen3MoeConfig(**_SMALL, num_experts=4, moe_intermediate_size=8,
                                            head_dim=4),
    ),
    "olmoe": ("OlmoeForCausalLM", lambda: transformers.OlmoeConfig(**_SMALL, num_experts=4)),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        lambda: transformers.DeepseekV3Config(
            **_SMALL, **_EXPERTS, n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=8,
            kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=4,
        ),
    ),
    "glm4_moe": (
        "Glm4MoeForCausalLM",
        lambda: transformers.Glm4MoeConfig(**_SMALL, **_EXPERTS, first_k_dense_replace=1,
                                           n_group=1, topk_group=1, head_dim=4),
    ),
    "granitemoe": (
        "GraniteMoeForCausalLM",
        lambda: transformers.GraniteMoeConfig(**_SMALL, num_local_experts=4),
    ),
    "phimoe": (
        "PhimoeForCausalLM",
        lambda: transformers.PhimoeConfig(**_SMALL, num_local_experts=4),
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        lambda: transformers.GPTNeoXConfig(
            **{k: v for k, v in _SMALL.items() if k != "num_key_value_heads"}
        ),
    ),
    "qwen2_vl": (
        "Qwen2VLForConditionalGeneration",
        lambda: transformers.Qwen2VLConfig(
            text_config={**_SMALL, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 0],
                                                    "rope_type": "default"}},
            vision_config={**_VISION, "spatial_merge_size": 2, "temporal_patch_size": 2},
            tie_word_embeddings=False, image_token_id=30, video_token_id=31,
            vision_start_token_id=32, vision_end_token_id=33,
        ),
    ),
}  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    """A tiny model whose values are all different."""
    class_name, config = CONFIGS[name]
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(config()).to(dtype).eval()
    model.config.architectures = [class_name]
    return model


def original(model: Any) -> State:
    """The checkpoint that `save_pretrained` writes of a model."""
    return dict(revert_weight_conversion(model, dict(model.state_dict())))
