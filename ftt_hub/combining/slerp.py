"""Spherical interpolation between two diff vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftt_hub.tensors.chunk_sums import inner_products, weighted_sum

if TYPE_CHECKING:
    from ftt_hub.combining.methods import Merge, Tensor

_PARALLEL = 0.9995
"""|cos Ω| above which the arc is a line to working precision."""


def slerp_coefficients(t: float, ab: float, aa: float, bb: float) -> tuple[float, float]:
    """Factors of a and b at `t` on the arc, from Σab, Σa², Σb²; of a line where there is no arc."""
    if aa == 0 or bb == 0:
        return 1 - t, t
    cosine = ab / math.sqrt(aa) / math.sqrt(bb)
    if abs(cosine) > _PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


@dataclass(frozen=True)
class Slerp:
    """Spherical interpolation of two diff vectors, tensor by tensor.

    Shoemake 1985, "Animating Rotation with Quaternion Curves" (SIGGRAPH); on weights as in Goddard
    et al. 2024, "Arcee's MergeKit", here on Δ instead of the models.

    Attributes:
        t: 0 is the first, 1 the second.
    """

    id: ClassVar[str] = "slerp"
    is_sum: ClassVar[bool] = False
    density: ClassVar[None] = None
    t: float = 0.5

    def plan(self, tensor: Tensor) -> Merge:
        """sin((1−t)Ω)/sin Ω · Δ₀ + sin(tΩ)/sin Ω · Δ₁."""
        if len(tensor.weights) < 2:  # only one input changes this tensor
            return lambda parts, start: weighted_sum(parts, tensor.weights)
        sums = inner_products((parts[0], parts[1]) for parts in tensor.chunks())
        factors = slerp_coefficients(self.t, *sums)
        return lambda parts, start: weighted_sum(parts, factors)
