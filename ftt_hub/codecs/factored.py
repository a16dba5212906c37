"""Codec `factored`: a low-rank Δ as its two factors in fixed point; self-contained and lossy.

The first frame of a tensor is::

    u8, u32, u32, f64, f64      1, rank, columns, step of the left factor, of the right
    u32, u32                    bytes of the right factor, of the left
    right factor                rank × columns
    left factor                 rows of the block × rank

and every other one is a byte 2, a u32 and so many bytes of its rows of the left factor: it decodes
with the first frame. A factor is a byte, the spare bits s (0, 13 or 16), and a plane (`planes`):
int32 of the integers for s = 0, else sign · (bits of the magnitude as float32 >> s), in int32 or
(s = 16) int16: F16 and BF16 numbers in few bins. Decoding multiplies the integers exactly
(`factors`), then by both steps in float64, and rounds once to the delta's dtype; there is no lo. An
empty frame changes nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.entropy.planes import Plane, decode_plane, encode_plane
from ftt_hub.codecs.lossy.factors import (
    FLOAT_BITS,
    MAX_RIGHT,
    Doubles,
    FixedFactors,
    Integers,
    fix,
    products,
    short_bits,
)
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock, identity
from ftt_hub.tensors.dtypes import F32, Bits, DType
from ftt_hub.tensors.rounding import widen

FIRST, LATER = 1, 2
MOST = 1 << FLOAT_BITS
"""Largest integer that is stored as a float."""

_HEAD = struct.Struct("<BIIddII")
_LATER_HEAD = struct.Struct("<BI")
_PLANES: dict[int, np.dtype[np.signedinteger]] = {
    0: np.dtype("<i4"),
    13: np.dtype("<i4"),
    16: np.dtype("<i2"),
}


@dataclass(frozen=True)
class PlainFactors:
    """Δ = left · right as it was given, in float64."""

    left: Doubles
    right: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of Δ."""
        return int(self.left.shape[0]), int(self.right.shape[1])


