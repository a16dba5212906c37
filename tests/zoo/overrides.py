"""Values that the rules cannot guess, by model type: constraints between fields, missing defaults."""

from __future__ import annotations

from typing import Any

_DENSE = {"head_dim": 8}
_ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
_GEMMA4 = {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8}
_GEMMA3N = {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"]}
_ZAMBA = {"layers_block_type": ["linear_attention", "hybrid"]}
_CTC = {"vocab_size": 96}
_PREFIX = "text_config."


def _inside(values: dict[str, Any], prefix: str = _PREFIX) -> dict[str, Any]:
    return {prefix + key: value for key, value in values.items()}


OVERRIDES: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_size": [3, 4]},
    "chameleon": {"vocabulary_map": {"<image>": 70}},
    "cohere_compass": {"text_config.rope_parameters": _ROPE},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "dbrx": {"attn_config.rope_theta": 10000.0},
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", "sparse"]},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "efficientnet": {"width_coefficient": 0.25, "hidden_dim": 32},
    "emu3": {"vocabulary_map": {"<|extra_200|>": 70, "<image>": 71}},
    "esm": _CTC,
    "falcon_h1": {"mamba_d_ssm": 64},
    "focalnet": {"embed_dim": 8},
    "fun_asr_nano": {"adaptor_config.intermediate_size": 8},
    "gemma3n": _inside(_GEMMA3N),
    "gemma3n_text": _GEMMA3N,
    "gemma4_assistant": _inside(_GEMMA4 | {"hidden_size_per_layer_input": 0}),
    "gemma4_unified_assistant": _inside(_GEMMA4 | {"hidden_size_per_layer_input": 0}),
    "glm5_next": {"text_config.num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "spatial_target_layers": [0, 1]},
    "hiera": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
    "hunyuan_v1_dense": _DENSE,
    "hunyuan_v1_moe": _DENSE,
    "hunyuan_vl": {"text_config.head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "ministral": _DENSE,
    "mobilebert": {"intra_bottleneck_size": 32, "true_hidden_size": 32, "embedding_size": 32},
    "mobilenet_v1": {"depth_multiplier": 0.1, "min_depth": 4},
    "mobilenet_v2": {"depth_multiplier": 0.1, "min_depth": 4},
    "mobilevitv2": {"width_multiplier": 0.25},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h_omni": {"vision_config.video_temporal_patch_size": 2},
    "pp_lcnet": {"scale": 0.25},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "wav2vec2-bert": _CTC,
    "wav2vec2-conformer": _CTC,
    "zamba": _ZAMBA,
    "zamba2": _ZAMBA,
}
