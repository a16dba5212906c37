"""TIES and DARE: fewer changes, and agreement on their signs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ftt_hub.codecs.lossy.dither import uniforms
from ftt_hub.tensors.chunk_sums import Floats, weighted_sum
from ftt_hub.tensors.order_statistics import magnitudes

if TYPE_CHECKING:
    from ftt_hub.combining.methods import Merge, Tensor

_LEVELS = 1 << 16  # of `uniforms`


def elect_and_merge(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """TIES steps 2 and 3: the sign with more mass, then the mean of those that have it.

    γ = sgn(Σ wᵢ·τᵢ), and Σ wᵢ·τᵢ / Σ wᵢ over the inputs whose sign is γ. Without weights this is
    Algorithm 1 of the paper. Where the sum is zero there is no sign, and the result is zero.
    """
    elected = np.sign(weighted_sum(parts, weights))
    total, mass = np.zeros_like(elected), np.zeros_like(elected)
    for part, weight in zip(parts, weights, strict=True):
        agrees = (np.sign(part) == elected) & (elected != 0)
        total += np.where(agrees, weight * part, 0.0)
        mass += np.where(agrees, weight, 0.0)
    return np.divide(total, mass, out=np.zeros_like(total), where=mass > 0)


def _trimmed(parts: Sequence[Floats], thresholds: Sequence[float]) -> list[Floats]:
    return [
        np.where(magnitudes(part) >= np.float32(threshold), part, 0.0)
        for part, threshold in zip(parts, thresholds, strict=True)
    ]


@dataclass(frozen=True)
class Ties:
    """TIES: trim small changes, elect a sign, merge those that agree with it.

    Yadav et al. 2023, "TIES-Merging: Resolving Interference When Merging Models" (NeurIPS),
    Algorithm 1. The trim is over the whole diff vector of an input, as in the authors' code.

    Attributes:
        density: Share of the elements kept (k in the paper); ties with the smallest one stay.
        scale: λ on the merged Δ.
    """

    id: ClassVar[str] = "ties"
    is_sum: ClassVar[bool] = False
    density: float = 0.2
    scale: float = 1.0

    def plan(self, tensor: Tensor) -> Merge:
        """λ · merge(elect(trim(Δᵢ)))."""
        weights, thresholds = tensor.weights, tensor.thresholds
        return lambda parts, start: (
            self.scale * elect_and_merge(_trimmed(parts, thresholds), weights)
        )


def levels_dropped(drop: float) -> int:
    """Of the 2¹⁶ equally likely random numbers, those that drop an element."""
    return min(_LEVELS - 1, math.ceil(drop * _LEVELS - 0.5))


def drop_and_rescale(part: Floats, drop: float, seed: int, key: str, start: int) -> Floats:
    """DARE: each element zero with probability p, else divided by 1 − p.

    p is rounded to a multiple of 2⁻¹⁶ for both, so that the expectation is the input exactly.
    """
    dropped = levels_dropped(drop)
    stays = uniforms(seed, key, start, part.size) * np.float32(_LEVELS) > dropped
    return np.where(stays, part, 0.0) * (_LEVELS / (_LEVELS - dropped))


def _thinned(
    parts: Sequence[Floats], tensor: Tensor, drop: float, seed: int, start: int
) -> list[Floats]:
    return [
        drop_and_rescale(part, drop, seed, f"{key} {tensor.name}", start)
        for part, key in zip(parts, tensor.keys, strict=True)
    ]


@dataclass(frozen=True)
class Dare:
    """DARE: drop elements at random, rescale the rest, then the weighted sum.

    Yu et al. 2024, "Language Models are Super Mario: Absorbing Abilities from Homologous Models as
    a Free Lunch" (ICML), eq. 1–2. The random numbers depend on seed, adapter, tensor and element
    only, so that any number of threads gives the same bytes.

    Attributes:
        drop: p, the probability that an element is dropped.
        seed: Seed of the random numbers.
    """

    id: ClassVar[str] = "dare"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None
    drop: float = 0.9
    seed: int = 0

    def plan(self, tensor: Tensor) -> Merge:
        """Σ λᵢ · dare(Δᵢ)."""
        weights = tensor.weights
        return lambda parts, start: weighted_sum(
            _thinned(parts, tensor, self.drop, self.seed, start), weights
        )


@dataclass(frozen=True)
class DareTies:
    """DARE, then the sign election and merge of TIES (Yu et al. 2024, section 3.3).

    There is no trim. The authors' code keeps the largest fifth of a vector of which DARE leaves a
    tenth, so that it trims nothing either.

    Attributes:
        drop: p of DARE.
        scale: λ on the merged Δ.
        seed: Seed of the random numbers.
    """

    id: ClassVar[str] = "dare_ties"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None
    drop: float = 0.9
    scale: float = 1.0
    seed: int = 0

    def plan(self, tensor: Tensor) -> Merge:
        """λ · merge(elect(dare(Δᵢ)))."""
        weights = tensor.weights
        return lambda parts, start: (
            self.scale
            * elect_and_merge(_thinned(parts, tensor, self.drop, self.seed, start), weights)
        )
