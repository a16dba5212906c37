"""Values that the rules cannot guess: constraints between fields, missing defaults."""

from __future__ import annotations

from typing import Any

_DENSE = {"head_dim": 8}
_ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ASSISTANT = {"num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 2}
_GEMMA3N = {
    "num_kv_shared_layers": 0,
    "intermediate_size": [64, 64],
    "layer_types": ["sliding_attention", "full_attention"],
}
_ZAMBA = {
    "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    "num_hidden_layers": 3,
}
_EMU = {"<|extra_200|>": 70, "<image>": 71}
_VIBE = {"num_filters": 2, "depths": [1] * 7, "hidden_size": 16}
_SPARK = {"num_hidden_layers": 4}
_CTC = {"vocab_size": 96}
_PREFIX = "text_config."


def _inside(values: dict[str, Any], prefix: str = _PREFIX) -> dict[str, Any]:
    return {prefix + key: value for key, value in values.items()}


OVERRIDES: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_size": [3, 4]},
    "chameleon": {"vocabulary_map": {"<image>": 70}},
    "cohere_compass": {"text_config.rope_parameters": _ROPE},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "cosmos3_edge": {"text_config.rope_parameters": _MROPE | {"mrope_section": [2, 1, 1]}},
    "cvt": {"depth": [1, 2, 3]},
    "dbrx": {"attn_config.rope_theta": 10000.0},
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", "sparse"]},
    "diffusion_gemma": {"text_config.moe_intermediate_size": 16, "text_config.num_experts": 4},
    "donut-swin": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "dots3_note": {"text_config.num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "efficientnet": {"width_coefficient": 0.25, "hidden_dim": 32},
    "emu3": {"vocabulary_map": _EMU, "vq_config.channel_multiplier": [1, 1]},
    "ernie4_5_vl_moe": {"text_config.rope_parameters": _MROPE | {"mrope_section": [1, 1, 2]}},
    "esm": _CTC,
    "falcon_h1": {"mamba_d_ssm": 64},
    "focalnet": {"embed_dim": 8},
    "fun_asr_nano": {"adaptor_config.intermediate_size": 8},
    "gemma3n": _inside(_GEMMA3N),
    "gemma3n_text": _GEMMA3N,
    "gemma4_assistant": {"text_config.num_kv_shared_layers": 2},
    "gemma4_unified_assistant": _inside(_ASSISTANT),
    "glm5_next": {"text_config.num_key_value_heads": 4, "text_config.index_kpool": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite4_vision": {
        "deepstack_layer_map": [[0, 0]],
        "vision_config.hidden_size": 64,
        "downsample_rate": "1/2",
    },
    "hiera": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
    "hunyuan_v1_dense": _DENSE,
    "hunyuan_v1_moe": _DENSE,
    "hunyuan_vl": {"text_config.head_dim": 8},
    "inkling_mm_model": {"vision_config.patch_size": 4},
    "janus": {"vq_config.channel_multiplier": [1, 1], "vq_config.num_res_blocks": 1},
    "kimi_linear": {"num_experts": 4},
    "kolibri1": {"num_experts": 4},
    "kyutai_speech_to_text": {"codec_config.num_filters": 2, "codec_config.upsample_groups": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "masked/reformer": {"is_decoder": False},
    "ministral": _DENSE,
    "mobilebert": {"intra_bottleneck_size": 32, "true_hidden_size": 32, "embedding_size": 32},
    "mobilenet_v1": {"depth_multiplier": 0.1, "min_depth": 4},
    "mobilenet_v2": {"depth_multiplier": 0.1, "min_depth": 4},
    "mobilevitv2": {"width_multiplier": 0.25},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "muse_spark": _inside(_SPARK, "audio_config."),
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h_omni": {"vision_config.video_temporal_patch_size": 2},
    "neomme": {"head_dim": 32},
    "perceiver": {"d_latents": 32, "d_model": 32},
    "pp_lcnet": {"scale": 0.25},
    "qwen3_moe": {"num_experts": 4},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "squeezebert": {"embedding_size": 32, "intermediate_groups": 1, "output_groups": 1},
    "swin": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
    "swinv2": {"embed_dim": 8, "num_heads": [1, 1, 2, 2]},
    "udop": {"relative_attention_num_buckets": 32},
    "vibevoice": _inside(_VIBE, "audio_config.") | _inside(_VIBE, "semantic_model_config."),
    "vibevoice_asr": _inside(_VIBE, "acoustic_tokenizer_encoder_config.")
    | _inside(_VIBE, "semantic_tokenizer_encoder_config."),
    "wav2vec2-bert": _CTC,
    "wav2vec2-conformer": _CTC,
    "zamba": _ZAMBA,
    "zamba2": _ZAMBA,
}

# What the class needs before a default instance exists at all.
_DECODER = {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}
INITIAL: dict[str, dict[str, Any]] = {
    "encoder-decoder": {"encoder": {"model_type": "bert"}, "decoder": _DECODER},
    "speech-encoder-decoder": {"encoder": {"model_type": "wav2vec2"}, "decoder": _DECODER},
    "vision-encoder-decoder": {"encoder": {"model_type": "vit"}, "decoder": _DECODER},
    "gemma4_assistant": {
        "text_config": {
            "model_type": "gemma4_text",
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
        }
    },
}
