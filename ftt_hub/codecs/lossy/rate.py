"""Bits and error of a step, predicted without encoding anything.

One streaming pass fills a histogram of |Δ| a tensor; from then on bits and squared error of any
step are sums over bins, for rounding to nearest and stochastic rounding. For rotated blocks the
pass keeps the spread of their runs (`spread`). Bits are order-0 entropies of q, which the entropy
coder reaches within one percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.lossy import components
from ftt_hub.codecs.lossy.spread import BlockStatistics, StackedStatistics, measure
from ftt_hub.codecs.quantized import NEAREST, ROTATED, ROUNDINGS, STOCHASTIC, delta_values
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16

_DROPPED = 16
"""Low bits of a float32 that a bin ignores: bins are 2⁻⁷ of their magnitude wide, and the values
of a BF16 delta fall on their edges."""

_HALVINGS = 28
"""Bisections of the range of steps; the last interval is one part in five million of it."""

_SMALL = 1 << 12
"""Levels below it are counted in a table."""

_MAX_BITS = 14
"""Steps below rms(Δ)/2¹⁴ are not considered: an exact codec is smaller."""


@dataclass(frozen=True)
class Histogram:
    """Counts of |Δ|, the empty bins left out.

    Attributes:
        values: The magnitude each bin stands for.
        counts: Elements in each.
        spread: Width of a bin as a part of its magnitude; 0 where its elements are all equal.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.float64]
    spread: float


class Tally:
    """Counts |Δ| of a tensor's blocks as they pass.

    Args:
        turned: Whether to measure the blocks' spread too, which predicting rotated rounding needs.

    Attributes:
        spreads: One a block.
    """

    def __init__(self, *, turned: bool = True) -> None:
        self._turned = turned
        self._counts = np.zeros(1 << (31 - _DROPPED), np.int64)
        self._on_edges = True
        self.spreads: list[BlockStatistics] = []

    def add(self, block: DeltaBlock, columns: int = 0) -> None:
        """Count one block, of whole rows of so many elements if it is part of a matrix."""
        if self._turned:
            values = delta_values(block)
            self.spreads.append(measure(values, components.find(values, columns)))
        self._on_edges &= block.dtype is BF16
        for start in range(0, block.hi.size, 1 << 16):
            part = block.part(np.s_[start : start + (1 << 16)])
            bins: NDArray[Any]
            if block.dtype is BF16:
                bins = part.hi & np.uint16(0x7FFF)
            else:
                bins = (delta_values(part).view(np.uint32) & np.uint32(0x7FFFFFFF)) >> _DROPPED
            self._counts += np.bincount(bins, minlength=self._counts.size)

    def histogram(self) -> Histogram:
        """What was counted."""
        used = np.flatnonzero(self._counts)
        edges = used.astype(np.uint32) << _DROPPED
        middle = 0 if self._on_edges else 1 << (_DROPPED - 1)
        values = (edges + np.uint32(middle)).view(np.float32).astype(np.float64)
        values[used == 0] = 0.0
        spread = 0.0 if self._on_edges else 2.0**-7
        return Histogram(values, self._counts[used].astype(np.float64), spread)


@dataclass(frozen=True)
class RatePrediction:
    """What quantizing with one step gives over all tensors.

    Attributes:
        bits: Entropy of all q.
        error_square: Σ (Δ̂ − Δ)², expected.
    """

    bits: float
    error_square: float


@dataclass
class RateSurvey:
    """Statistics of everything that is going to be quantized.

    Attributes:
        histograms: One for each tensor.
        source_square: Σ m_s² over the same tensors and all others.
        delta_square: Σ Δ² over the same tensors.
        spreads: One for each block of them, for rotated rounding.
    """

    histograms: list[Histogram] = field(default_factory=list)
    source_square: float = 0.0
    delta_square: float = 0.0
    spreads: list[BlockStatistics] = field(default_factory=list)
    _side_by_side: tuple[int, StackedStatistics] | None = None

    @property
    def count(self) -> int:
        """Elements surveyed."""
        return int(sum(h.counts.sum() for h in self.histograms))

    @property
    def rms(self) -> float:
        """Root of the mean Δ²."""
        return math.sqrt(self.delta_square / max(1, self.count))

    def predict(self, step: float, rounding: str, rms: float | None = None) -> RatePrediction:
        """Bits and error of a step; if rotated, of runs whose root mean square is `rms`.

        By default that of everything surveyed.
        """
        bits = error = 0.0
        if rounding == ROTATED:
            if self._side_by_side is None or self._side_by_side[0] != len(self.spreads):
                self._side_by_side = len(self.spreads), StackedStatistics(self.spreads)
            known = self._side_by_side[1]
            return RatePrediction(*known.predict(step, self.rms if rms is None else rms))
        for seen in self.histograms:
            scaled = seen.values / step
            width = seen.spread * scaled  # of a bin, in steps: within it all remainders occur
            bits += float(seen.counts @ np.log2(np.maximum(1.0, width)))
            if rounding == NEAREST:
                levels, errors = _nearest(scaled, seen.counts)
                wide = 1 / 12
            else:
                levels, errors = _stochastic(scaled, seen.counts)
                wide = 1 / 6
            bits += _entropy(levels)
            error += float(seen.counts @ np.where(width > 1, wide, errors))
        return RatePrediction(bits, error * step * step)


