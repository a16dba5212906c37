"""Bits and noise of Gaussian coefficients that are rounded to a uniform grid.

Rotated weights are nearly Gaussian whatever they were before, so that these two functions of the
step predict a frame without making it. Bits are order-0 entropies; noise is that of the unbiased
x̂ = (‖x‖² / ⟨x, q⟩) q, which is E[q²] E[x²] / E[xq]² − 1 times ‖x‖².
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

_SMALLEST, _LARGEST, _POINTS = 0.02, 11.0, 256
"""Steps in standard deviations: below it codecs that are exact are smaller, and above it one
coefficient in 10⁷ is not zero."""


Numbers = NDArray[np.float64]


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _point(step: float) -> tuple[float, float, float]:
    """Bits, noise, and the part of coefficients that is not zero, of one step."""
    zero = math.erf(step / 2 / math.sqrt(2))
    bits = -zero * math.log2(zero)
    inner = square = 0.0
    for level in range(1, 2 + math.ceil(9 / step)):
        low, high = (level - 0.5) * step, (level + 0.5) * step
        part = (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))) / 2
        if part <= 0:
            break
        bits -= 2 * part * math.log2(part)
        inner += 2 * level * (_density(low) - _density(high))
        square += 2 * level * level * part
    return bits, square / (inner * inner) - 1, 1 - zero


@cache
def _table() -> tuple[Numbers, Numbers, Numbers, Numbers]:
    steps = np.geomspace(_SMALLEST, _LARGEST, _POINTS)
    bits, noise, kept = np.array([_point(float(step)) for step in steps]).T
    return np.log(steps), bits, np.log(np.maximum(noise, 1e-12)), np.log(np.maximum(kept, 1e-9))


def bits(steps: Numbers) -> Numbers:
    """Bits per coefficient for steps in standard deviations."""
    where, known, _, _ = _table()
    return np.asarray(np.interp(np.log(steps), where, known), np.float64)


def noise(steps: Numbers, width: Numbers) -> Numbers:
    """Squared error of an unbiased coefficient over its variance, in runs of `width`.

    The gain of a run is a mean over the few coefficients that are not zero, about k of them, and
    E[1/k] is larger than 1/E[k]: by 1/E[k] of it, to first order.
    """
    where, _, known, kept = _table()
    steps = np.log(steps)
    few = np.minimum(1.0, np.exp(-np.interp(steps, where, kept)) / np.maximum(width, 1.0))
    return np.asarray(np.exp(np.interp(steps, where, known)) * (1 + few), np.float64)
