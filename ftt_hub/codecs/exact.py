"""Codec `exact`: lossless and self-contained; it needs no base to decode.

A frame is::

    u32 × 4 little-endian   elements whose lo is not +0.0; bytes of each of the three planes
    hi plane                all of hi, as ordered integers; or coder byte 4, u32 × 2 (number of
                            elements that change, bytes of the next), a places plane of them, and
                            a plane of their hi
    places plane            int32, the zeros of lo before each element that is not
    lo plane                those elements of lo, relative to hi

A plane is a coder byte and its payload (`planes`; of hi also `symbols`); without lo the last two
are absent. Hi is mapped
to signed integers in the order of the values they stand for, with 0 for "no change" (−0.0), so that
the entropy coder sees one peak. What rounding hi cut off is at most half a unit of its last place,
so lo's exponent is stored as its distance below that of hi. An empty frame changes nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.entropy.ordered import from_ordered, to_ordered
from ftt_hub.codecs.entropy.planes import (
    Buffer,
    Plane,
    decode_places,
    decode_plane,
    encode_places,
    encode_plane,
    sampled,
)
from ftt_hub.codecs.entropy.symbols import SAMPLE, decode_values, encode_values
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock, identity, scattered
from ftt_hub.tensors.dtypes import Bits, DType

SPARSE = 4
SPARSE_BELOW = 0.125
"""Share of changed elements below which their positions are coded instead of all of hi."""

_SPARSE_HEAD = struct.Struct("<BII")
_HEAD = struct.Struct("<IIII")


@dataclass(frozen=True)
class ExactCodec(Codec):
    """Stores Δ = hi + lo without error, about 2 to 9 bits per weight for BF16."""

    id: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True

    def encode(self, block: DeltaBlock, context: BlockContext) -> bytes:
        del context
        if block.is_identity:
            return b""
        hi = _encode_hi(block.hi, block.dtype)
        places = block.places
        coded_places = lo = b""
        if block.lo is not None and places.size:
            relative = _relative(block.lo[places], block.hi[places], block.dtype)
            side = places.size < block.hi.size // 32
            coded_places, lo = encode_places(places, side=side), encode_plane(relative, side=side)
        return _HEAD.pack(places.size, len(hi), len(coded_places), len(lo)) + hi + coded_places + lo

    def decode(
        self,
        frame: bytes,
        count: int,
        dtype: DType,
        source: Bits | None = None,
        first: bytes | None = None,
    ) -> DeltaBlock:
        del source
        if not frame:
            return identity(count, dtype)
        if len(frame) < _HEAD.size:
            raise CodecError("frame is cut short", expected="a head")
        number, *lengths = _HEAD.unpack_from(frame)
        if _HEAD.size + sum(lengths) != len(frame) or number > count:
            raise CodecError(
                "the head does not match the frame",
                expected=f"{_HEAD.size + sum(lengths)} bytes, at most {count} elements",
                found=f"{len(frame)} bytes, {number} elements",
            )
        second = _HEAD.size + lengths[0]
        third = second + lengths[1]
        view = memoryview(frame)  # slices of it copy nothing
        hi, changed = _decode_hi(view[_HEAD.size : second], count, dtype)
        if not number:
            return DeltaBlock(hi, None, dtype, None, changed)
        places = decode_places(view[second:third], number, count)
        lo = np.zeros_like(hi)
        lo[places] = _absolute(_plane(view[third:], number, dtype), hi[places], dtype)
        return DeltaBlock(hi, lo, dtype, places, changed)


def _encode_hi(hi: Bits, dtype: DType) -> bytes:
    """The hi plane, or only its changed elements where these are few."""

    def ordered(bits: Bits) -> Plane:
        return to_ordered(bits, dtype)

    if np.count_nonzero(sampled(hi, SAMPLE) != dtype.sign_bit) > min(hi.size, SAMPLE) // 2:
        return encode_values(hi, ordered)  # far from sparse
    same = hi == dtype.sign_bit
    if not 0 < hi.size - int(np.count_nonzero(same)) <= SPARSE_BELOW * hi.size:
        return encode_values(hi, ordered)
    changed = np.flatnonzero(~same)
    places = encode_places(changed)
    head = _SPARSE_HEAD.pack(SPARSE, changed.size, len(places))
    return head + places + encode_values(hi[changed], ordered)


def _decode_hi(data: Buffer, count: int, dtype: DType) -> tuple[Bits, NDArray[np.intp] | None]:
    """Bits of hi, and the positions of its changed elements if these were stored."""

    def bits(integers: Plane) -> Bits:
        return from_ordered(integers, dtype)

    if bytes(data[:1]) != bytes([SPARSE]):
        return decode_values(data, count, dtype.itemsize, bits), None
    if len(data) < _SPARSE_HEAD.size:
        raise CodecError("frame is cut short", expected="the head of a sparse plane")
    _, number, length = _SPARSE_HEAD.unpack_from(data)
    second = _SPARSE_HEAD.size + length
    if not 0 < number <= count or second >= len(data):
        raise CodecError(
            "the head does not match the sparse plane",
            expected=f"1 to {count} elements",
            found=number,
        )
    places = decode_places(data[_SPARSE_HEAD.size : second], number, count)
    values = decode_values(data[second:], number, dtype.itemsize, bits)
    return scattered(values, places, count, dtype)


def _relative(lo: Bits, hi: Bits, dtype: DType) -> Plane:
    """Lo as (hi's exponent − lo's, lo's mantissa, lo's sign), the exponents modulo their range."""
    kind = lo.dtype.type
    exponents, sign = kind(dtype.infinity), dtype.bits - 1
    distance = ((hi & exponents) - (lo & exponents)) & exponents
    mantissa = lo & kind(dtype.sign_bit - 1 - dtype.infinity)
    return (((distance | mantissa) << kind(1)) | (lo >> kind(sign))).view(f"<i{dtype.itemsize}")


def _absolute(plane: Plane, hi: Bits, dtype: DType) -> Bits:
    """Inverse of `_relative`."""
    code = plane.view(dtype.numpy)
    kind = code.dtype.type
    exponents, sign = kind(dtype.infinity), dtype.bits - 1
    exponent = ((hi & exponents) - ((code >> kind(1)) & exponents)) & exponents
    mantissa = (code >> kind(1)) & kind(dtype.sign_bit - 1 - dtype.infinity)
    bits: Bits = exponent | mantissa | (code << kind(sign))
    return bits


def _plane(data: Buffer, count: int, dtype: DType) -> Plane:
    plane: Plane = np.empty(count, dtype=np.dtype(f"<i{dtype.itemsize}"))
    decode_plane(data, plane)
    return plane
