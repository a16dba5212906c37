"""What the tensors of a source base and a fine-tuned model are, from both model classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.checkpoint.facts import Inspection, inspect
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.naming import facts_by_names
from ftt_hub.tensors.header import TensorInfo

_MASKS = ("BOOL", "U8")


@dataclass(frozen=True)
class PairFacts:
    """The facts of both models.

    Attributes:
        source: Of the source base.
        tuned: Of the fine-tuned model.
        configs: The configs of both, with the defaults of their classes where these are known.
        unknown: Stored tensors for which neither class has a parameter.
        inspection: The fine-tuned model's, ``None`` where names decide.
    """

    source: TensorFacts
    tuned: TensorFacts
    configs: tuple[Mapping[str, Any], Mapping[str, Any]]
    unknown: frozenset[str] = frozenset()
    inspection: Inspection | None = None

    @property
    def both(self) -> TensorFacts:
        """What the manifest records: ties, vocabulary and buffers of either model."""
        return replace(
            self.source,
            model_class=self.tuned.model_class,
            ties={**self.tuned.ties, **self.source.ties},
            vocabulary={**self.tuned.vocabulary, **self.source.vocabulary},
            buffers=self.source.buffers | self.tuned.buffers,
        )

    @property
    def classes(self) -> tuple[int, int]:
        """Numbers of classes that the heads of both models tell apart; 0 where none is known."""
        before, after = (_classes(config) for config in self.configs)
        return before, after

    def is_untrained(self, name: str, source: TensorInfo | None, tuned: TensorInfo | None) -> bool:
        """Whether a stored tensor is one that no training changes: a mask, a counter, positions.

        An integer tensor that neither class has a parameter for is one where it is a mask or a
        single number, or where only one model stores it.
        """
        if name in self.source.buffers or name in self.tuned.buffers:
            return True
        infos = [info for info in (source, tuned) if info is not None]
        if name not in self.unknown or any(info.dtype.is_float for info in infos):
            return False
        masks = all(info.dtype.name in _MASKS or not info.shape for info in infos)
        return len(infos) == 1 or masks


def _classes(config: Mapping[str, Any]) -> int:
    labels, number = config.get("id2label"), config.get("num_labels")
    if isinstance(labels, Mapping) and labels:
        return len(labels)
    return number if isinstance(number, int) else 0


def _by_names(model: ModelHeaders) -> TensorFacts:
    return facts_by_names({n: t.shape for n, t in model.tensors.items()}, model.config)


def pair_facts(source: ModelHeaders, tuned: ModelHeaders) -> PairFacts:
    """The facts of two models; by names where transformers does not know both."""
    first = inspect(source.config, source.tensors)
    second = inspect(tuned.config, tuned.tensors)
    if first is None or second is None:
        return PairFacts(_by_names(source), _by_names(tuned), (source.config, tuned.config))
    configs = (first.config, second.config)
    known = (source.tensors.keys() - first.unknown) | (tuned.tensors.keys() - second.unknown)
    unknown = (first.unknown | second.unknown) - known
    return PairFacts(first.facts, second.facts, configs, unknown, second)


def owner(name: str, facts: TensorFacts, stored: Mapping[str, object]) -> str | None:
    """The stored tensor that a name's value comes from when a model is loaded.

    A tensor that is not stored has the value of one that it is tied to: of the original, else of
    the first stored copy, as transformers' loader decides.

    Returns:
        ``None`` where nothing gives it a value, so that loading would make one up.
    """
    if name in stored:
        return name
    root = facts.root(name)
    active = (root, *(n for n in facts.group(name)[1:] if n in facts.tied))
    if name not in active:
        return None
    return next((n for n in active if n in stored), None)
