"""Codec `anchored`: lossless in the fewest bits, decoded against the source base.

m'_s is coded as its distance from m_s in ulps (units in the last place, steps of the dtype's own
grid), which needs no lo. The distances are grouped by the exponent of m_s, because one ulp of a
small weight is a smaller change than one ulp of a large one; the decoder has m_s, so the order is
not stored. A frame is a plane a group (`planes`), each after its u32 length, in the order of the
exponents; groups of fewer than 4,096 elements are joined with the next one. An empty frame changes
nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.entropy.ordered import from_ordered, to_ordered
from ftt_hub.codecs.entropy.planes import Plane, decode_plane, encode_plane
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock, identity
from ftt_hub.tensors.difference import difference
from ftt_hub.tensors.dtypes import BF16, F16, F32, Bits, DType
from ftt_hub.tensors.rounding import all_finite

GROUP_ELEMENTS = 4096

_LENGTH = struct.Struct("<I")
_MANTISSA_BITS = {BF16.name: 7, F16.name: 10, F32.name: 23}


@dataclass(frozen=True)
class AnchoredCodec(Codec):
    """Stores the fine-tuned model against its source base, for archives and redistribution."""

    id: ClassVar[str] = "anchored"
    exact: ClassVar[bool] = True
    needs_source: ClassVar[bool] = True

    def encode(self, block: DeltaBlock, context: BlockContext) -> bytes:
        if block.is_identity:
            return b""
        if context.source is None or context.tuned is None:
            raise CodecError(
                "nothing to anchor to", where=context.name, expected="both models' bits"
            )
        order, groups = _grouped(context.source, block.dtype)
        before = to_ordered(context.source, block.dtype)
        distance = np.subtract(to_ordered(context.tuned, block.dtype), before, out=before)[order]
        frame = b""
        for part in groups:
            plane = encode_plane(distance[part])
            frame += _LENGTH.pack(len(plane)) + plane
        return frame

    def decode(
        self,
        frame: bytes,
        count: int,
        dtype: DType,
        source: Bits | None = None,
        first: bytes | None = None,
    ) -> DeltaBlock:
        if not frame:
            return identity(count, dtype)
        if source is None or source.size != count:
            raise CodecError(
                "an anchored frame decodes against the source base only",
                expected=f"{count} elements of it",
                found="none" if source is None else f"{source.size}",
            )
        tuned = self._tuned(frame, dtype, source)
        if not all_finite(tuned, dtype) or not all_finite(source, dtype):
            raise CodecError("decodes to NaN or infinity", hint="Is this the source base?")
        return _difference(source, tuned, dtype)

    def _tuned(self, frame: bytes, dtype: DType, source: Bits) -> Bits:
        order, groups = _grouped(source, dtype)
        distance: Plane = np.empty(source.size, np.dtype(f"<i{dtype.itemsize}"))
        start = 0
        for part in groups:
            end = start + _LENGTH.size
            length = _LENGTH.unpack_from(frame, start)[0] if end <= len(frame) else 0
            if length == 0 or end + length > len(frame):
                raise CodecError("frame is cut short", expected="a plane for each group")
            decode_plane(frame[end : end + length], distance[part])
            start = end + length
        if start != len(frame):
            raise CodecError(
                "frame has another length", expected=f"{start} bytes", found=f"{len(frame)} bytes"
            )
        tuned = to_ordered(source, dtype)
        tuned[order] += distance
        return from_ordered(tuned, dtype)


def _grouped(source: Bits, dtype: DType) -> tuple[NDArray[np.intp], list[slice]]:
    """Order of the elements by exponent (stable), and the groups as slices of that order."""
    magnitude = np.bitwise_and(source, source.dtype.type(dtype.sign_bit - 1))
    exponent = np.right_shift(magnitude, _MANTISSA_BITS[dtype.name]).astype(np.uint8)
    order = np.argsort(exponent, kind="stable")
    counts = np.bincount(exponent, minlength=256)
    return order, list(_groups(counts))


def _groups(counts: NDArray[np.intp]) -> Iterator[slice]:
    """Slices of at least GROUP_ELEMENTS elements, but for the last one."""
    start, end, total = 0, 0, int(counts.sum())
    for count in counts.tolist():
        end += count
        if end - start >= GROUP_ELEMENTS and total - end >= GROUP_ELEMENTS:
            yield slice(start, end)
            start = end
    if start < total:
        yield slice(start, total)


def _difference(source: Bits, tuned: Bits, dtype: DType) -> DeltaBlock:
    """Tuned − source as hi + lo."""
    change = difference(source, tuned, dtype)
    return DeltaBlock(change.hi, change.lo, dtype, change.places)
