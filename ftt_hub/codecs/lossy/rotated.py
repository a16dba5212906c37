"""Levels of rotated weights: what codec `quantized` stores below about a third of a bit.

At such rates nearly every level is zero. Stochastic rounding then adds noise of variance
step · |Δ|; rotated first, all coefficients of a run are alike (Gaussian), so that only the largest
need be kept, and one gain a run makes the result unbiased over the random rotation:
x̂ = g · S · H · q with g = ‖x‖² / ⟨H S x, q⟩ (Vargaftik et al. 2022, "EDEN: Communication-Efficient
and Robust Distributed Mean Estimation for Federated Learning", there with one bit a coefficient).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ftt_hub import kernels
from ftt_hub.codecs.entropy.planes import Plane, decode_plane, encode_plane
from ftt_hub.codecs.lossy import rotation
from ftt_hub.errors import CodecError

HEAD = struct.Struct("<BfQI")
KIND = 32

GAINS = 16
"""Gains per octave: a gain is the frame's largest times 2^(−code/16), rounded to float32."""

_UNCHANGED = 255
"""The code of a run that does not change."""

NEGLIGIBLE = 2.0**-100
"""Runs whose largest weight is smaller do not change: its inverse must fit float32."""

_PEAK = 4095.0
"""The largest weight of a run as an integer: 4096 of them sum to less than `rotation.EXACT`."""

_SIXTEENTHS = np.array(
    [0x3F800000, 0x3F75257D, 0x3F6AC0C7, 0x3F60CCDF, 0x3F5744FD, 0x3F4E248C, 0x3F45672A,
     0x3F3D08A4, 0x3F3504F3, 0x3F2D583F, 0x3F25FED7, 0x3F1EF532, 0x3F1837F0, 0x3F11C3D3,
     0x3F0B95C2, 0x3F05AAC3],
    "<u4",
).view("<f4")  # fmt: skip
"""2^(−i/16) rounded to float32, spelt out since libraries differ in the last bit."""

_LADDER = np.concatenate([_SIXTEENTHS.astype(np.float64) * 2.0**-octave for octave in range(16)])[
    :_UNCHANGED
]


@dataclass(frozen=True)
class Levels:
    """A block's coefficients on their grids.

    Attributes:
        levels: q of every coefficient, int8, int16 or int32.
        codes: One gain a run, as int8 plane of the bytes 0 to 255.
        base: The largest gain.
        key: Key of the random signs (`rotation.key_of`).
    """

    levels: Plane
    codes: NDArray[np.uint8]
    base: float
    key: int

    def pack(self, inner: bytes) -> bytes:
        """The frame of the block, which ends with the frame of the levels."""
        gains = encode_plane(self.codes.view(np.int8))
        return HEAD.pack(KIND, self.base, self.key, len(gains)) + gains + inner


def quantize(values: NDArray[np.float32], step: float, rms: float, key: int) -> Levels:
    """Rotate, divide by the step of each run, round to nearest.

    Args:
        values: Δ, 1-D.
        step: Of a run whose root mean square is `rms`.
        rms: That of all weights.
        key: Key of the random signs (`rotation.key_of`).

    Raises:
        CodecError: The step is so small that sums of levels would not be exact.
    """
    run = _quantized if _by_kernels(values) else _quantized_by_numpy
    levels, gains = run(values, step, rms, key)
    largest = float(np.abs(levels).max(initial=0))
    width = "<i1" if largest < 1 << 7 else "<i2" if largest < 1 << 15 else "<i4"
    base, codes = _codes(gains)
    return Levels(levels.astype(width), codes, base, key)


def _by_kernels(values: NDArray[np.float32]) -> bool:
    return kernels.usable(values) and rotation.widths(values.size)[1] not in (1, 2, 4)


