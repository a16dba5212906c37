"""Compatibility from headers alone: architecture, tensors, config, licence and cost.

Each check returns findings; nothing here reads a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ftt_hub.artifact.index import ADDED, DELTA, RESIZED, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.artifact.reader import weight_dtype
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.transfer.ties import Ties

STRUCTURAL = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "num_experts_per_tok",
    "layer_types",
)
"""Config keys that change the function without changing any tensor's shape."""

ROPE = ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")

IGNORED = frozenset(
    (
        "_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures",
        "use_cache", "auto_map", "id2label", "label2id", "vocab_size", "tie_word_embeddings",
        "bos_token_id", "eos_token_id", "pad_token_id", "num_hidden_layers", "model_type",
        "_attn_implementation", "initializer_range", "problem_type", "num_labels",
    )
)  # fmt: skip

_NOT_RECORDED = ("auto_map", "id2label", "label2id", "_name_or_path", "transformers_version")

Config = Mapping[str, Any]


def snapshot(config: Config) -> dict[str, Any]:
    """What an adapter records of a model config: all but code references and label maps.

    Nested configs lose theirs too: a vision model's labels alone can have 400 kB.
    """
    return {
        key: snapshot(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _NOT_RECORDED
    }


def config_differences(first: Config, second: Config) -> dict[str, list[Any]]:
    """Keys that matter and differ, with both values (``None``: absent)."""
    first, second = snapshot(first), snapshot(second)
    return {
        key: [first.get(key), second.get(key)]
        for key in sorted({*first, *second})
        if key not in IGNORED and first.get(key) != second.get(key)
    }


def check_architecture(source: Config, target: Config, *, by_names: bool = False) -> Finding:
    """Same model type?

    Args:
        source: The source base's config.
        target: The target's.
        by_names: Whether names decide what the tensors are, for want of a known class.
    """
    mine, theirs = source.get("model_type"), target.get("model_type")
    if mine != theirs:
        return rejected("architecture", f"the adapter is for {mine}, the target is {theirs}")
    how = "; the names of tensors decide what they are" if by_names else ""
    return accepted("architecture", f"both are {mine}{how}")


def check_config(source: Config, target: Config, defaults: Config | None = None) -> list[Finding]:
    """Settings that change the function although no shape differs; the target's are kept.

    Args:
        source: The source base's config.
        target: The target's.
        defaults: What the class fills in for keys that a config leaves out.
    """
    findings = []
    filled = ({**(defaults or {}), **source}, {**(defaults or {}), **target})
    for key, (mine, theirs) in config_differences(*filled).items():
        values = f"{key} is {_short(theirs)} in the target, {_short(mine)} in the source base"
        if key in STRUCTURAL and mine is not None and theirs is not None:
            findings.append(rejected("config", values))
        elif key in ROPE:
            findings.append(warned("rope", f"{values}; the target's is kept"))
        else:
            findings.append(warned("config", f"{values}; the target's is kept"))
    return findings or [accepted("config", "no difference that matters")]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def check_names(
    entries: Mapping[str, TensorEntry], target: ModelHeaders, ties: Ties
) -> list[Finding]:
    """Does the target have every tensor that Δ changes?"""
    wanted = {name for name, e in entries.items() if e.role in (DELTA, RESIZED)}
    missing = wanted - target.tensors.keys() - ties.carried
    findings = []
    if missing:
        count = f"{len(missing)} of {len(wanted)} changed tensors are not in the target"
        findings.append(rejected("tensors", f"{count}: {_names(missing)}"))
    added = {n for n, e in entries.items() if e.role == ADDED}
    if new := added - target.tensors.keys():
        reason = f"fine-tuning added {len(new)} tensors, which the result gets: {_names(new)}"
        findings.append(warned("tensors", reason))
    if replaced := added & target.tensors.keys():
        reason = f"{len(replaced)} tensors of the target are replaced by those of the fine-tuned"
        findings.append(warned("tensors", f"{reason} model: {_names(replaced)}"))
    extra = {n for n in target.tensors if n not in entries and ties.entry(n) is None}
    if extra and not missing:
        reason = f"{len(extra)} tensors of the target are unknown to the adapter and stay"
        findings.append(warned("tensors", f"{reason}: {_names(extra)}"))
    return findings or [accepted("tensors", f"all {len(wanted)} changed tensors are there")]


def check_shapes(target: ModelHeaders, ties: Ties, axes: Mapping[str, int]) -> list[Finding]:
    """Same shapes, but for vocabulary tensors, whose rows are aligned?

    Args:
        target: Headers of the target.
        ties: Which entry each of its tensors gets.
        axes: The axis of tokens of each vocabulary tensor.
    """
    findings = []
    for name, info in target.tensors.items():
        entry = ties.entry(name)
        if entry is None or entry.slot is None or entry.role == ADDED:
            continue
        if _others(info.shape, axes.get(name)) == _others(entry.shape, axes.get(name)):
            continue
        shapes = f"{name} is {list(info.shape)} in the target, {list(entry.shape)} in the adapter"
        findings.append(rejected("shapes", shapes))
    if len(findings) > 4:
        more = rejected("shapes", f"{len(findings) - 3} more tensors have another shape")
        findings = [*findings[:3], more]
    return findings or [accepted("shapes", "all shapes agree")]


def _others(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """A shape without its axis of tokens."""
    return shape if axis is None else (*shape[:axis], -1, *shape[axis + 1 :])


def check_dtypes(entries: Mapping[str, TensorEntry], target: ModelHeaders) -> Finding:
    """Which dtype does the result have?"""
    pairs = {
        (weight_dtype(entry).name, target.tensors[name].dtype.name)
        for name, entry in entries.items()
        if entry.slot is not None and name in target.tensors
    }
    other = sorted(f"{mine} onto {theirs}" for mine, theirs in pairs if mine != theirs)
    wrong = [n for n, e in entries.items() if e.slot is not None and n in target.tensors
             and not target.tensors[n].dtype.is_float]  # fmt: skip
    if wrong:
        reason = "the target stores changed tensors as integers or in 8 bits"
        return rejected("dtype", f"{reason}: {_names(wrong)}; use its unquantized version")
    if other:
        return warned("dtype", f"Δ and target differ ({', '.join(other)}); the target's is kept")
    return accepted("dtype", "same dtype")


def check_quantization(target: ModelHeaders) -> list[Finding]:
    """Is the target stored quantized?"""
    if target.config.get("quantization_config"):
        reason = "the target is stored quantized; add Δ to its unquantized version, then quantize"
        return [rejected("quantization", reason)]
    return []


def check_licence(config: AdapterConfig) -> Finding:
    """What the adapter's licence is; the target's own licence holds beside it."""
    if config.license is None:
        return warned("licence", "the adapter names no licence: ask its author before sharing")
    return accepted(
        "licence", f"the adapter is {config.license}; the target's own licence holds as well"
    )


def estimate(config: AdapterConfig, target: ModelHeaders) -> dict[str, int]:
    """Bytes to download (adapter and target), to store merged, and to hold while loading."""
    adapter = sum(int(facts["size"]) for facts in config.files.values())
    largest = max((info.nbytes for info in target.tensors.values()), default=0)
    return {
        "adapter_download": adapter,
        "target_download": target.nbytes,
        "merged_disk": target.nbytes,
        "load_memory": target.nbytes + largest,
        "apply_memory": 300 << 20,
    }
