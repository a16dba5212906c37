"""Choosing a coding by trials: within a limit of the loss the fewest bits, else the least loss.

Codings are first measured on a sample of the text, and only the promising ones on all of it. One
measurement predicts the next: the loss increases with the square of the noise, if the noise has no
direction of its own, and the confidence interval of that increase with the noise itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ftt_hub.codecs.quantized import NEAREST, ROTATED, STOCHASTIC, QuantizedCodec
from ftt_hub.errors import ExtractionError

if TYPE_CHECKING:
    from ftt_hub.extraction.choice import Chooser, Coding
    from ftt_hub.extraction.trials.bench import Bench, Passage
    from ftt_hub.extraction.trials.trial import LossTrial, TrialPoint

ROUNDINGS = (STOCHASTIC, ROTATED, NEAREST)

NOISE = 0.01
"""Noise relative to the weights that is tried first where the limit is `LIMIT`."""

LIMIT = 0.01
LEAST_NOISE, MOST_NOISE = 0.0002, 0.16
"""Noise that is considered: with less, an exact codec is as small; with more, no model works."""

TRIES = 4
"""Codings of one rounding that are measured on all of the text."""

AIM, ENOUGH = 0.9, 0.75
"""Shares of the limit: what is aimed at, and what is near enough."""

TRUSTED, NARROW = 1.5, 1.06
"""Ratios of two noises: up to the first the prediction is trusted, up to the second they are
alike."""

HOPELESS = 2.0
"""A rounding that seems to need so many times the bits of another is not tried again."""


@dataclass(frozen=True)
class Tried:
    """A coding that was measured.

    Attributes:
        codec: Its codec.
        point: The measurement.
        noise: The noise that was asked for, in a search by noise.
    """

    codec: QuantizedCodec
    point: TrialPoint
    noise: float = 0.0


@dataclass
class Search:
    """One search for the fewest bits within a limit.

    Attributes:
        bench: Where codings are tried.
        chooser: From noise to step.
        coding: What the user asked for.
        limit: Largest upper bound of the increase of the loss, nats per token.
    """

    bench: Bench
    chooser: Chooser
    coding: Coding
    limit: float

    def run(self, kinds: tuple[str, ...]) -> Tried | None:
        """The best of these roundings; ``None`` when none stays within the limit."""
        noises = {kind: self._scout(kind, self._first(kind)) for kind in kinds}
        bits = {kind: self._predicted(kind, noise) for kind, noise in noises.items()}
        for kind in kinds:
            far = not 1 / TRUSTED < noises[kind] / self._first(kind) < TRUSTED
            if far and bits[kind] < HOPELESS * min(bits.values()):
                noises[kind] = self._scout(kind, noises[kind])
                bits[kind] = self._predicted(kind, noises[kind])
        best: Tried | None = None
        for kind in sorted(kinds, key=bits.__getitem__):
            if best is None or bits[kind] < best.point.bits_per_weight:
                refined = self._refine(kind, noises[kind])
                best = min((t for t in (best, refined) if t is not None), key=_bits, default=None)
        return best

    def _first(self, kind: str) -> float:
        """The noise that is tried first."""
        noise = _within(NOISE * math.sqrt(self.limit / LIMIT))
        return min(noise, self._norm / 2) if kind == NEAREST else noise  # nearest: at most Δ itself

    @property
    def _norm(self) -> float:
        """‖Δ‖ / ‖m_s‖."""
        seen = self.chooser.survey(turned=False).total
        return math.sqrt(seen.delta_square / seen.source_square) if seen.source_square else 1.0

    def _predicted(self, kind: str, noise: float) -> float:
        return self.chooser.bits_per_weight(self._codec(kind, noise))

    def _codec(self, kind: str, noise: float) -> QuantizedCodec:
        coding = replace(self.coding, codec="quantized", rounding=kind, noise=noise)
        return _lossy(self.chooser, coding)

    def _try(self, kind: str, noise: float, passage: Passage) -> Tried:
        codec = self._codec(kind, noise)
        return Tried(codec, self.bench.try_(codec, passage), noise)

    def _aimed(self, tried: Tried) -> float:
        """The noise at which the upper bound, on all of the text, is near the limit.

        Solves value · (x/n)² + half · (x/n) = aim for x, n being the noise that was tried.
        """
        increase = tried.point.increase
        share = tried.point.tokens / self.bench.all.text.tokens
        half = max(increase.high - increase.value, 0.0) * math.sqrt(share)
        value = max(increase.value, 0.0)
        aim = AIM * self.limit
        root = half + math.sqrt(half * half + 4 * value * aim)
        factor = 2 * aim / root if root > 0 else math.inf
        return _within(tried.noise * min(max(factor, 1 / 8), 8.0))

    def _scout(self, kind: str, noise: float) -> float:
        """Roughly the noise that a rounding can afford, from one coding on the sample."""
        return self._aimed(self._try(kind, noise, self.bench.part))

    def _refine(self, kind: str, noise: float) -> Tried | None:
        """The largest noise within the limit, nearly, on all of the text."""
        good: Tried | None = None
        bad = math.inf
        for _ in range(TRIES):
            tried = self._try(kind, noise, self.bench.all)
            if tried.point.increase.high <= self.limit:
                good = tried
            else:
                bad = noise
            if good is not None and (
                good.point.increase.high >= ENOUGH * self.limit
                or good.noise >= MOST_NOISE
                or bad < NARROW * good.noise
            ):
                break
            if bad <= LEAST_NOISE:
                break
            noise = _between(self._aimed(tried), 0.0 if good is None else good.noise, bad)
        return good


def run(trial: LossTrial, chooser: Chooser, coding: Coding, bench: Callable[[], Bench]) -> Coding:
    """Choose by measured loss: within the limit the fewest bits, without one the smallest loss.

    Args:
        trial: What to measure; receives the measurements.
        chooser: Finds codecs.
        coding: What the user asked for; all roundings are tried unless it names one.
        bench: Opens the target.

    Returns:
        The coding with its step.

    Raises:
        ExtractionError: Nothing tried stays within the limit, or there are two limits.
    """
    kinds = ROUNDINGS if coding.rounding is None else (coding.rounding,)
    limit = trial.max_increase
    if limit is not None:
        replace(coding, codec="quantized", noise=NOISE)  # refuses a second limit at once
    if not chooser.survey(turned=ROTATED in kinds).total.delta_square:
        # every matrix is unchanged
        return replace(_without_limit(coding), codec="exact", rounding=None)
    ready = bench()
    if limit is None:
        best = _least_loss(ready, chooser, coding, kinds)
    else:
        fewest = Search(ready, chooser, coding, limit).run(kinds)
        if fewest is None:
            seen = min(point.increase.high for point in trial.points)
            raise ExtractionError(
                "no step keeps the loss within the limit",
                where=trial.text,
                expected=f"at most +{limit:g}, interval included",
                found=f"up to +{seen:.3g} at the best step tried",
                hint="Allow more, give a longer text, or use --codec exact.",
            )
        best = fewest
    trial.chosen = best.point
    trial.divergence = ready.compare(best.codec, ready.part)
    chosen = _without_limit(coding)
    return replace(chosen, codec="quantized", step=best.codec.step, rounding=best.codec.rounding)


def _without_limit(coding: Coding) -> Coding:
    return replace(coding, bits=None, target_size=None, max_error=None, noise=None, step=None)


def _least_loss(bench: Bench, chooser: Chooser, coding: Coding, kinds: tuple[str, ...]) -> Tried:
    """The best rounding at the size, error or noise asked for; clear losers leave early."""
    codecs = [_lossy(chooser, replace(coding, codec="quantized", rounding=kind)) for kind in kinds]
    if len(codecs) > 1 and bench.part is not bench.all:
        seen = [(codec, bench.try_(codec, bench.part).increase) for codec in codecs]
        least = min((increase for _, increase in seen), key=lambda increase: increase.value)
        codecs = [codec for codec, increase in seen if increase.low <= least.high]
    tried = [Tried(codec, bench.try_(codec, bench.all)) for codec in codecs]
    return min(tried, key=lambda each: (each.point.loss.value, each.point.bits_per_weight))


def _lossy(chooser: Chooser, coding: Coding) -> QuantizedCodec:
    codec = chooser.codec(coding)
    if not isinstance(codec, QuantizedCodec):
        raise ExtractionError("a lossless codec has no step to try", found=codec.id)
    return codec


def _bits(tried: Tried) -> float:
    return tried.point.bits_per_weight


def _within(noise: float) -> float:
    return min(max(noise, LEAST_NOISE), MOST_NOISE)


def _between(noise: float, good: float, bad: float) -> float:
    """The noise aimed at if it is between a good one and a bad one, else one in the middle."""
    if good < noise < bad:
        return _within(noise)
    if not good:
        return _within(0.8 * bad)
    return _within(1.25 * good if math.isinf(bad) else math.sqrt(good * bad))