def _quantized(
    values: NDArray[np.float32], step: float, rms: float, key: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Levels and gains by compiled code."""
    levels = np.zeros(rotation.coefficients(values.size), np.float32)
    levels[: values.size] = values
    gains = []
    for part, width, bits in _parts(levels, values.size, key):
        number = part.size // width
        factors, energy = np.empty(number, np.float32), np.empty(number)
        kernels.COMPILED.spin(part, width, _PEAK, NEGLIGIBLE, bits, factors, energy)
        wide, inner = factors.astype(np.float64), np.empty(number)
        steps = _steps(energy, wide, width, step, rms)
        _check(kernels.COMPILED.level(part, width, steps, inner))
        gains.append(_gains(energy, inner, wide))
    return levels, np.concatenate(gains) if gains else np.zeros(0)


def _parts(
    levels: NDArray[np.float32], count: int, key: int
) -> Iterator[tuple[NDArray[np.float32], int, NDArray[np.uint8]]]:
    """The whole runs and the last one: their coefficients, width and bits of the signs."""
    whole, rest = rotation.widths(count)
    for start, size, width in (
        (0, whole * rotation.WIDTH, rotation.WIDTH),
        (whole * rotation.WIDTH, rest, rest),
    ):
        if size:
            yield levels[start : start + size], width, rotation.sign_bits(key, start, size)


def _quantized_by_numpy(
    values: NDArray[np.float32], step: float, rms: float, key: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The same bits where there is no compiled code."""
    levels = np.zeros(rotation.coefficients(values.size), np.float32)
    gains: list[NDArray[np.float64]] = []
    for where, padded in _groups(values):
        peak = np.abs(padded).max(1, keepdims=True)
        scale = np.divide(_PEAK, peak, where=peak > NEGLIGIBLE, out=np.zeros_like(peak))
        integers = np.rint(padded * scale)
        energy = np.einsum("ij,ij->i", integers, integers, dtype=np.float64)
        integers *= rotation.signs(key, where.start, padded.size).reshape(padded.shape)
        turned = rotation.transform(integers)
        wide = scale[:, 0].astype(np.float64)
        steps = _steps(energy, wide, padded.shape[1], step, rms)
        turned_levels = np.rint(turned / steps[:, None])
        inner = np.einsum("ij,ij->i", turned, turned_levels, dtype=np.float64)
        levels[where] = turned_levels.reshape(-1)
        gains.append(_gains(energy, inner, wide))
        _check(float(np.abs(turned_levels).sum(1).max()))
    return levels, np.concatenate(gains) if gains else np.zeros(0)


def _steps(
    energy: NDArray[np.float64], wide: NDArray[np.float64], width: int, step: float, rms: float
) -> NDArray[np.float64]:
    """Step of the coefficients of each run, whose integers have this energy; 1 where they are 0."""
    spread, known = np.sqrt(energy / width), energy > 0
    own = np.divide(spread, wide, where=known, out=np.ones_like(spread))
    return np.where(known, rotation.step_of(step, rms, own) * wide * math.sqrt(width), 1.0)


def _gains(
    energy: NDArray[np.float64], inner: NDArray[np.float64], wide: NDArray[np.float64]
) -> NDArray[np.float64]:
    kept = inner > 0
    return np.divide(energy, inner * wide, where=kept, out=np.zeros_like(energy))


def _check(largest_sum: float) -> None:
    """Refuse levels of a run whose sums would not be exact."""
    if not largest_sum < rotation.EXACT:
        raise CodecError(
            "the step is too small for this delta",
            expected=f"levels of a run that sum to less than {rotation.EXACT}",
            found=f"{largest_sum:g}",
            hint="Choose another rounding, a larger error or fewer bits.",
        )


def _codes(gains: NDArray[np.float64]) -> tuple[float, NDArray[np.uint8]]:
    """The largest gain as float32 and each gain's nearest step of the ladder below it."""
    base = float(np.float32(gains.max(initial=0)))
    if not base:
        return 1.0, np.full(gains.size, _UNCHANGED, np.uint8)
    borders = np.array([math.sqrt(high * low) for high, low in pairwise(_LADDER)])
    codes = np.searchsorted(-borders, -gains / base)
    codes[gains < base * _LADDER[-1] / 2] = _UNCHANGED
    return base, codes.astype(np.uint8)


def restore(
    levels: NDArray[np.float32], codes: NDArray[np.uint8], base: float, key: int, count: int
) -> NDArray[np.float32]:
    """Δ̂ = gain · S · H · q of `count` weights, one float32 rounding per weight.

    The memory of the levels may be used for the result.

    Raises:
        CodecError: Levels so large that their sums would not be exact.
    """
    gains = np.where(
        codes == _UNCHANGED,
        np.float32(0),
        np.float32(base) * np.append(_LADDER, 0.0).astype(np.float32)[codes],
    )
    if _by_kernels(levels[:count]):
        return _restored(levels, gains, key, count)
    values = np.empty(levels.size, np.float32)
    for span, number, width in _layout(count):
        part = levels[span].reshape(number, width)
        if part.size and float(np.abs(part).sum(1, dtype=np.float64).max()) >= rotation.EXACT:
            raise _too_large()
        turned = rotation.transform(part)
        first = span.start // rotation.WIDTH
        turned *= gains[first : first + number, None]
        turned *= rotation.signs(key, span.start, part.size).reshape(number, width)
        values[span] = turned.reshape(-1)
    return values[:count]


def _restored(
    levels: NDArray[np.float32], gains: NDArray[np.float32], key: int, count: int
) -> NDArray[np.float32]:
    """`restore` by compiled code, in the memory of the levels."""
    first = 0
    for part, width, bits in _parts(levels, count, key):
        run_gains = gains[first : first + part.size // width]
        if kernels.COMPILED.turn(part, width, run_gains, bits) >= rotation.EXACT:
            raise _too_large()
        first += run_gains.size
    return levels[:count]


def _too_large() -> CodecError:
    return CodecError("levels of a run are too large", expected=f"< {rotation.EXACT} summed")


def unpack(frame: bytes, count: int) -> tuple[NDArray[np.uint8], float, int, bytes]:
    """Codes, base and key of an untrusted frame, and the frame of its levels.

    Raises:
        CodecError: Malformed.
    """
    if len(frame) < HEAD.size:
        raise CodecError("frame is cut short", expected="a head of a rotated block")
    _, base, key, length = HEAD.unpack_from(frame)
    if not (math.isfinite(base) and base > 0):
        raise CodecError("impossible gain", expected="a positive number", found=base)
    if HEAD.size + length > len(frame):
        raise CodecError(
            "the head does not match the frame",
            expected=f"{HEAD.size + length} bytes or more",
            found=len(frame),
        )
    codes: NDArray[np.int8] = np.empty(len(rotation.runs(count)), np.int8)
    decode_plane(frame[HEAD.size : HEAD.size + length], codes)
    return codes.view(np.uint8), base, key, frame[HEAD.size + length :]


def _layout(count: int) -> Iterator[tuple[slice, int, int]]:
    """Coefficients of groups of runs of one width: where, how many runs, their width."""
    whole, rest = rotation.widths(count)
    for first in range(0, whole, rotation.GROUP):
        number = min(rotation.GROUP, whole - first)
        start = first * rotation.WIDTH
        yield slice(start, start + number * rotation.WIDTH), number, rotation.WIDTH
    if rest:
        start = whole * rotation.WIDTH
        yield slice(start, start + rest), 1, rest


def _groups(values: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Groups of runs, each of shape (runs, width), the last padded with zeros."""
    for span, number, width in _layout(values.size):
        part = values[span]
        if part.size < number * width:
            part = np.concatenate([part, np.zeros(number * width - part.size, np.float32)])
        yield span, part.reshape(number, width)
