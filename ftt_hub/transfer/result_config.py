"""The config of a result: the target's own, with what fine-tuning changed in its structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.support.findings import Finding, warned

TIE = "tie_word_embeddings"


@dataclass(frozen=True)
class ConfigChanges:
    """Keys that the result's config gets.

    Attributes:
        values: Key → value; ``None`` takes a key away.
        findings: One for each that differs from the target's.
    """

    values: dict[str, Any]
    findings: list[Finding]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def changed_config(facts: TensorFacts, target: Mapping[str, Any], *, untied: bool) -> ConfigChanges:
    """What the result's config takes from the fine-tuned model.

    Args:
        facts: What the adapter records.
        target: The target's `config.json`.
        untied: Whether the result stores apart what the target ties.
    """
    values = dict(facts.config)
    if untied:
        values[TIE] = False
    findings = [
        warned("config", f"{key} becomes {_short(value)}, as fine-tuned; the target has "
               f"{_short(target.get(key))}")
        for key, value in values.items()
        if target.get(key) != value
    ]  # fmt: skip
    return ConfigChanges(values, findings)


def with_changes(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A `config.json` with changed keys; ties are cut in its text part as well."""
    result = {**config, **values}
    for key, value in values.items():
        if value is None:
            result.pop(key, None)
    text = result.get("text_config")
    if values.get(TIE) is False and isinstance(text, Mapping):
        result["text_config"] = {**text, TIE: False}
    return result


_TEXT_PARTS = ("text_config", "decoder", "generator")
"""Where transformers' `get_text_config` looks for the part with the embeddings."""


def with_vocabulary(config: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A `config.json` with another vocabulary size, in the part that has the embeddings.

    As `resize_token_embeddings` writes it: a size beside that part belongs to something else.
    """
    result = dict(config)
    for name in _TEXT_PARTS:
        part = config.get(name)
        if isinstance(part, Mapping) and ("vocab_size" in part or "vocab_size" not in config):
            result[name] = {**part, "vocab_size": size}
            return result
    result["vocab_size"] = size
    return result
