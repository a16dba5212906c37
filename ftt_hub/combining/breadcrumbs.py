"""Model Breadcrumbs: neither the largest changes nor the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ftt_hub.tensors.chunk_sums import Floats, weighted_sum
from ftt_hub.tensors.order_statistics import kept, magnitudes, magnitudes_at

if TYPE_CHECKING:
    from ftt_hub.combining.methods import Merge, Tensor


@dataclass(frozen=True)
class Breadcrumbs:
    """Model Breadcrumbs: mask the largest and the smallest changes of every tensor, then sum.

    Davari and Belilovsky 2023, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse
    Masks" (ECCV 2024), section 3; β and γ are shares of each tensor, as there.

    Attributes:
        bottom: β, the share of the smallest elements that are masked.
        top: 1 − γ, the share of the largest.
    """

    id: ClassVar[str] = "breadcrumbs"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None
    bottom: float = 0.85
    top: float = 0.007

    def plan(self, tensor: Tensor) -> Merge:
        """Σ λᵢ · mask(Δᵢ)."""
        lowest = min(tensor.count - kept(1 - self.bottom, tensor.count), tensor.count - 1)
        highest = max(lowest, kept(1 - self.top, tensor.count) - 1)
        limits = []
        for number in range(len(tensor.weights)):

            def chunks(number: int = number) -> Iterator[Floats]:
                return (parts[number] for parts in tensor.chunks())

            low, high = magnitudes_at(chunks, (lowest, highest))
            limits.append((np.float32(low), np.float32(high)))
        weights = tensor.weights

        def masked(part: Floats, limit: tuple[np.float32, np.float32]) -> Floats:
            size = magnitudes(part)
            return np.where((size >= limit[0]) & (size <= limit[1]), part, 0.0)

        return lambda parts, start: weighted_sum(
            [masked(p, limit) for p, limit in zip(parts, limits, strict=True)], weights
        )
