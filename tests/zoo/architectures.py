"""The architectures of transformers' auto mappings, and one tiny model of each."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from zoo.overrides import INITIAL, OVERRIDES
from zoo.shrink import shrunk

LARGEST = 1_100_000  # parameters; twice as many bytes in bf16


@dataclass(frozen=True)
class Mapping:
    """One auto mapping: its short key, its title in the docs, its auto class."""

    key: str
    title: str
    names: str
    auto_class: str
    has_text: bool = False
    has_labels: bool = False

    @property
    def model_types(self) -> dict[str, Any]:
        """Class names by model type."""
        return dict(getattr(modeling_auto, f"MODEL_FOR_{self.names}_MAPPING_NAMES"))

    @property
    def loader(self) -> Any:
        """The auto class of transformers."""
        return getattr(transformers, self.auto_class)


MAPPINGS = [
    Mapping("causal", "Causal LM", "CAUSAL_LM", "AutoModelForCausalLM", has_text=True),
    Mapping(
        "seq2seq", "Seq2seq LM", "SEQ_TO_SEQ_CAUSAL_LM", "AutoModelForSeq2SeqLM", has_text=True
    ),
    Mapping("masked", "Masked LM", "MASKED_LM", "AutoModelForMaskedLM", has_text=True),
    Mapping(
        "classification",
        "Sequence classification",
        "SEQUENCE_CLASSIFICATION",
        "AutoModelForSequenceClassification",
        has_text=True,
        has_labels=True,
    ),
    Mapping(
        "image-text",
        "Image-text-to-text",
        "IMAGE_TEXT_TO_TEXT",
        "AutoModelForImageTextToText",
        has_text=True,
    ),
    Mapping(
        "speech", "Speech-to-text", "SPEECH_SEQ_2_SEQ", "AutoModelForSpeechSeq2Seq", has_text=True
    ),
    Mapping("ctc", "Speech, CTC", "CTC", "AutoModelForCTC"),
    Mapping(
        "audio",
        "Audio classification",
        "AUDIO_CLASSIFICATION",
        "AutoModelForAudioClassification",
        has_labels=True,
    ),
    Mapping(
        "image",
        "Image classification",
        "IMAGE_CLASSIFICATION",
        "AutoModelForImageClassification",
        has_labels=True,
    ),
]


class NotBuiltError(Exception):
    """The architecture cannot be built here; the message says why."""


@dataclass(frozen=True)
class Architecture:
    """One entry of one mapping."""

    mapping: Mapping
    model_type: str

    @property
    def name(self) -> str:
        """``causal/llama``."""
        return f"{self.mapping.key}/{self.model_type}"

    def config(self) -> Any:
        """A tiny config, as the auto class takes it."""
        changes = OVERRIDES.get(self.model_type, {}) | OVERRIDES.get(self.name, {})
        initial = copy.deepcopy(INITIAL.get(self.model_type, {}))  # transformers takes them apart
        large = transformers.CONFIG_MAPPING[self.model_type](**initial)
        config = shrunk(large, changes, [])
        class_names = self.mapping.model_types[self.model_type]
        if not isinstance(class_names, str):
            config.architectures = [class_names[0]]
        return config

    def model(self) -> Any:
        """A tiny model with random weights in bf16.

        Raises:
            NotBuiltError: transformers cannot build it here, or it is too large.
        """
        try:
            config = self.config()
            size = self._size(config)
            if size <= LARGEST:
                torch.manual_seed(0)
                return self.mapping.loader.from_config(config).eval()
        except Exception as error:
            raise NotBuiltError(
                " ".join(f"{type(error).__name__}: {error}".split())[:200]
            ) from error
        raise NotBuiltError(f"{size:,} parameters")

    @property
    def can_be_built(self) -> bool:
        """Whether transformers builds it here, small."""
        try:
            return self._size(self.config()) <= LARGEST
        except Exception:
            return False

    def _size(self, config: Any) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in self.mapping.loader.from_config(config).parameters())


@functools.cache
def architectures() -> list[Architecture]:
    """All entries of all mappings, in their order."""
    return [Architecture(m, name) for m in MAPPINGS for name in m.model_types]


def selected(patterns: list[str]) -> Iterator[Architecture]:
    """The architectures whose name is one of the patterns or begins with one ending in ``/``."""
    for architecture in architectures():
        name = architecture.name
        if not patterns or any(
            name == p or (name.startswith(p) and p.endswith("/")) or name.endswith(f"/{p}")
            for p in patterns
        ):
            yield architecture