@dataclass(frozen=True)
class FactoredCodec(Codec):
    """Stores Δ of rank r in r (rows + columns) numbers of some 11 to 21 bits.

    Attributes:
        find: The factors of a tensor by its name, ``None`` where it has none.
        given: The factors of the one tensor that is being stored.
        fixed: They, in fixed point.
    """

    id: ClassVar[str] = "factored"
    exact: ClassVar[bool] = False
    needs_first: ClassVar[bool] = True
    needs_factors: ClassVar[bool] = True
    delta_dtype: ClassVar[DType] = F32

    find: Callable[[str], PlainFactors | None] | None = None
    given: PlainFactors | None = None
    fixed: FixedFactors | None = None

    def for_tensor(
        self, name: str, shape: tuple[int, ...], source_shape: tuple[int, ...] | None
    ) -> Self | None:
        """The codec with the tensor's factors; ``None`` where they are unknown or of no use."""
        factors = None if self.find is None else self.find(name)
        if factors is None or not factors.shape == shape == source_shape:
            return None
        if not factors.left.any() or not factors.right.any():
            return None
        fixed = fix(factors.left, factors.right)
        if fixed.rank >= min(shape) or fixed.right.size > MAX_RIGHT:
            return None
        return type(self)(given=factors, fixed=fixed)

    def encode(self, block: DeltaBlock, context: BlockContext) -> bytes:
        if self.fixed is not None:
            columns = self.fixed.shape[1]
            return frame(self.fixed, context.start // columns, block.hi.size // columns)
        if block.is_identity:
            return b""
        values = widen(block.hi, block.dtype).astype(np.float64)
        if block.lo is not None:
            values += widen(block.lo, block.dtype)
        if not values.any():
            return b""
        return frame(fix(np.ones((1, 1)), values[None]), 0, 1)

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
        return DeltaBlock(unpack(frame, count, first).product(dtype), None, dtype)

    def measure(self, stored: DeltaBlock, context: BlockContext) -> tuple[float, float] | None:
        """Sums of a block, Δ being the product of the factors as they were given."""
        if self.given is None:
            raise CodecError("no factors to compare with", where=context.name)
        columns = self.given.shape[1]
        rows = np.s_[context.start // columns : (context.start + stored.hi.size) // columns]
        square = error = 0.0
        start = 0
        for ideal in products(self.given.left[rows], self.given.right):
            square += float(np.square(ideal).sum())
            ideal -= widen(stored.hi[start : start + ideal.size], stored.dtype)
            error += float(np.square(ideal).sum())
            start += ideal.size
        return square, error

    def factors(self, frames: Iterable[tuple[bytes, int]], columns: int) -> FixedFactors | None:
        return joined(frames, columns)


def frame(factors: FixedFactors, first: int, rows: int) -> bytes:
    """The frame of a run of rows; that of the first rows carries the right factor too.

    Empty where it would change nothing and no other frame needs it.
    """
    part = factors.left[first : first + rows]
    left = _pack(part)
    if first:
        return _LATER_HEAD.pack(LATER, len(left)) + left if part.any() else b""
    right = _pack(factors.right)
    head = (FIRST, factors.rank, factors.shape[1], factors.left_step, factors.right_step)
    return _HEAD.pack(*head, len(right), len(left)) + right + left


def _pack(values: Integers) -> bytes:
    spare = short_bits(values)
    flat = values.reshape(-1)
    if spare:
        magnitude = (np.abs(flat).astype(np.float32).view(np.uint32) >> spare).astype(np.int32)
        flat = np.where(flat < 0, -magnitude, magnitude)
    return bytes([spare]) + encode_plane(flat.astype(_PLANES[spare]))


def _unpack(data: bytes, rows: int, columns: int) -> Integers:
    """A factor of a known size from untrusted bytes."""
    width = _PLANES.get(data[0]) if data else None
    if width is None:
        raise CodecError("unknown form of a factor", expected="0, 13 or 16", found=data[:1].hex())
    plane: Plane = np.empty(rows * columns, width)
    decode_plane(data[1:], plane)
    values = plane.astype(np.int32) if data[0] else np.asarray(plane, np.int32)
    if data[0]:
        values = _from_short(values, data[0])
    return values.reshape(rows, columns)


def _from_short(values: Integers, spare: int) -> Integers:
    bits = np.abs(values.astype(np.int64)) << spare
    known = bits <= int(np.float32(MOST).view(np.uint32))  # in the order of the floats
    floats = np.where(known, bits, 0).astype(np.uint32).view(np.float32)
    whole = floats.astype(np.int32)
    if not (known & (floats == whole)).all():
        raise CodecError("a factor holds other numbers than integers", expected=f"at most {MOST}")
    return np.where(values < 0, -whole, whole)


def unpack(frame: bytes, count: int, first: bytes | None = None) -> FixedFactors:
    """The factors of an untrusted frame's block.

    Args:
        frame: A frame that is not empty.
        count: Elements of the block.
        first: The tensor's first frame, where this is another one.

    Raises:
        CodecError: Malformed, of another number of elements, or without the first frame.
    """
    later = frame[0] == LATER
    head = first if later else frame
    if frame[0] not in (FIRST, LATER) or head is None:
        raise CodecError("unknown kind of frame, or no first one", found=frame[0])
    if len(head) < _HEAD.size or head[0] != FIRST or len(frame) < _LATER_HEAD.size:
        raise CodecError("frame is cut short", expected="a head")
    _, rank, columns, left_step, right_step, right_bytes, left_bytes = _HEAD.unpack_from(head)
    start = _HEAD.size + right_bytes
    _check_head(rank, columns, count, (len(head), start + left_bytes))
    right = _unpack(head[_HEAD.size : start], rank, columns)
    if later:
        start, left_bytes = _LATER_HEAD.size, _LATER_HEAD.unpack_from(frame)[1]
        _check_head(rank, columns, count, (len(frame), start + left_bytes))
    left = _unpack(frame[start:], count // columns, rank)
    return FixedFactors(left, right, left_step, right_step)


def joined(frames: Iterable[tuple[bytes, int]], columns: int) -> FixedFactors:
    """The factors of a whole tensor, of its untrusted frames and their elements in order.

    Raises:
        CodecError: A frame is malformed or does not fit the others.
    """
    first: bytes | None = None
    parts = []
    for frame, count in frames:
        first = first or frame
        if frame:
            part = unpack(frame, count, first)
            parts.append(part.left)
        else:
            parts.append(np.zeros((count // columns, part.rank), np.int32))
    if part.shape[1] != columns:
        raise CodecError("the factors are of another width", expected=columns, found=part.shape[1])
    return FixedFactors(np.concatenate(parts), part.right, part.left_step, part.right_step)


def _check_head(rank: int, columns: int, count: int, lengths: tuple[int, int]) -> None:
    if not 1 <= rank <= columns or count % columns or lengths[0] != lengths[1]:
        raise CodecError(
            "the head does not match the block",
            expected=f"{lengths[1]} bytes, whole rows of {count} elements, 1 ≤ rank ≤ columns",
            found=f"{lengths[0]} bytes, rank {rank}, {columns} columns",
        )
    if rank * columns > max(count, MAX_RIGHT):
        raise CodecError(
            "the right factor is too large",
            expected=f"≤ {MAX_RIGHT} elements",
            found=rank * columns,
        )
