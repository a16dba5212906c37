"""The contract of a codec: a block of Δ to bytes and back, pure and deterministic.

A codec id is a promise: bytes written under it decode for ever. Changed behaviour is a new id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, DType


@dataclass(frozen=True)
class Place:
    """Where a block lies, for the codecs whose frames depend on more than the block.

    Attributes:
        name: Checkpoint name of the tensor.
        start: The block's first element within the tensor.
        source: Bits of the source base there, in the delta's dtype.
        tuned: Bits of the fine-tuned model there, likewise.
        columns: Elements of a row, where the block is whole rows of a matrix; else 0.
    """

    name: str = ""
    start: int = 0
    source: Bits | None = None
    tuned: Bits | None = None
    columns: int = 0


class Codec(Protocol):
    """Encoder and decoder of blocks.

    Attributes:
        id: The name written into every container.
        exact: Whether every block comes back bit for bit.
        needs_source: Whether frames decode against the source base's bits only.
        needs_first: Whether frames decode together with the first frame of their tensor.
    """

    id: ClassVar[str]
    exact: ClassVar[bool]
    needs_source: ClassVar[bool]
    needs_first: ClassVar[bool]

    def encode(self, block: DeltaBlock, place: Place) -> bytes:
        """One frame; empty when the block changes nothing."""

    def decode(
        self,
        frame: bytes,
        count: int,
        dtype: DType,
        source: Bits | None = None,
        first: bytes | None = None,
    ) -> DeltaBlock:
        """`count` elements from a frame.

        Args:
            frame: Bytes made by `encode`.
            count: Elements it was made of.
            dtype: Their dtype.
            source: Bits of the source base there, in that dtype; only read by codecs that need
                the source base.
            first: The tensor's first frame, where this is a later one; only read by codecs that
                need it.

        Raises:
            CodecError: The frame is malformed or holds another number of elements.
        """

    def parameters(self) -> dict[str, object]:
        """What `adapter_config.json` records beside the id, JSON-ready."""
