"""Conversions between float formats, each with a single rounding to nearest even.

`widen` is exact. `narrow` rounds once. `round_to_odd_sum` adds three numbers so that a later
rounding to a narrower format is the correct rounding of the exact sum (Boldo and Melquiond 2008,
"Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd").
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ftt_hub.tensors.dtypes import BF16, F16, F32, Bits, DType

Floats: TypeAlias = NDArray[np.floating[Any]]


def widen(bits: Bits, dtype: DType) -> NDArray[np.float32]:
    """Values of BF16, F16 or F32 bits as float32, exactly. F32 bits are viewed, not copied."""
    if dtype is BF16:
        wide = bits.astype(np.uint32)
        np.left_shift(wide, 16, out=wide)
        return wide.view(np.float32)
    if dtype is F16:
        return bits.view(np.float16).astype(np.float32)
    return bits.view(np.float32)


def narrow(values: NDArray[np.float32], dtype: DType) -> Bits:
    """Bits of float32 values rounded to nearest even; overflow gives infinity, never an error."""
    if dtype is BF16:
        wide = values.view(np.uint32)
        carry = np.right_shift(wide, 16)
        np.bitwise_and(carry, 1, out=carry)
        np.add(carry, 0x7FFF, out=carry)
        np.add(carry, wide, out=carry)
        np.right_shift(carry, 16, out=carry)
        return carry.astype(np.uint16)
    if dtype is F16:
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    return values.view(np.uint32)


def convert(bits: Bits, source: DType, target: DType) -> Bits:
    """Bits of `source` values in `target`, rounded once (exact when `target` is wider)."""
    if source == target:
        return bits
    return narrow(widen(bits, source), target)


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Sum and its exact rounding error, a + b = s + e (Knuth's TwoSum; no assumption on size)."""
    s = a + b
    from_b = s - a
    e = (a - (s - from_b)) + (b - from_b)
    return s, e


def _add_to_odd(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """A + b rounded to odd: when inexact, the neighbour whose last bit is one."""
    s, e = two_sum(a, b)
    raw = np.ascontiguousarray(s, dtype=np.float64).view(np.int64)
    adjust = (e != 0) & ((raw & 1) == 0)
    step = np.where((e > 0) == (s > 0), 1, -1)
    return (raw + np.where(adjust, step, 0)).view(np.float64)


def round_to_odd_sum(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The exact sum a + b + c, rounded to odd in float64 (Boldo and Melquiond 2008, Fig. 3)."""
    uh, ul = two_sum(b, c)
    th, tl = two_sum(a, uh)
    if not tl.any() and not ul.any():
        return np.asarray(th, np.float64)
    residue = _add_to_odd(np.asarray(tl, np.float64), np.asarray(ul, np.float64))
    return _add_to_odd(np.asarray(th, np.float64), residue)


def narrow_double(values: NDArray[np.float64], dtype: DType) -> Bits:
    """Bits of float64 values rounded once to BF16, F16 or F32.

    BF16 goes through float32; where that lies halfway between two BF16 numbers it is moved towards
    the value it was rounded from, so that no double rounding occurs.
    """
    with np.errstate(over="ignore"):
        if dtype is F16:
            return values.astype(np.float16).view(np.uint16)
        single = values.astype(np.float32)
    if dtype is F32:
        return single.view(np.uint32)
    raw = single.view(np.int32)
    halfway = np.flatnonzero((raw & 0xFFFF) == 0x8000)  # only there does rounding twice matter
    back, exact = single[halfway].astype(np.float64), values[halfway]
    away = np.abs(exact) > np.abs(back)
    raw[halfway] += np.where(back != exact, np.where(away, 1, -1), 0).astype(np.int32)
    return narrow(single, dtype)


def all_finite(bits: Bits, dtype: DType) -> bool:
    """Whether no element is NaN or infinite."""
    if bits.size == 0:
        return True
    # As signed integers the positive numbers come last, as unsigned ones the negative: no copy.
    positive = np.maximum.reduce(bits.view(f"<i{bits.itemsize}"))
    negative = np.maximum.reduce(bits)
    return int(positive) < dtype.infinity and int(negative) < dtype.infinity + dtype.sign_bit
