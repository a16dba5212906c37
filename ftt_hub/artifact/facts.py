"""What the tensors of an adapter's two models are, as their model classes say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

MAX_NAMES = 256
"""Most ties, and most buffers, that a manifest records.

Where a model has more, the index still tells those that are stored, and a target that stores others
is asked itself.
"""


@dataclass(frozen=True)
class TensorFacts:
    """Facts under checkpoint names; names that no checkpoint stores are the run-time names.

    Attributes:
        model_class: The transformers class of the fine-tuned model; ``None`` where transformers
            does not know it, so that names decide.
        transformers: Version of transformers that said so.
        ties: Copy → original, as far as the class can tie tensors at all.
        tied: Copies that the source base's config ties.
        vocabulary: Name → axis whose positions are token ids.
        vocabulary_size: Number of token ids in the source base's embeddings.
        buffers: Stored tensors that are no weights: masks, counters, positions.
        defaults: Keys that the source base's config leaves to its class, with their values.
        config: What fine-tuning changed in the config and the result must have: labels, class,
            special tokens. ``None`` stands for a key that is taken away.
    """

    model_class: str | None = None
    transformers: str | None = None
    ties: Mapping[str, str] = field(default_factory=dict)
    tied: frozenset[str] = frozenset()
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    vocabulary_size: int | None = None
    buffers: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def root(self, name: str) -> str:
        """The original of a name's tied group; the name itself where it has none."""
        return self.ties.get(name, name)

    def group(self, name: str) -> tuple[str, ...]:
        """All names of a name's tied group, the original first."""
        root = self.root(name)
        return (root, *(copy for copy, original in self.ties.items() if original == root))

    def short(self) -> TensorFacts:
        """These facts with at most `MAX_NAMES` ties and buffers; those of the vocabulary stay."""
        first = sorted(self.ties, key=lambda name: (name not in self.vocabulary, name))
        ties = {name: self.ties[name] for name in first[:MAX_NAMES]}
        buffers = frozenset(sorted(self.buffers)[:MAX_NAMES])
        return replace(self, ties=ties, tied=self.tied & ties.keys(), buffers=buffers)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form; empty values are left out."""
        value: dict[str, Any] = {
            "model_class": self.model_class,
            "transformers": self.transformers,
            "ties": dict(self.ties),
            "tied": sorted(self.tied),
            "vocabulary": dict(self.vocabulary),
            "vocabulary_size": self.vocabulary_size,
            "buffers": sorted(self.buffers),
            "defaults": dict(self.defaults),
            "config": dict(self.config),
        }
        return {k: item for k, item in value.items() if item or k == "model_class"}


def merged_facts(inputs: Sequence[TensorFacts | None]) -> TensorFacts | None:
    """The facts of several adapters of one source base; the first input to name a key wins.

    Returns:
        ``None`` where an input has none, so that names decide.
    """
    known = [facts for facts in inputs if facts is not None and facts.model_class is not None]
    if not known or len(known) < len(inputs):
        return None
    ties: dict[str, str] = {}
    vocabulary: dict[str, int] = {}
    config: dict[str, Any] = {}
    for facts in reversed(known):
        ties.update(facts.ties)
        vocabulary.update(facts.vocabulary)
        config.update(facts.config)
    buffers = frozenset[str]().union(*(facts.buffers for facts in known))
    return replace(known[0], ties=ties, vocabulary=vocabulary, buffers=buffers, config=config)


def facts_from_json(value: Mapping[str, Any]) -> TensorFacts:
    """Facts from JSON that its schema has validated; unknown keys are for later minors."""
    return TensorFacts(
        model_class=value.get("model_class"),
        transformers=value.get("transformers"),
        ties=value.get("ties", {}),
        tied=frozenset(value.get("tied", ())),
        vocabulary=value.get("vocabulary", {}),
        vocabulary_size=value.get("vocabulary_size"),
        buffers=frozenset(value.get("buffers", ())),
        defaults=value.get("defaults", {}),
        config=value.get("config", {}),
    )