def _nearest(
    scaled: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Counts of the levels from 0, and the squared error of each bin in steps."""
    lower = np.rint(scaled)
    return _counted(lower, counts), np.square(scaled - lower)


def _stochastic(
    scaled: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same, in expectation."""
    lower = np.floor(scaled)
    part = scaled - lower
    both = np.concatenate([lower, lower + 1])
    shares = np.concatenate([counts * (1 - part), counts * part])
    return _counted(both, shares), part * (1 - part)


def _counted(levels: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[Any]:
    """The shares of each level, summed, from level 0 on; large levels with gaps closed."""
    if levels.max(initial=0.0) < _SMALL:
        return np.bincount(levels.astype(np.intp), shares, minlength=1)
    _, place = np.unique(np.append(levels, 0.0), return_inverse=True)
    return np.bincount(place[:-1], shares)


def _entropy(levels: NDArray[Any]) -> float:
    """Bits of signed levels whose magnitudes have these counts; signs are even."""
    total = float(levels.sum())
    held = levels[levels > 0]
    magnitudes = float(-(held * np.log2(held / total)).sum()) if held.size else 0.0
    return magnitudes + float(levels[1:].sum())


def _solve(grows: Callable[[float], float], target: float, start: float) -> float:
    """The step at which a growing function of it reaches `target`, by bisection."""
    low, high = math.log2(start) - _MAX_BITS, math.log2(start) + 40
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if bool(grows(2.0**middle) < target):
            low = middle
        else:
            high = middle
    return float(2.0**low)


def step_for_bits(survey: RateSurvey, bits: float, rounding: str) -> float:
    """The smallest step whose q take at most `bits` bits in all."""
    return _solve(lambda step: -survey.predict(step, rounding).bits, -bits, survey.rms)


def step_for_error(survey: RateSurvey, error_square: float, rounding: str) -> float:
    """The largest step that keeps Σ (Δ̂ − Δ)² at `error_square`."""
    return _solve(
        lambda step: survey.predict(step, rounding).error_square, error_square, survey.rms
    )


NOISE = 0.01
"""Noise relative to the weights that the default adds; docs/codecs.md shows why."""

COARSE = 0.7
"""Steps of at most this many rms(Δ) are rounded to nearest: below it the smaller error counts,
above it the many changes that nearest rounding would drop together."""


HARM = {NEAREST: 1.0, STOCHASTIC: 1.0, ROTATED: 1.6}
"""What a unit of noise power costs in loss, relative to stochastic rounding, as measured
(docs/codecs.md): stochastic noise lies where |Δ| is large, which is where it harms least."""


def _by_rule(
    step_for: Callable[[str], float],
    cost: Callable[[RatePrediction, str], float],
    survey: RateSurvey,
    rounding: str | None,
) -> tuple[float, str]:
    """The rounding asked for; else nearest if its step is small, else the cheapest unbiased one."""
    if rounding is not None:
        return step_for(rounding), rounding
    nearest = step_for(NEAREST)
    if nearest <= COARSE * survey.rms:
        return nearest, NEAREST
    steps = {kind: step_for(kind) for kind in ROUNDINGS if kind != NEAREST}
    costs = {kind: cost(survey.predict(step, kind), kind) for kind, step in steps.items()}
    best = min(costs, key=costs.__getitem__)
    return steps[best], best


def choose(survey: RateSurvey, noise: float, rounding: str | None) -> tuple[float, str]:
    """Step and rounding that increase the loss as much as this noise, relative to the weights.

    A rounding that is asked for gets exactly this noise; one chosen by rule is allowed the noise
    that harms as much (`HARM`), and the one with the fewest bits is taken.
    """
    wanted = noise * noise * survey.source_square

    def step_for(kind: str) -> float:
        return step_for_error(survey, wanted / (1.0 if rounding else HARM[kind]), kind)

    return _by_rule(step_for, lambda seen, kind: seen.bits, survey, rounding)


def choose_for_bits(survey: RateSurvey, bits: float, rounding: str | None) -> tuple[float, str]:
    """Step and rounding that take this many bits in all and increase the loss least (`HARM`)."""
    return _by_rule(
        lambda kind: step_for_bits(survey, bits, kind),
        lambda seen, kind: seen.error_square * HARM[kind],
        survey,
        rounding,
    )
