"""Codec `quantized`: Δ̂ = step · q with one step, entropy-coded; self-contained and lossy.

A plain frame is::

    u8, float32 little-endian   kind, step
    u32, u32, u32               nonzero elements, bytes of the first plane, of the second
    kind 1, 2, 4 (dense)        a plane of q as int8, int16 or int32 (see `planes`); no second
    kind 17, 18, 20 (sparse)    int32 plane of the zeros before each nonzero element; then a
                                plane of their q as int8, int16 or int32

Decoding rounds step · q once to the delta's dtype; q = 0 is "no change" (−0.0). How q was rounded
does not matter to the decoder: *nearest* has the smallest squared error, *stochastic* is unbiased,
E[Δ̂] = Δ, and so keeps what many tiny coherent changes add up to (docs/codecs.md). An empty frame
changes nothing.

*Rotated* rounding is unbiased too, and less noisy below about a third of a bit. Its frames are a
frame of kind 32 (see `rotated`) around a plain one, and where a block has components that are worth
it, one of kind 64 (see `components`) around that.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftt_hub import kernels
from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.entropy.planes import (
    Plane,
    decode_places,
    decode_plane,
    encode_places,
    encode_plane,
)
from ftt_hub.codecs.lossy import components, rotated, rotation, spread
from ftt_hub.codecs.lossy.dither import uniforms
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock, identity, scattered
from ftt_hub.tensors.dtypes import BF16, F32, Bits, DType
from ftt_hub.tensors.rounding import narrow, widen

NEAREST, STOCHASTIC, ROTATED = "nearest", "stochastic", "rotated"
ROUNDINGS = (NEAREST, STOCHASTIC, ROTATED)
SPARSE_BELOW = 0.125
"""Share of nonzero elements below which their positions are coded instead of the zeros: as small,
and faster the fewer there are."""

MAX_LEVEL = 1 << 30
CHUNK = 1 << 16
"""Elements handled at a time, so that temporaries stay in the processor's cache."""

_HEAD = struct.Struct("<BfIII")
_SPARSE_KIND = 16
_WIDTHS: dict[int, np.dtype[np.signedinteger]] = {
    width: np.dtype(f"<i{width}") for width in (1, 2, 4)
}


def round_step(step: float, rounding: str) -> float:
    """A step that a frame can hold: float32, or for stochastic rounding eight significant bits.

    Those are what BF16 holds, so that rounding ±step to the delta's dtype adds no bias.
    """
    if rounding != STOCHASTIC:
        return float(np.float32(step))
    fraction, exponent = math.frexp(step)
    return math.ldexp(round(fraction * 256) / 256, exponent)


@dataclass(frozen=True)
class QuantizedCodec(Codec):
    """Stores Δ on a uniform grid, from about 4 down to 0.02 bits per weight.

    Attributes:
        step: Distance of the levels; if rotated, where the root mean square of Δ is `rms`.
        rounding: ``nearest``, ``stochastic`` or ``rotated``.
        seed: Seed of the stochastic rounding and of the rotation.
        rms: √(mean Δ²) over all tensors, read by ``rotated`` only.
    """

    id: ClassVar[str] = "quantized"
    exact: ClassVar[bool] = False

    step: float = 2.0**-12
    rounding: str = STOCHASTIC
    seed: int = 0
    rms: float = 2.0**-12

    def encode(self, block: DeltaBlock, context: BlockContext) -> bytes:
        if self.rounding == ROTATED:
            return self._rotated(delta_values(block), context)
        levels = self.levels(block, context)
        return pack(levels, self.step) if levels.any() else b""

    def levels(self, block: DeltaBlock, context: BlockContext) -> Plane:
        """The q of every element, in the narrowest type that holds them all.

        Raises:
            CodecError: The step is so small that q would overflow.
        """
        quantized = np.empty(block.hi.size, np.float32)
        for start in range(0, block.hi.size, CHUNK):
            part = block.part(np.s_[start : start + CHUNK])
            scaled = delta_values(part)
            scaled /= np.float32(self.step)
            if self.rounding == STOCHASTIC:
                scaled += uniforms(self.seed, context.name, context.start + start, scaled.size)
                np.floor(scaled, out=quantized[start : start + CHUNK])
            else:
                np.rint(scaled, out=quantized[start : start + CHUNK])
        largest = float(np.abs(quantized).max(initial=0))
        if not largest < MAX_LEVEL:
            raise CodecError(
                "the step is too small for this delta",
                expected=f"fewer than {MAX_LEVEL} steps",
                found=f"{largest:g}",
                hint="Choose a larger error or fewer bits.",
            )
        width = 1 if largest < 1 << 7 else 2 if largest < 1 << 15 else 4
        return quantized.astype(_WIDTHS[width])

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
        if frame[0] >= rotated.KIND:
            return DeltaBlock(_narrowed(turned_values(frame, count), dtype), None, dtype)
        levels, places, step = unpack(frame, count)
        bits = _bits(levels, step, dtype)
        if places is None:
            return DeltaBlock(bits, None, dtype)
        hi, changed = scattered(bits, places, count, dtype)
        return DeltaBlock(hi, None, dtype, None, changed)

    def parameters(self) -> dict[str, object]:
        value: dict[str, object] = {"step": self.step, "rounding": self.rounding}
        if self.rounding != NEAREST:
            value["seed"] = self.seed
        if self.rounding == ROTATED:
            value["rms"] = self.rms
        return value

    def _rotated(self, values: NDArray[np.float32], context: BlockContext) -> bytes:
        if not np.abs(values).max(initial=0) > rotated.NEGLIGIBLE:
            return b""
        candidates = components.find(values, context.columns)
        rank = spread.measure(values, candidates).rank(self.step, self.rms)
        leading = components.rounded(candidates, rank) if candidates is not None and rank else None
        if leading is not None:
            values = values - leading.values()
        key = rotation.key_of(self.seed, context.name, context.start)
        levels = rotated.quantize(values, self.step, self.rms, key)
        frame = levels.pack(pack(levels.levels, 1.0)) if levels.levels.any() else b""
        return frame if leading is None else leading.pack(frame)


