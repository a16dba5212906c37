"""The ways to combine diff vectors: pure arithmetic on float64 chunks, one class a method.

A method sees one tensor at a time as a `Tensor` of several inputs, may go through it for what it
needs (a quantile, an angle), and returns a function from chunks of the inputs to the combined
chunk. The result is a Δ again: added to m_t it gives the merged model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ftt_hub.combining.statistics import Floats

Merge = Callable[[Sequence[Floats], int], Floats]
"""Chunks of all inputs and their first element → the combined chunk."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of several diff vectors.

    Attributes:
        name: Checkpoint name.
        count: Elements.
        weights: Of the inputs; none is zero.
        keys: What identifies each input, for its random numbers.
        thresholds: Of each input, where the method has a `density`: the smallest magnitude kept.
        chunks: Goes through all inputs' values, a chunk at a time.
    """

    name: str
    count: int
    weights: Sequence[float]
    keys: Sequence[str]
    thresholds: Sequence[float]
    chunks: Callable[[], Iterator[list[Floats]]]


class Method(Protocol):
    """How inputs become one.

    Attributes:
        id: Its name in a recipe.
        density: Share of each input's elements that are kept over the whole model, if that needs
            a threshold before the first tensor is made; else ``None``.
        is_sum: Whether it is the plain weighted sum.
    """

    id: ClassVar[str]
    is_sum: ClassVar[bool]

    @property
    def density(self) -> float | None: ...  # noqa: D102

    def plan(self, tensor: Tensor) -> Merge:
        """The combination of one tensor."""


def weighted_sum(parts: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Σ wᵢ·Δᵢ, in the order of the recipe."""
    total = np.zeros_like(parts[0])
    for part, weight in zip(parts, weights, strict=True):
        total += part if weight == 1.0 else weight * part
    return total


@dataclass(frozen=True)
class Linear:
    """Task arithmetic: Σ λᵢ·Δᵢ, any λ; a negative one makes the model forget.

    Ilharco et al. 2023, "Editing Models with Task Arithmetic" (ICLR).
    """

    id: ClassVar[str] = "linear"
    is_sum: ClassVar[bool] = True
    density: ClassVar[None] = None

    def plan(self, tensor: Tensor) -> Merge:
        """Σ λᵢ·Δᵢ."""
        weights = tensor.weights
        return lambda parts, start: weighted_sum(parts, weights)


@dataclass(frozen=True)
class Average:
    """Uniform soup: the mean of the Δᵢ, which is the mean of the models.

    Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time" (ICML). `combining.greedy` chooses the ingredients
    of a greedy soup (recipe 1 there) and ends here.
    """

    id: ClassVar[str] = "average"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None

    def plan(self, tensor: Tensor) -> Merge:
        """Σ Δᵢ / n."""
        count = len(tensor.weights)
        return lambda parts, start: weighted_sum(parts, [1.0] * count) / count
