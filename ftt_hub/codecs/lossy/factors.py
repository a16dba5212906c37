"""Two factors of Δ as integers: their product is the same on every machine.

Δ = left · right, each an integer matrix times a step of its own. Every component's largest
integers multiply to at most 2^53 in sum, so that each product, and every partial sum of them in
whatever order and with or without fused multiply-add, is an integer that float64 holds exactly: any
BLAS, any number of threads and any slice of rows or columns give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub.errors import CodecError
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.rounding import narrow_double

BITS = 20
"""Magnitude bits of integers whose values have no shorter form."""
FLOAT_BITS = 24
"""Magnitude bits, at most, of integers that are short floats: more of them cost nothing."""
UNEVEN = 3
"""Powers of two by which a component's factors must be out of step to be evened out."""
SUM_BITS = 53
BAND = 1 << 16
"""Elements of the product made at a time, so that temporaries stay in the processor's cache."""
MAX_RIGHT = 1 << 24
"""Elements of the right factor, which every block of a tensor needs, unless the block has more."""

Doubles = NDArray[np.float64]
Integers = NDArray[np.int32]


@dataclass(frozen=True)
class FixedFactors:
    """Δ = (left · left_step) (right · right_step).

    Attributes:
        left: Rows × rank.
        right: Rank × columns.
        left_step: Value of one in `left`.
        right_step: Value of one in `right`.

    Raises:
        CodecError: Their product is not exact in float64, or a step is impossible.
    """

    left: Integers
    right: Integers
    left_step: float
    right_step: float

    def __post_init__(self) -> None:
        steps = (self.left_step, self.right_step, self.left_step * self.right_step)
        if not all(math.isfinite(step) and step > 0 for step in steps):
            raise CodecError(
                "impossible step", expected="positive numbers", found=f"{steps[0]} and {steps[1]}"
            )
        largest = (_largest(self.left, 0), _largest(self.right, 1))
        if sum(a * b for a, b in zip(*largest, strict=True)) > 1 << SUM_BITS:
            raise CodecError(
                "the product of the factors is not exact in float64",
                expected=f"sums of at most 2^{SUM_BITS}",
            )

    @property
    def rank(self) -> int:
        """Number of components."""
        return int(self.right.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of Δ."""
        return int(self.left.shape[0]), int(self.right.shape[1])

    @property
    def values(self) -> tuple[Doubles, Doubles]:
        """Both factors as float64: Δ is their product."""
        left, right = self.left.astype(np.float64), self.right.astype(np.float64)
        left *= self.left_step
        right *= self.right_step
        return left, right

    def rows(self, first: int, count: int) -> FixedFactors:
        """The factors of some rows of Δ."""
        part = self.left[first : first + count]
        return FixedFactors(part, self.right, self.left_step, self.right_step)

    def product(self, dtype: DType) -> Bits:
        """Δ, flat: the exact integer sum, times both steps in float64, rounded once.

        Raises:
            CodecError: An element overflows the dtype.
        """
        bits = np.empty(self.left.shape[0] * self.right.shape[1], dtype.numpy)
        step = self.left_step * self.right_step
        start = 0
        with np.errstate(over="ignore"):
            for sums in products(self.left.astype(np.float64), self.right.astype(np.float64)):
                sums *= step
                bits[start : start + sums.size] = narrow_double(sums, dtype)
                start += sums.size
        magnitude = np.bitwise_and(bits, bits.dtype.type(dtype.sign_bit - 1))
        if magnitude.size and int(magnitude.max()) >= dtype.infinity:
            raise CodecError("the product overflows its dtype", expected=dtype.name)
        bits[magnitude == 0] = dtype.sign_bit
        return bits


def _largest(values: Integers, axis: int) -> list[int]:
    """Largest magnitude of each component."""
    low, high = (f(values, axis=axis, initial=0).astype(np.int64) for f in (np.min, np.max))
    found: list[int] = np.maximum(-low, high).tolist()
    return found


def products(left: Doubles, right: Doubles) -> Iterator[Doubles]:
    """Left · right, flat, a band of rows at a time; each band is the caller's."""
    step = max(1, BAND // max(1, right.shape[1]))
    for first in range(0, left.shape[0], step):
        yield (left[first : first + step] @ right).reshape(-1)


def short_bits(values: Integers) -> int:
    """How many low mantissa bits all values have to spare as float32: 16 (BF16), 13 (F16) or 0."""
    bits = int(np.bitwise_or.reduce(values.astype(np.float32).view(np.uint32), axis=None))
    return next((spare for spare in (16, 13) if bits & ((1 << spare) - 1) == 0), 0)


def _fixed(values: Doubles, most: int) -> tuple[Integers, float]:
    """Integers of at most `most` bits, and their step, a power of two."""
    exponent = math.frexp(float(np.abs(values).max()))[1]
    for bits in (min(FLOAT_BITS, most), min(BITS, most)):
        step = math.ldexp(1.0, exponent - bits)
        found = np.rint(values / step).astype(np.int32)
        if short_bits(found):
            break
    return found, step


def fix(
    left: NDArray[np.floating], right: NDArray[np.floating], scale: float = 1.0
) -> FixedFactors:
    """The factors of Δ = scale · left · right in fixed point.

    Values that are BF16 or F16 numbers keep all their bits unless they are 2^-16 (2^-13) of the
    largest or less; others are rounded to 2^-20 of it. Components that are zero are dropped; one
    whose two sides are far out of proportion is evened out by a power of two.

    Args:
        left: Rows × rank.
        right: Rank × columns.
        scale: What their product is multiplied by.

    Raises:
        CodecError: The shapes do not fit, NaN or infinity, or nothing but zeros.
    """
    first, second = (np.asarray(part, np.float64) for part in (left, right))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        raise CodecError(
            "no two factors",
            expected="rows × rank and rank × columns",
            found=f"{first.shape} and {second.shape}",
        )
    if not (math.isfinite(scale) and np.isfinite(first).all() and np.isfinite(second).all()):
        raise CodecError("the factors hold NaN or infinity")
    sizes = np.abs(first).max(0, initial=0), np.abs(second).max(1, initial=0)
    kept = np.flatnonzero((sizes[0] > 0) & (sizes[1] > 0)) if scale else np.zeros(0, np.intp)
    if not kept.size:
        raise CodecError("the factors are zero")
    ratio = np.log2(sizes[1][kept] / sizes[0][kept]) / 2
    moved = np.rint(ratio - np.median(ratio)).astype(int)
    moved[np.abs(moved) < UNEVEN] = 0
    first = np.ldexp(first[:, kept], moved) * math.copysign(1.0, scale)
    second = np.ldexp(second[kept], -moved[:, None])
    most = (SUM_BITS - math.ceil(math.log2(kept.size))) // 2
    ours, theirs = _fixed(first, most), _fixed(second, most)
    return FixedFactors(ours[0], theirs[0], ours[1] * abs(scale), theirs[1])