def turned_values(frame: bytes, count: int) -> NDArray[np.float32]:
    """Δ̂ of an untrusted rotated frame, with its components if it has some, in float32.

    Raises:
        CodecError: Malformed, or of another number of elements.
    """
    if frame[:1] == bytes([components.KIND]):
        leading, frame = components.unpack(frame, count)
        values = leading.values()
        if frame:
            values += turned_values(_not_nested(frame), count)
        return values
    if frame[:1] != bytes([rotated.KIND]):
        raise CodecError("unknown kind of frame", found=frame[0])
    codes, base, key, inner = rotated.unpack(frame, count)
    size = rotation.coefficients(count)
    levels, places, _ = unpack(inner, size)
    dense = np.zeros(size, np.float32)
    dense[slice(None) if places is None else places] = levels
    return rotated.restore(dense, codes, base, key, count)


def _not_nested(frame: bytes) -> bytes:
    if frame[0] == components.KIND:
        raise CodecError("components within components", expected="a rotated frame")
    return frame


def _narrowed(values: NDArray[np.float32], dtype: DType) -> Bits:
    """Values rounded to the delta's dtype; −0.0 where they are zero.

    Raises:
        CodecError: A value overflows the dtype.
    """
    if dtype is BF16 and kernels.usable(values):
        bits: Bits = np.empty(values.size, np.uint16)
        if not kernels.COMPILED.narrow(values, bits):
            raise _overflow(dtype)
        return bits
    bits = narrow(values, dtype)
    magnitude = np.bitwise_and(bits, bits.dtype.type(dtype.sign_bit - 1))
    if magnitude.size and int(magnitude.max()) >= dtype.infinity:
        raise _overflow(dtype)
    bits[magnitude == 0] = dtype.sign_bit
    return bits


def _overflow(dtype: DType) -> CodecError:
    return CodecError("Δ̂ overflows its dtype", expected=dtype.name)


def delta_values(block: DeltaBlock) -> NDArray[np.float32]:
    """The sums hi + lo as new float32 values."""
    values = widen(block.hi, block.dtype)
    if block.dtype is F32:
        values = values.copy()  # F32 bits are viewed
    places = block.places
    if block.lo is not None and places.size:
        values[places] += widen(block.lo[places], block.dtype)
    return values


def pack(levels: Plane, step: float) -> bytes:
    """A frame from levels."""
    kind = levels.itemsize
    places = np.flatnonzero(levels)
    if places.size >= SPARSE_BELOW * levels.size:
        first, second = encode_plane(levels), b""
    else:
        kind += _SPARSE_KIND
        first, second = encode_places(places), encode_plane(levels[places])
    return _HEAD.pack(kind, step, places.size, len(first), len(second)) + first + second


def unpack(frame: bytes, count: int) -> tuple[Plane, NDArray[np.intp] | None, float]:
    """Levels of an untrusted frame, their places unless every element has one, and the step.

    Raises:
        CodecError: Malformed, or of another number of elements.
    """
    if len(frame) < _HEAD.size:
        raise CodecError("frame is cut short", expected="a head")
    kind, step, nonzero, one, two = _HEAD.unpack_from(frame)
    width = _WIDTHS.get(kind & ~_SPARSE_KIND)
    if width is None:
        raise CodecError("unknown kind of frame", found=kind)
    if not (math.isfinite(step) and step > 0):
        raise CodecError("impossible step", expected="a positive number", found=step)
    if _HEAD.size + one + two != len(frame) or nonzero > count:
        raise CodecError(
            "the head does not match the frame",
            expected=f"{_HEAD.size + one + two} bytes, at most {count} elements",
            found=f"{len(frame)} bytes, {nonzero} elements",
        )
    first, second = frame[_HEAD.size : _HEAD.size + one], frame[_HEAD.size + one :]
    if kind & _SPARSE_KIND:
        places = decode_places(first, nonzero, count)
        values: Plane = np.empty(nonzero, width)
        decode_plane(second, values)
        return values, places, step
    levels: Plane = np.empty(count, width)
    decode_plane(first, levels)
    if second or np.count_nonzero(levels) != nonzero:
        raise CodecError("the head does not match the plane", expected=f"{nonzero} elements")
    return levels, None, step


def _bits(levels: Plane, step: float, dtype: DType) -> Bits:
    """Bits of step · q; −0.0 where q is zero.

    Raises:
        CodecError: A product overflows the dtype.
    """
    low, high = int(levels.min(initial=0)), int(levels.max(initial=0))
    span = high - low + 1
    if span > max(1 << 8, min(levels.size, 1 << 16)):
        table, index = levels, None
    else:
        table = np.arange(low, high + 1, dtype=np.int32)
        index = np.subtract(levels, low, dtype=np.int32)
    with np.errstate(over="ignore"):
        values = (table.astype(np.float64) * step).astype(np.float32)
        bits = narrow(values, dtype)
    bits[table == 0] = dtype.sign_bit
    magnitude = np.bitwise_and(bits, bits.dtype.type(dtype.sign_bit - 1))
    if magnitude.size and int(magnitude.max()) >= dtype.infinity:
        raise CodecError(
            "step · q overflows its dtype", expected=dtype.name, found=f"step {step:g}"
        )
    return bits if index is None else bits[index]
