"""The contract of a codec: a block of Δ to bytes and back, pure and deterministic.

A codec id is a promise: bytes written under it decode for ever. Changed behaviour is a new id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, DType

if TYPE_CHECKING:
    from ftt_hub.codecs.lossy.factors import FixedFactors


@dataclass(frozen=True)
class BlockContext:
    """What surrounds a block, for the codecs whose frames depend on more than the block.

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


class Codec(ABC):
    """Encoder and decoder of blocks.

    A new codec sets `id` and `exact` and implements `encode` and `decode`. The other attributes and
    methods describe what only some codecs can do; their defaults are right for the rest.

    Attributes:
        id: The name written into every container.
        exact: Whether every block comes back bit for bit.
        needs_source: Whether frames decode against the source base's bits only.
        needs_first: Whether frames decode together with the first frame of their tensor.
        needs_factors: Whether encoding needs the factors of Δ, which two checkpoints do not tell.
        delta_dtype: Dtype of every Δ it stores; ``None`` for the wider one of the two models.
    """

    id: ClassVar[str]
    exact: ClassVar[bool]
    needs_source: ClassVar[bool] = False
    needs_first: ClassVar[bool] = False
    needs_factors: ClassVar[bool] = False
    delta_dtype: ClassVar[DType | None] = None

    @abstractmethod
    def encode(self, block: DeltaBlock, context: BlockContext) -> bytes:
        """One frame; empty when the block changes nothing."""

    @abstractmethod
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
        """What `adapter_config.json` records beside the id, JSON-ready; by default nothing."""
        return {}

    def for_tensor(
        self, name: str, shape: tuple[int, ...], source_shape: tuple[int, ...] | None
    ) -> Self | None:
        """The codec of one tensor; ``None`` where codec `exact` stores it instead.

        Norms and biases are tiny and sensitive, and an added tensor is values and not changes:
        unless overridden, only a codec that is exact without the source base stores them.

        Args:
            name: Checkpoint name.
            shape: Shape in the fine-tuned model.
            source_shape: Shape in the source base; ``None`` for an added tensor.
        """
        del name
        small = len(shape) < 2 or source_shape is None
        return None if small and (self.needs_source or not self.exact) else self

    def measure(self, stored: DeltaBlock, context: BlockContext) -> tuple[float, float] | None:
        """Σ Δ² and Σ (Δ̂ − Δ)² of a decoded block where the codec knows Δ better than the block.

        ``None``, the default: Δ is the block that was encoded.
        """
        del stored, context
        return None

    def factors(self, frames: Iterable[tuple[bytes, int]], columns: int) -> FixedFactors | None:
        """The factors of a tensor from its untrusted frames and their elements, in order.

        ``None``, the default: frames hold no factors; none of them is then read.

        Raises:
            CodecError: A frame is malformed or does not fit the others.
        """
        del frames, columns
        return None
