"""A study's configuration, read from YAML and checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ftt_hub.errors import FttError


class StudyError(FttError):
    """A configuration, a cache or a results file cannot be used."""


@dataclass(frozen=True)
class Shape:
    """A Llama.

    Attributes:
        vocabulary: Tokens of its byte-level BPE tokenizer.
        hidden_size: Width.
        intermediate_size: Width of the feed-forward layers.
        layers: Depth.
        heads: Of attention.
    """

    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Stage:
    """A stage of pretraining.

    Attributes:
        steps: Optimizer steps, one number a version that is saved: the steps since the one before.
        arithmetic: Share of the steps that are on equations; the others are on text.
        decay: Whether the learning rate falls to zero linearly in this stage.
    """

    steps: tuple[int, ...]
    arithmetic: float
    decay: bool


@dataclass(frozen=True)
class Pretraining:
    """From random weights to M_1 … M_n, with AdamW.

    Attributes:
        stages: In order, as OLMo 2: general text at a constant rate, then the mid-training mix.
        learning_rate: Peak.
        warmup_steps: In which it rises from zero.
        weight_decay: Of matrices.
        batch_size: Windows of a step on text.
        window: Tokens.
        equations: Of a step on arithmetic.
    """

    stages: tuple[Stage, ...]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    batch_size: int
    window: int
    equations: int

    @property
    def versions(self) -> int:
        """How many versions the family has."""
        return sum(len(stage.steps) for stage in self.stages)


@dataclass(frozen=True)
class FineTuning:
    """The fine-tuning of every version: AdamW, linear schedule, loss on the answers only.

    Attributes:
        steps: Optimizer steps.
        learning_rate: Peak, after a warm-up of 3% of the steps.
        batch_size: Questions of a step.
        curve: Steps after which the accuracy is measured.
    """

    steps: int
    learning_rate: float
    batch_size: int
    curve: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """Held-out questions.

    Attributes:
        expressions: Of the task that no fine-tuning asks about; each in several wordings.
        text_windows: Of general text, for the loss.
    """

    expressions: int
    text_windows: int


@dataclass(frozen=True)
class Settings:
    """A study.

    Attributes:
        name: Of the study; names its results.
        seeds: Independent families: weights, order of the data, fine-tunings.
        digits: Most digits of a number in the task.
        workers: Seeds at a time.
        threads: Of the processor, for each.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU when there is one.
        precision: ``float32``, or ``bfloat16`` for the forward pass.
        model: The architecture.
        pretraining: Of the versions.
        fine_tuning: Of each of them.
        evaluation: On what.
        also: Further fine-tunings after a transfer, as (Δ's version, target).
    """

    name: str
    seeds: tuple[int, ...]
    digits: int
    workers: int
    threads: int
    device: str
    precision: str
    model: Shape
    pretraining: Pretraining
    fine_tuning: FineTuning
    evaluation: Evaluation
    also: tuple[tuple[int, int], ...]


def read_settings(path: Path) -> Settings:
    """A configuration from its file.

    Raises:
        StudyError: Not readable, not YAML, or a key is missing, unknown or of the wrong type.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError("cannot be read", where=path, found=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError("is not YAML", where=path, found=str(error)) from error
    settings = _made(Settings, value, str(path))
    _check(settings, path)
    return settings


_NESTED = {
    "Shape": Shape,
    "Pretraining": Pretraining,
    "FineTuning": FineTuning,
    "Evaluation": Evaluation,
}


def _made(cls: type, value: Any, where: str) -> Any:
    known = {field.name: str(field.type) for field in fields(cls)}
    if not isinstance(value, dict):
        raise StudyError("is not a mapping", where=where, expected=", ".join(known))
    if set(value) != set(known):
        raise StudyError(
            "has other keys",
            where=where,
            expected=", ".join(known),
            found=", ".join(map(str, value)),
        )
    return cls(**{key: _field(known[key], value[key], f"{where}: {key}") for key in known})


def _field(kind: str, value: Any, where: str) -> Any:
    if kind in _NESTED:
        return _made(_NESTED[kind], value, where)
    if kind == "tuple[Stage, ...]" and isinstance(value, list):
        return tuple(_made(Stage, stage, where) for stage in value)
    if kind == "tuple[int, ...]" and _integers(value):
        return tuple(value)
    if kind == "tuple[tuple[int, int], ...]" and isinstance(value, list):
        if all(_integers(pair) and len(pair) == 2 for pair in value):
            return tuple(map(tuple, value))
    elif kind == "float":
        try:
            return float(value)  # YAML 1.1 takes 5e-6 for a text
        except (TypeError, ValueError):
            pass
    elif type(value).__name__ == kind:
        return value
    raise StudyError("has the wrong type", where=where, expected=kind, found=value)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


def _check(settings: Settings, path: Path) -> None:
    tuning, count = settings.fine_tuning, settings.pretraining.versions
    for holds, what, found in (
        (len(set(settings.seeds)) == len(settings.seeds) > 0, "seeds differ", settings.seeds),
        (count >= 2, "at least two versions", count),
        (sorted(set(tuning.curve)) == list(tuning.curve), "curve rises", tuning.curve),
        (
            tuning.curve[:1] == (0,) and tuning.curve[-1:] == (tuning.steps,),
            f"curve from 0 to {tuning.steps}",
            tuning.curve,
        ),
        (
            all(1 <= j <= count and 1 <= i <= count and i != j for j, i in settings.also),
            f"also names two of {count} versions",
            settings.also,
        ),
        (settings.device in ("auto", "cpu", "cuda"), "device auto, cpu or cuda", settings.device),
        (
            settings.precision in ("float32", "bfloat16"),
            "precision float32 or bfloat16",
            settings.precision,
        ),
        (
            all(0 <= stage.arithmetic <= 1 for stage in settings.pretraining.stages),
            "arithmetic is a share",
            settings.pretraining.stages,
        ),
    ):
        if not holds:
            raise StudyError("does not hold together", where=path, expected=what, found=found)
