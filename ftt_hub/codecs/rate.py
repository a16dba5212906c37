"""What a step costs and what it spoils, predicted from histograms of |Δ|: no encoding needed.

One streaming pass fills a histogram a tensor; from then on bits and squared error of any step and
either rounding are sums over bins. Bits are order-0 entropies of q, which the entropy coder reaches
within one percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.abc import DeltaBlock
from ftt_hub.codecs.quantized import NEAREST, STOCHASTIC, delta_values, round_step

_KEPT = 20
"""Low bits of a float32 that a bin ignores: bins are an eighth of an octave wide."""
_BINS = 1 << (31 - _KEPT)
_TOP_LEVEL = 1 << 14
"""Levels above this one are counted as this one; there a step costs log2 of the range anyway."""

Histogram = NDArray[np.int64]


def histogram(block: DeltaBlock) -> Histogram:
    """Counts of |Δ| by magnitude; bin 0 also holds the zeros."""
    total = np.zeros(_BINS, np.int64)
    for start in range(0, block.hi.size, 1 << 16):
        bits = delta_values(block.part(np.s_[start : start + (1 << 16)])).view(np.uint32)
        total += np.bincount((bits & 0x7FFFFFFF) >> _KEPT, minlength=_BINS)
    return total


def _middles() -> NDArray[np.float64]:
    """The magnitude a bin stands for: its middle, and 0 for the first."""
    edges = (np.arange(_BINS, dtype=np.uint32) << _KEPT) + np.uint32(1 << (_KEPT - 1))
    with np.errstate(invalid="ignore"):
        values = edges.view(np.float32).astype(np.float64)
    values[0] = 0.0
    return np.where(np.isfinite(values), values, 0.0)


_MIDDLES = _middles()


@dataclass(frozen=True)
class Prediction:
    """What quantising with one step gives over all tensors.

    Attributes:
        bits: Entropy of all q.
        error_square: Σ (Δ̂ − Δ)², expected.
    """

    bits: float
    error_square: float


@dataclass
class Survey:
    """Statistics of everything that is going to be quantised.

    Attributes:
        histograms: One a tensor.
        source_square: Σ m_s² over the same tensors and all others.
        delta_square: Σ Δ² over the same tensors.
    """

    histograms: list[Histogram] = field(default_factory=list)
    source_square: float = 0.0
    delta_square: float = 0.0

    @property
    def count(self) -> int:
        """Elements surveyed."""
        return sum(int(h.sum()) for h in self.histograms)

    @property
    def rms(self) -> float:
        """Root of the mean Δ²."""
        return math.sqrt(self.delta_square / max(1, self.count))

    def predict(self, step: float, rounding: str) -> Prediction:
        """Bits and error of a step."""
        bits = error = 0.0
        scaled = _MIDDLES / step
        lower = np.rint(scaled) if rounding == NEAREST else np.floor(scaled)
        part = scaled - lower
        spoilt = part * part if rounding == NEAREST else part * (1 - part)
        low = np.minimum(lower, _TOP_LEVEL).astype(np.int64)
        for counts in self.histograms:
            used = np.flatnonzero(counts)
            n = counts[used].astype(np.float64)
            if rounding == NEAREST:
                levels = np.bincount(low[used], n)
            else:
                up = n * part[used]
                levels = np.bincount(low[used] + 1, up)
                levels[: low[used].max(initial=0) + 1] += np.bincount(low[used], n - up)
            bits += _entropy(levels)
            error += float(n @ spoilt[used])
        return Prediction(bits, error * step * step)


def _entropy(levels: NDArray[Any]) -> float:
    """Bits of signed levels whose magnitudes have these counts; signs are even."""
    total = float(levels.sum())
    held = levels[levels > 0]
    magnitudes = float(-(held * np.log2(held / total)).sum()) if held.size else 0.0
    return magnitudes + float(levels[1:].sum())


def _solve(grows: Callable[[float], float], wanted: float, start: float) -> float:
    """The step at which a growing function of it reaches `wanted`, by bisection."""
    low, high = math.log2(start) - 40, math.log2(start) + 40
    for _ in range(40):
        middle = (low + high) / 2
        if grows(2.0**middle) < wanted:
            low = middle
        else:
            high = middle
    return round_step(2.0**low)


def step_for_bits(survey: Survey, bits: float, rounding: str) -> float:
    """The smallest step whose q take at most `bits` bits in all."""
    return _solve(lambda step: -survey.predict(step, rounding).bits, -bits, survey.rms)


def step_for_error(survey: Survey, error_square: float, rounding: str) -> float:
    """The largest step that keeps Σ (Δ̂ − Δ)² at `error_square`."""
    return _solve(
        lambda step: survey.predict(step, rounding).error_square, error_square, survey.rms
    )


NOISE = 0.01
"""Noise relative to the weights that the default adds; docs/codecs.md shows why."""

COARSE = 0.7
"""Steps of at most this many rms(Δ) are rounded to nearest: below it the smaller error counts,
above it the many changes that nearest rounding would drop together."""


def _by_rule(
    step_for: Callable[[str], float], survey: Survey, rounding: str | None
) -> tuple[float, str]:
    if rounding is not None:
        return step_for(rounding), rounding
    nearest = step_for(NEAREST)
    if nearest <= COARSE * survey.rms:
        return nearest, NEAREST
    return step_for(STOCHASTIC), STOCHASTIC


def choose(survey: Survey, noise: float, rounding: str | None) -> tuple[float, str]:
    """Step and rounding that add this much noise relative to the weights."""
    wanted = noise * noise * survey.source_square
    return _by_rule(lambda kind: step_for_error(survey, wanted, kind), survey, rounding)


def choose_for_bits(survey: Survey, bits: float, rounding: str | None) -> tuple[float, str]:
    """Step and rounding that take this many bits in all."""
    return _by_rule(lambda kind: step_for_bits(survey, bits, kind), survey, rounding)
