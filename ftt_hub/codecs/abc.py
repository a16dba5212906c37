"""The contract of a codec: a block of Δ to bytes and back, pure and deterministic.

A codec id is a promise: bytes written under it decode for ever. Changed behaviour is a new id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ftt_hub.tensors.dtypes import Bits, DType


@dataclass(frozen=True)
class DeltaBlock:
    """A run of elements of Δ as an unevaluated sum hi + lo (see `ftt_hub.delta`).

    Attributes:
        hi: Bits of the difference rounded to `dtype`; −0.0 where nothing changes. 1-D.
        lo: Bits of the rounding error, or ``None`` when it is zero everywhere.
        dtype: BF16, F16 or F32.
    """

    hi: Bits
    lo: Bits | None
    dtype: DType

    def part(self, where: slice | NDArray[Any]) -> DeltaBlock:
        """The elements selected by a slice or index array."""
        return DeltaBlock(self.hi[where], None if self.lo is None else self.lo[where], self.dtype)

    @property
    def is_identity(self) -> bool:
        """Whether adding this block changes nothing, down to the sign of zero."""
        return self.lo is None and bool((self.hi == self.dtype.sign_bit).all())

    def equals(self, other: DeltaBlock) -> bool:
        """Whether both hold the same bits."""
        mine, theirs = (np.zeros_like(d.hi) if d.lo is None else d.lo for d in (self, other))
        same = np.array_equal(self.hi, other.hi) and np.array_equal(mine, theirs)
        return self.dtype == other.dtype and same


class Codec(Protocol):
    """Encoder and decoder of blocks.

    Attributes:
        id: The name written into every container.
    """

    id: ClassVar[str]

    def encode(self, block: DeltaBlock) -> bytes:
        """One frame; empty when the block changes nothing."""

    def decode(self, frame: bytes, count: int, dtype: DType) -> DeltaBlock:
        """`count` elements from a frame.

        Raises:
            CodecError: The frame is malformed or holds another number of elements.
        """

    def parameters(self) -> dict[str, object]:
        """What `adapter_config.json` records beside the id, JSON-ready."""
