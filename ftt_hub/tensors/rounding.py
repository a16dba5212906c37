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


_GAP = 15 << 7
"""Eight-bit numbers whose exponents lie this far apart at most differ by one of 24 bits."""


def _far_apart(first: Bits, second: Bits) -> NDArray[np.intp]:
    """Places where the difference of two BF16 numbers may not be exact in float32."""
    exponents = np.uint16(BF16.infinity)
    gaps = np.subtract(first & exponents, second & exponents).view(np.int16)
    if int(gaps.min(initial=0)) >= -_GAP and int(gaps.max(initial=0)) <= _GAP:
        return np.zeros(0, np.intp)
    return np.flatnonzero((gaps < -_GAP) | (gaps > _GAP))


def exact_difference(
    source: Bits, tuned: Bits, dtype: DType
) -> tuple[Bits, Bits | None, NDArray[np.float32]]:
    """Tuned − source as hi + lo in their own dtype, and the negated difference as float32.

    lo is ``None`` when it is zero everywhere; `ftt_hub.delta` explains the signs of zero.
    Meant for chunks that fit the processor's cache.
    """
    base, fine = widen(source, dtype), widen(tuned, dtype)
    places: NDArray[np.intp] | slice = np.s_[:]
    if dtype is BF16:
        minus_delta, places = base - fine, _far_apart(source, tuned)
        error = two_sum(base[places], -fine[places])[1]
    else:
        minus_delta, error = two_sum(base, -fine)
    minus_hi = narrow(np.asarray(minus_delta, np.float32), dtype)
    hi = np.bitwise_xor(minus_hi, minus_hi.dtype.type(dtype.sign_bit))
    residue = minus_delta - widen(minus_hi, dtype)
    residue[places] += error
    lo: Bits | None = None
    if residue.any():
        values = np.asarray(-residue, np.float32)
        lo = narrow(values, dtype)
        lo[values == 0] = 0
    negative_zero = (tuned == dtype.sign_bit) & (source != dtype.sign_bit)
    if negative_zero.any():
        lo = np.zeros_like(hi) if lo is None else lo
        lo[negative_zero] = dtype.sign_bit
    return hi, lo, np.asarray(minus_delta, np.float32)


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
    residue = _add_to_odd(np.asarray(tl, np.float64), np.asarray(ul, np.float64))
    return _add_to_odd(np.asarray(th, np.float64), residue)


def narrow_double(values: NDArray[np.float64], dtype: DType) -> Bits:
    """Bits of float64 values rounded once to BF16, F16 or F32.

    BF16 goes through float32 rounded to odd, so that no double rounding occurs.
    """
    with np.errstate(over="ignore"):
        if dtype is F16:
            return values.astype(np.float16).view(np.uint16)
        single = values.astype(np.float32)
    if dtype is F32:
        return single.view(np.uint32)
    raw = single.view(np.int32)
    back = single.astype(np.float64)
    adjust = (back != values) & ((raw & 1) == 0)
    away = np.abs(values) > np.abs(back)
    odd = raw + np.where(adjust, np.where(away, 1, -1), 0).astype(np.int32)
    return narrow(odd.view(np.float32), dtype)


def all_finite(bits: Bits, dtype: DType) -> bool:
    """Whether no element is NaN or infinite."""
    if bits.size == 0:
        return True
    magnitude = np.bitwise_and(bits, bits.dtype.type(dtype.sign_bit - 1))
    return int(magnitude.max()) < dtype.infinity
