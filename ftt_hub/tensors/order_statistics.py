"""Order statistics of streamed values, exact and in flat memory.

A magnitude is ranked by the bits of its float32, which sort like the numbers: one pass counts the
upper sixteen bits, a second one the lower sixteen within the bin that holds the rank in question.
No value is kept: a quantile over a whole model needs half a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Pass = Callable[[], Iterable[Floats]]
"""Goes through all values once, a chunk at a time."""

_BINS = 1 << 16


def magnitudes(values: Floats) -> NDArray[np.float32]:
    """|values| rounded to float32: what thresholds are compared with."""
    return np.abs(values.astype(np.float32))


def _bits(values: Floats) -> NDArray[np.uint32]:
    return magnitudes(values).view(np.uint32)


def upper_histogram(values: Floats) -> NDArray[np.int64]:
    """How many magnitudes have each value of their upper sixteen bits."""
    return np.bincount(_bits(values) >> 16, minlength=_BINS)


def lower_histogram(values: Floats, upper: int) -> NDArray[np.int64]:
    """How many have each value of their lower sixteen bits, where the upper ones are `upper`."""
    bits = _bits(values)
    return np.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=_BINS)


def locate(histogram: NDArray[np.int64], rank: int) -> tuple[int, int]:
    """The bin that holds the element of a rank (from 0, ascending), and the rank within it."""
    sums = np.cumsum(histogram)
    bin_number = int(np.searchsorted(sums, rank, side="right"))
    return bin_number, rank - (int(sums[bin_number - 1]) if bin_number else 0)


def magnitude(upper: int, lower: int) -> float:
    """The float32 of these bits."""
    return float(np.array([upper << 16 | lower], np.uint32).view(np.float32)[0])


def magnitudes_at(chunks: Pass, ranks: Sequence[int], zeros: int = 0) -> list[float]:
    """The magnitudes of these ranks (from 0, ascending).

    Args:
        chunks: Goes through the values; called twice.
        ranks: Below the number of values and zeros.
        zeros: Further values that are zero and that `chunks` leaves out.
    """
    total = np.zeros(_BINS, np.int64)
    total[0] = zeros
    for chunk in chunks():
        total += upper_histogram(chunk)
    bins = [locate(total, rank) for rank in ranks]
    lower = {upper: np.zeros(_BINS, np.int64) for upper, _ in bins}
    if 0 in lower:
        lower[0][0] = zeros
    for chunk in chunks():
        for upper, counts in lower.items():
            counts += lower_histogram(chunk, upper)
    return [magnitude(upper, locate(lower[upper], rank)[0]) for upper, rank in bins]


def kept(share: float, count: int) -> int:
    """⌈share · count⌉; rounding errors of the product do not count."""
    return min(count, math.ceil(round(share * count, 6)))
