"""A run of elements of Δ, as two numbers per element: the difference and its rounding error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.tensors.dtypes import Bits, DType

_GLANCE = 1 << 10  # elements that mostly show already that a block changes something


@dataclass(frozen=True)
class DeltaBlock:
    """A run of elements of Δ as an unevaluated sum hi + lo (see `ftt_hub.tensors.delta`).

    Attributes:
        hi: Bits of the difference rounded to `dtype`; −0.0 where nothing changes. 1-D.
        lo: Bits of the rounding error, or ``None`` when it is zero everywhere.
        dtype: BF16, F16 or F32.
        known_places: Where lo is not +0.0, ascending, if whoever made the block knew.
        changed: Where hi may be anything but −0.0, ascending, if the block is sparse and was stored
            so: adding it then touches these elements only.
    """

    hi: Bits
    lo: Bits | None
    dtype: DType
    known_places: NDArray[np.intp] | None = None
    changed: NDArray[np.intp] | None = None

    @property
    def places(self) -> NDArray[np.intp]:
        """Where lo is not +0.0, ascending."""
        if self.lo is None:
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.lo != 0) if self.known_places is None else self.known_places

    def part(self, selection: slice | NDArray[Any]) -> DeltaBlock:
        """The elements selected by a slice or index array."""
        return DeltaBlock(
            self.hi[selection], None if self.lo is None else self.lo[selection], self.dtype
        )

    @property
    def is_identity(self) -> bool:
        """Whether adding this block changes nothing, down to the sign of zero."""
        none = self.dtype.sign_bit
        return (
            self.lo is None
            and bool((self.hi[:_GLANCE] == none).all())
            and bool((self.hi == none).all())
        )

    def equals(self, other: DeltaBlock) -> bool:
        """Whether both hold the same bits."""
        own_places, other_places = self.places, other.places
        if self.dtype != other.dtype or not np.array_equal(own_places, other_places):
            return False
        same_lo = (
            self.lo is None
            or other.lo is None
            or np.array_equal(self.lo[own_places], other.lo[other_places])
        )
        return same_lo and np.array_equal(self.hi, other.hi)


def scattered(
    values: Bits, places: NDArray[np.intp], count: int, dtype: DType
) -> tuple[Bits, NDArray[np.intp]]:
    """Bits of hi with values at some places and "no change" elsewhere, and the places."""
    hi = np.full(count, dtype.sign_bit, dtype.numpy)
    hi[places] = values
    return hi, places


def identity(count: int, dtype: DType) -> DeltaBlock:
    """A block that changes nothing: what an empty frame stands for in every codec."""
    return DeltaBlock(np.full(count, dtype.sign_bit, dtype.numpy), None, dtype)
