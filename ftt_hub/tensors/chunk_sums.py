"""Sums over chunks of several tensors in float64, always in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weighted_sum(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Σ wᵢ·xᵢ, added up in the order given.

    Args:
        parts: Arrays of one shape.
        weights: One per array; 1 multiplies nothing, so that the bits stay.
    """
    total = np.zeros_like(parts[0])
    for part, weight in zip(parts, weights, strict=True):
        total += part if weight == 1.0 else weight * part
    return total


def inner_products(chunks: Iterable[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Σab, Σa² and Σb² over pairs of chunks, added up in their order."""
    ab = aa = bb = 0.0
    for a, b in chunks:
        ab += float((a * b).sum())
        aa += float((a * a).sum())
        bb += float((b * b).sum())
    return ab, aa, bb
