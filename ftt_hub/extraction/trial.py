"""Codecs tried on a model: what storing Δ with loss costs in held-out loss (`--text`).

Equal squared error is no measure of harm at low rates (docs/codecs.md), so the harm itself is
measured: m_t + Δ̂ against m_t + Δ on the same windows of text.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.adapter import open_adapter
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.codecs.quantized import NEAREST, ROTATED, STOCHASTIC
from ftt_hub.config import AdapterConfig
from ftt_hub.errors import ExtractionError
from ftt_hub.extraction.choice import Coding
from ftt_hub.loss import (
    Estimate,
    HeldOutText,
    Loss,
    divergence,
    mean_difference,
    measure,
    read_text,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 16_384
FIRST_NOISE = 0.01
LARGEST_NOISE = 0.16
BISECTIONS = 3
ROUNDINGS = (STOCHASTIC, ROTATED, NEAREST)


@dataclass(frozen=True)
class TrialPoint:
    """One candidate.

    Attributes:
        rounding: ``nearest``, ``stochastic`` or ``rotated``.
        noise: ‖Δ̂ − Δ‖ / ‖m_s‖, measured.
        bits_per_weight: Measured.
        step: The quantiser's step.
        loss: Of m_t + Δ̂, nats a token.
        increase: Over m_t + Δ, paired by window.
    """

    rounding: str
    noise: float
    bits_per_weight: float
    step: float
    loss: Estimate
    increase: Estimate

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "rounding": self.rounding, "noise": self.noise, "step": self.step,
            "bits_per_weight": self.bits_per_weight, "loss": self.loss.to_json(),
            "increase": self.increase.to_json(),
        }  # fmt: skip


@dataclass
class LossTrial:
    """What to measure, and, once done, what was seen.

    Attributes:
        text: Held-out text (`ftt_hub.loss.read_text`).
        target: Model that Δ is added to; default the source base.
        max_increase: Largest acceptable increase of the loss, nats a token; ``None`` only reports.
        tokens: Scored tokens of the text that are used.
        before: Loss of m_t alone.
        exact: Loss of m_t + Δ.
        points: Every candidate in the order tried.
        chosen: The one that was taken.
        divergence: KL(m_t + Δ ‖ m_t + Δ̂) of the chosen one, nats a token.
    """

    text: Path
    target: str | Path | None = None
    max_increase: float | None = None
    tokens: int = TOKENS
    before: Estimate | None = None
    exact: Estimate | None = None
    points: list[TrialPoint] = field(default_factory=list)
    chosen: TrialPoint | None = None
    divergence: float | None = None

    def __post_init__(self) -> None:
        if self.max_increase is not None and not (
            math.isfinite(self.max_increase) and self.max_increase > 0
        ):
            raise ExtractionError(
                "the largest increase of the loss must be a positive number",
                found=self.max_increase,
            )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "text": self.text.name,
            "before": None if self.before is None else self.before.to_json(),
            "exact": None if self.exact is None else self.exact.to_json(),
            "points": [point.to_json() for point in self.points],
            "divergence": self.divergence,
        }


Build = Callable[[Coding, Path], AdapterConfig]
"""Makes the adapter of a coding in a folder."""


class Bench:
    """A target in memory on which candidates are added, measured and taken off again."""

    def __init__(self, trial: LossTrial, default: str | Path, build: Build, work: Path) -> None:
        self._trial, self._build, self._work = trial, build, work
        checkpoint, _ = open_model(trial.target or default)
        self._folder = checkpoint.folder
        checkpoint.close()
        self._model, self._text = _load(self._folder, trial)
        self._number = 0
        trial.before = measure(self._model, self._text, where=self._folder).estimate()
        with self._on(Coding("exact")):
            self._exact: Loss = measure(self._model, self._text, where="m_t + Δ")
        trial.exact = self._exact.estimate()

    @contextmanager
    def _on(self, coding: Coding) -> Iterator[AdapterConfig]:
        """The model with Δ added as a coding stores it."""
        from ftt_hub.live import verbs

        folder = self._work / f"{self._number}"
        self._number += 1
        config = self._build(coding, folder)
        with open_adapter(folder) as adapter, verbs.applied(adapter, self._model):
            yield config

    def try_(self, coding: Coding) -> TrialPoint:
        """Measure one candidate and keep the point."""
        with self._on(coding) as config:
            loss = measure(self._model, self._text, where="m_t + Δ̂")
        point = TrialPoint(
            rounding=str(config.codec.parameters["rounding"]),
            step=float(str(config.codec.parameters["step"])),
            noise=config.fidelity.noise,
            bits_per_weight=config.fidelity.bits_per_weight,
            loss=loss.estimate(),
            increase=mean_difference(loss.nats, self._exact.nats, loss.tokens),
        )
        self._trial.points.append(point)
        return point

    def compare(self, coding: Coding) -> float:
        """KL(m_t + Δ ‖ m_t + Δ̂); holds the model twice."""
        with self._on(Coding("exact")):
            reference = copy.deepcopy(self._model)
        with self._on(coding):
            return divergence(self._model, reference, self._text).nats


def _load(folder: Path, trial: LossTrial) -> tuple[PreTrainedModel, HeldOutText]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    text = read_text(trial.text, words, tokens=trial.tokens)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), text


def search(bench: Bench, limit: float, coding: Coding) -> TrialPoint | None:
    """The largest noise, to a fraction of it, at which the loss grows by at most `limit`.

    Doubles or halves the noise until the limit lies between two of them, then bisects on a
    logarithmic scale.

    Args:
        bench: The target.
        limit: Largest increase of the loss, nats a token.
        coding: Rounding and seed.

    Returns:
        ``None`` when even a sixteenth of the first noise costs more.
    """

    def at(noise: float) -> tuple[float, TrialPoint]:
        return noise, bench.try_(replace(coding, noise=noise))

    good: tuple[float, TrialPoint] | None = None
    bad, noise = math.inf, FIRST_NOISE
    while noise <= LARGEST_NOISE and math.isinf(bad):
        tried = at(noise)
        if tried[1].increase.value > limit:
            bad = noise
        else:
            good, noise = tried, 2 * noise
    while good is None and bad > FIRST_NOISE / 16:
        tried = at(bad / 2)
        if tried[1].increase.value > limit:
            bad /= 2
        else:
            good = tried
    if good is None or math.isinf(bad):
        return None if good is None else good[1]
    for _ in range(BISECTIONS):
        tried = at(math.sqrt(good[0] * bad))
        if tried[1].increase.value > limit:
            bad = tried[0]
        else:
            good = tried
    return good[1]


def run(trial: LossTrial, bench: Bench, coding: Coding) -> Coding:
    """Choose by measured loss: within the limit the fewest bits, without one the smallest loss.

    Args:
        trial: What to measure; filled with what was seen.
        bench: The target.
        coding: What the user asked for; all roundings are tried unless it names one.

    Returns:
        The coding with its step.

    Raises:
        ExtractionError: Nothing tried stays within the limit.
    """
    kinds = ROUNDINGS if coding.rounding is None else (coding.rounding,)
    wanted = [replace(coding, codec="quantized", rounding=kind) for kind in kinds]
    limit = trial.max_increase
    if limit is None:
        points = [bench.try_(each) for each in wanted]
        chosen = min(points, key=lambda point: (point.loss.value, point.bits_per_weight))
    else:
        found = [point for each in wanted if (point := search(bench, limit, each)) is not None]
        if not found:
            seen = min(point.increase.value for point in trial.points)
            raise ExtractionError(
                "no step keeps the loss within the limit", where=trial.text,
                expected=f"at most +{limit:g}", found=f"+{seen:.3g} at the best step tried",
                hint="Allow more, or use --codec exact.",
            )  # fmt: skip
        chosen = min(found, key=lambda point: point.bits_per_weight)
    result = Coding("quantized", step=chosen.step, rounding=chosen.rounding, seed=coding.seed)
    trial.chosen = chosen
    trial.divergence = bench.compare(result)
    return result
