"""Small configs from large ones: every size of a config class made tiny, by the field's name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedConfig

Value = Any
VOCABULARY = 96
SPECIAL_IDS = 64  # ids of image, audio and other marks start here

# The first pattern that a field's name contains decides; an int or each int of a list is given.
RULES: list[tuple[str, Callable[[int], int]]] = [
    (r"^num_labels$|^id2label", lambda n: n),
    (r"(^|_)(in|num|image|input)_channels$|frame|temporal", lambda n: n),
    (r"codebook_size$|num_image_embeddings|num_embeddings$", lambda _: 64),
    (
        r"layers?(_per_.*)?$|^n_layer|depths?$|num_blocks|stage_num|blocks$|res_blocks|repeats$",
        lambda n: min(n, 2),
    ),
    (r"type_vocab_size$", lambda n: min(n, 16)),
    (r"vocab_size|group_vocab$|codebook_size$|size_base$", lambda _: VOCABULARY),
    (r"mrope_section", lambda n: 1 if n < 24 else 2),
    (r"offset$", lambda n: min(n, 1)),
    (r"period$", lambda n: min(n, 2)),
    (r"sr_ratios|reduction_ratios", lambda n: min(n, 2)),
    (r"^reduction|ratio_", lambda n: n),
    (r"theta|factor|^seed$|rms|eps|sampling_rate|_index_|label", lambda n: n),
    (r"experts_per_tok|expert_top|top_?k|moe_k$", lambda n: min(n, 2)),
    (r"topk_group|^n_group$|expert_group|num_expert_group", lambda _: 1),
    (r"shared_expert(s)?$|zero_expert_num", lambda n: min(n, 1)),
    (r"expert.*(size|dim)|moe.*(size|dim)", lambda _: 16),
    (r"experts$", lambda _: 4),
    (r"embedding_groups|^num_groups$|(^|_)n_groups$|mamba_ngroups", lambda n: min(n, 2)),
    (r"conv_pos_embeddings$", lambda n: min(n, 16)),
    (r"pos.*emb.*(height|width)|posemb_grid", lambda n: min(n, 4)),
    (
        r"max_.*pos|n_positions|max_seq|n_ctx|position_embedding(s|_size)$|context_length|"
        r"max_.*embeddings|max_(rel|pos)",
        lambda n: min(n, 64),
    ),
    (r"mamba_(n|num)_heads", lambda _: 8),
    (r"key_?value_heads|kv_heads|key_heads|query_groups", lambda n: min(n, 2)),
    (r"attention_heads_per_layer|heads$|n_head$", lambda n: 4 if n > 3 else min(n, 2)),
    (r"head_?dim|d_kv$|d_head$|dim_head|kv_channels|head_size|key_dim", lambda _: 8),
    (r"lora_?rank|lowrank|_rank$|codebook_dim|^d_rel", lambda _: 16),
    (r"mlp_ratio|expand|expansion|mult", lambda n: min(n, 2)),
    (r"intermediate|inner|ffn|d_ff|dff|dim_ff|feed_?forward|mlp_dim|(^|_)ff_", lambda _: 64),
    (
        r"hidden|d_model|embd|embed_dim|emb_dim|embedding_dim|embedding_size|^dim$|width|"
        r"proj.*dim|proj.*size|pooler|output_dim|emb_size|latent.*size|out_channels|"
        r"cross_hidden|_size_mlp|channels|embed_dims|embeds?_size|dim$",
        lambda _: 32,
    ),
    (r"state_size|d_state", lambda _: 8),
    (r"image_size|img_size|input_size|resolution|crop", lambda _: 32),
    (r"patch_size|patch_dim", lambda n: min(n, 8)),
    (
        r"num_patches|image_tokens|mm_tokens|latents|query_(tokens|num)|seq_length",
        lambda n: min(n, 4),
    ),
    (r"mel_bins|feat_per_channel|input_dim", lambda n: min(n, 16)),
    (r"window|attn_chunk|local_radius|block_size|context_size", lambda n: min(n, 8)),
    (r"buckets|num_codevectors|max_distance|num_hash|pos_bins", lambda n: min(n, 16)),
]


def _small(name: str, value: int) -> int:
    for pattern, rule in RULES:
        if re.search(pattern, name):
            return rule(value)
    return value


_IDS = {"bos": 1, "eos": 2, "pad": 0, "decoder_start": 1, "sep": 2, "cls": 1, "mask": 3, "unk": 0}
_IS_ID = re.compile(r"(_|^)(token_)?(id|index|ids)$")
_LAYER_NUMBERS = re.compile(
    r"index(es)?$|indices$|layer_ids$|target_layers$|feature_layers?$|idxs$|attention_layers$|"
    r"mlp_only_layers|no_rope_layers$|subsample_layers|moe_layers|source_layers|scaling_layers"
)
_LEFT = re.compile(
    r"^(out_features|out_indices|stage_names|_out.*|id2label|label2id|architectures)$"
)


def _small_id(name: str, value: int, used: list[str]) -> int:
    for word, number in _IDS.items():
        if name.startswith((word, f"forced_{word}")):
            return number
    if name not in used:
        used.append(name)
    return min(value, SPECIAL_IDS + used.index(name) % 32)


def _small_list(name: str, value: list[Any], layers: int) -> list[Any]:
    flat = all(isinstance(item, int | float | str) for item in value)
    if len(value) == layers and layers > 4:
        first = value[0]
        value = [first, next((item for item in value if item != first), first)]
        if not all(isinstance(i, str | bool) for i in value) and _LAYER_NUMBERS.search(name):
            return [int(bool(i)) for i in value] if "no_rope" in name else [0, 1]
        return value
    if _LAYER_NUMBERS.search(name) and flat:
        return [0, 1][: len(value)]
    return [
        _small(name, item)
        if type(item) is int
        else type(item)(_small_list(name, list(item), 0))
        if isinstance(item, list | tuple)
        else item
        for item in value
    ]


def _smaller(name: str, value: Any, used: list[str], layers: int) -> Any:
    if _LEFT.search(name) or isinstance(value, bool | str | float) or value is None:
        return value
    if isinstance(value, int):
        if _IS_ID.search(name):
            return _small_id(name, value, used)
        return _small(name, value) if value > 1 else value
    if isinstance(value, dict):
        return {key: _smaller(str(key), item, used, 0) for key, item in value.items()}
    if isinstance(value, list | tuple) and value:
        if _IS_ID.search(name) and all(isinstance(i, int) for i in value) and "layer" not in name:
            return [_small_id(f"{name}{i}", v, used) for i, v in enumerate(value)]
        small = _small_list(name, list(value), layers)
        return small if isinstance(value, list) else tuple(small)
    return value


_AS_DICTS = ("encoder", "decoder")  # as older encoder-decoder configs insist on


def _layer_count(config: PreTrainedConfig) -> int:
    for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"):
        value = vars(config).get(name)
        if type(value) is int:
            return value
    return 0


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _is_size(value: Any) -> bool:
    return type(value) is int


def shrunk(
    config: PreTrainedConfig, changes: Mapping[str, Any], used: list[str]
) -> PreTrainedConfig:
    """A tiny config of the same class.

    Args:
        config: Any config; left as it is.
        changes: Values that win over the rules, by dotted path (``text_config.hidden_size``).
        used: Names of the special token ids so far; grows.
    """
    kind, layers = type(config), _layer_count(config)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = {key: value for key, value in changes.items() if "." not in key}
    values, derived = {}, {}
    for name in {**fields, **dict.fromkeys(kind.sub_configs)}:
        value = vars(config).get(name)
        if isinstance(value, PreTrainedConfig):
            inner = {k.split(".", 1)[1]: v for k, v in changes.items() if k.startswith(f"{name}.")}
            small_one = shrunk(value, inner, used)
            values[name] = small_one.to_dict() if name in _AS_DICTS else small_one
            continue
        small = _smaller(name, value, used, layers)
        default = _default(fields[name]) if name in fields else value
        if default is None and small != value:
            derived[name] = small
        elif default is not None and small != default and (small != value or _is_size(value)):
            values[name] = small
    small_config = kind(**{**values, **own})
    too_large = {
        name: value
        for name, value in derived.items()
        if name not in own and vars(small_config).get(name) == vars(config)[name]
    }
    return kind(**{**values, **too_large, **own}) if too_large else small_config
