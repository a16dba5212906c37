"""What a method of combining diff vectors is, and the two plain ones: sum and average.

A method sees one tensor of all inputs at a time. It may read the values once or twice for what it
needs (a quantile, an angle), and returns a function from chunks of the inputs to the combined
chunk. The result is a Δ again: added to m_t it gives the merged model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ftt_hub.tensors.chunk_sums import Floats, weighted_sum

Merge = Callable[[Sequence[Floats], int], Floats]
"""Chunks of all inputs and their first element → the combined chunk."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of several diff vectors.

    Attributes:
        name: Checkpoint name.
        count: Number of elements.
        weights: One per input; none is zero.
        keys: One per input; identifies its content and seeds its random numbers.
        thresholds: One per input: the smallest magnitude kept, where the method has a `density`.
        chunks: Yields the values of all inputs in float64, a chunk at a time.
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
    of a greedy soup (recipe 1 there); their mean is the soup.
    """

    id: ClassVar[str] = "average"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None

    def plan(self, tensor: Tensor) -> Merge:
        """Σ Δᵢ / n."""
        count = len(tensor.weights)
        return lambda parts, start: weighted_sum(parts, [1.0] * count) / count
