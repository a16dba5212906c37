"""What a target's tensors are: as the adapter recorded it, else as the target's own class says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.checkpoint.facts import facts_of
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.naming import facts_by_names

_KEY = "tie_word_embeddings"


def source_facts(config: AdapterConfig, entries: Mapping[str, TensorEntry]) -> TensorFacts:
    """The source base's facts: recorded, or by names where the manifest has none."""
    recorded = config.architecture
    if recorded is not None and recorded.model_class is not None:
        return recorded
    shapes = {name: entry.source_shape for name, entry in entries.items()}
    named = facts_by_names(shapes, config.source_base.config)
    if recorded is None:
        return named
    return replace(named, buffers=recorded.buffers, config=recorded.config)


def tie_settings(config: Mapping[str, Any], default: object = None) -> dict[str, object]:
    """Every setting of a config that ties embeddings, by the part of the config it is in."""
    settings = {
        key: value.get(_KEY)
        for key, value in config.items()
        if isinstance(value, Mapping) and value.get(_KEY) is not None
    }
    return {"": config.get(_KEY, default), **settings}


def target_facts(
    config: AdapterConfig, entries: Mapping[str, TensorEntry], target: ModelHeaders
) -> TensorFacts:
    """A target's facts.

    Where its names are the adapter's and it ties what the source base ties, nothing is derived, and
    neither torch nor transformers is imported.
    """
    source = source_facts(config, entries)
    recorded = config.architecture
    mine = tie_settings(config.source_base.config, source.defaults.get(_KEY))
    theirs = tie_settings(target.config, source.defaults.get(_KEY))
    known = entries.keys() | source.ties.keys() | set(source.ties.values())
    if recorded is not None and recorded.model_class is None:
        return _by_names(source, target)
    if target.tensors.keys() <= known and mine == theirs:
        return source if recorded is not None else _by_names(source, target)
    derived = facts_of(target.config, target.tensors)
    if derived is None:
        return _by_names(source, target)
    return replace(
        source,
        ties={**source.ties, **derived.ties},
        tied=derived.tied,
        vocabulary={**derived.vocabulary, **source.vocabulary},
        buffers=source.buffers | derived.buffers,
    )


def _by_names(source: TensorFacts, target: ModelHeaders) -> TensorFacts:
    """The source base's facts, and what the names of the target's own tensors mean."""
    named = facts_by_names({n: t.shape for n, t in target.tensors.items()}, target.config)
    ties = {**source.ties, **named.ties}
    tied = frozenset(n for n in ties if target.config.get(_KEY) is not False)
    return replace(
        source, ties=ties, tied=tied, vocabulary={**named.vocabulary, **source.vocabulary}
    )
