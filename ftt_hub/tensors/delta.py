"""The arithmetic of diff vectors: Δ = m'_s − m_s and m_t + λΔ, each with one rounding.

A delta is stored as an unevaluated sum hi + lo in the model's own dtype: hi is the difference
rounded to nearest, lo its rounding error, which the same format can hold (TwoSum; Knuth, TAOCP
vol. 2, 4.2.2; Møller 1965). Hence rounding m_s + hi + lo once gives m'_s bit for bit, and rounding
m_t + hi + lo once is the correctly rounded sum on every other target (Lin et al. 2025, eq. 1).

Two conventions make this exact down to the sign of zero:

- "no change" is hi = −0.0, the identity of IEEE addition (+0.0 would turn −0.0 into +0.0);
- lo = −0.0 asks for a negative zero where the sum is zero, which IEEE addition never gives.

This module does no I/O, no logging and knows no device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub import kernels
from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.difference import difference, square_sum
from ftt_hub.tensors.dtypes import BF16, F16, F32, Bits, DType
from ftt_hub.tensors.halves import CHUNK as CHUNK
from ftt_hub.tensors.halves import count_unequal_halves
from ftt_hub.tensors.rounding import (
    Floats,
    all_finite,
    convert,
    narrow,
    narrow_double,
    round_to_odd_sum,
    widen,
)

_OVERFLOWS = "target + delta overflows, or the target"


@dataclass
class DeltaStatistics:
    """Sums over the elements of a delta, in float64; add two of them to merge.

    Attributes:
        count: Number of elements.
        changed: Elements whose bits differ between source base and fine-tuned model.
        delta_square: Σ Δ².
        source_square: Σ m_s².
        error_square: Σ (Δ̂ − Δ)², what a lossy codec did.
    """

    count: int = 0
    changed: int = 0
    delta_square: float = 0.0
    source_square: float = 0.0
    error_square: float = 0.0

    def add(self, other: DeltaStatistics) -> None:
        """Merge the sums of another part into these."""
        self.count += other.count
        self.changed += other.changed
        self.delta_square += other.delta_square
        self.source_square += other.source_square
        self.error_square += other.error_square


def _require_finite(bits: Bits, dtype: DType, what: str) -> None:
    if not all_finite(bits, dtype):
        raise NonFiniteError(f"{what} holds NaN or infinity")


def compute(source: Bits, tuned: Bits, dtype: DType) -> tuple[DeltaBlock, DeltaStatistics]:
    """Δ = tuned − source, exactly, as hi + lo.

    Args:
        source: Bits of the source base, 1-D.
        tuned: Bits of the fine-tuned model, same length and dtype.
        dtype: BF16, F16 or F32.

    Raises:
        NonFiniteError: Either input holds NaN or infinity, or the difference overflows.
    """
    found = difference(source, tuned, dtype)
    statistics = DeltaStatistics(
        source.size, found.changed, found.delta_square, found.source_square
    )
    if not (math.isfinite(statistics.delta_square) and math.isfinite(statistics.source_square)):
        _require_finite(source, dtype, "source base")
        _require_finite(tuned, dtype, "fine-tuned model")
    if dtype is F16 or not math.isfinite(statistics.delta_square):
        _require_finite(found.hi, dtype, "the difference overflows its dtype: it")
    return DeltaBlock(found.hi, found.lo, dtype, found.places), statistics


def error_square(stored: DeltaBlock, delta: DeltaBlock) -> float:
    """Σ (Δ̂ − Δ)² in float64."""
    total = 0.0
    for start in range(0, delta.hi.size, CHUNK):
        parts = [block.part(np.s_[start : start + CHUNK]) for block in (stored, delta)]
        ours, theirs = (_values(part) for part in parts)
        total += square_sum(ours - theirs)
    return total


def _values(block: DeltaBlock) -> Floats:
    values = widen(block.hi, block.dtype).astype(np.float64)
    return values if block.lo is None else values + widen(block.lo, block.dtype)


def _add_wide(
    target: Bits, dtype: DType, delta: DeltaBlock, scale: float, result_dtype: DType
) -> Bits:
    """Target + scale·(hi + lo) through float64, rounded once to the result's dtype.

    Without lo the sum of two float32 numbers is rounded to 53 bits first, which is innocuous.
    """
    base = widen(target, dtype).astype(np.float64)
    hi = widen(delta.hi, delta.dtype).astype(np.float64)
    if delta.lo is None:
        hi *= scale
        base += hi
        result = narrow_double(base, result_dtype)
        untouched = np.flatnonzero(delta.hi == delta.dtype.sign_bit)
        if untouched.size:
            result[untouched] = convert(target[untouched], dtype, result_dtype)
        return result
    low_bits = delta.lo
    lo = widen(low_bits, delta.dtype).astype(np.float64)
    total = round_to_odd_sum(base, hi, lo) if scale == 1.0 else base + scale * (hi + lo)
    result = narrow_double(total, result_dtype)
    negative_zero = (low_bits == delta.dtype.sign_bit) & (total == 0)
    result[negative_zero] = result_dtype.sign_bit
    untouched = (delta.hi == delta.dtype.sign_bit) & (low_bits == 0)
    result[untouched] = convert(target, dtype, result_dtype)[untouched]
    return result


def _add_plain(target: Bits, hi: Bits, dtype: DType) -> Bits:
    """Target + hi with one rounding, for lo = 0.

    Rounding a sum of two p-bit numbers first to q ≥ 2p + 1 bits and then to p bits is innocuous
    (Figueroa 1995), so float32 does for BF16 (8 bits) and F16 (11 bits).
    """
    return narrow(widen(hi, dtype) + widen(target, dtype), dtype)


def add(target: Bits, delta: DeltaBlock, dtype: DType, *, scale: float = 1.0) -> None:
    """Target ← target + scale·Δ in place, rounded once to the target's dtype.

    For scale 1 the result is the correctly rounded exact sum; for other scales the sum is
    evaluated in float64 and rounded once.

    Args:
        target: Bits of the target, 1-D and contiguous; overwritten.
        delta: The delta of the same elements, in any float dtype.
        dtype: The target's dtype.
        scale: Task-arithmetic coefficient λ.

    Raises:
        NonFiniteError: The result (or the target itself) is not finite.
    """
    plain = scale == 1.0 and (delta.dtype == dtype or dtype is F32)
    with np.errstate(over="ignore", invalid="ignore"):
        if delta.changed is not None:
            _add_sparse(target, dtype, delta, delta.changed, scale)
        elif plain and delta.dtype is dtype is BF16 and kernels.usable(target, delta.hi):
            _add_compiled(target, delta)
            return
        elif plain:
            _add_dense(target, dtype, delta)
        else:
            for start in range(0, target.size, CHUNK):
                part = slice(start, start + CHUNK)
                target[part] = _add_wide(target[part], dtype, delta.part(part), scale, dtype)
    _require_finite(target, dtype, _OVERFLOWS)


def _add_dense(target: Bits, dtype: DType, delta: DeltaBlock) -> None:
    """Target + hi everywhere, and the whole sum again at the few places that have a lo."""
    where, sums = sums_with_lo(target, delta, dtype)
    for start in range(0, target.size, CHUNK):
        part = slice(start, start + CHUNK)
        hi = convert(delta.hi[part], delta.dtype, dtype)
        target[part] = _add_plain(target[part], hi, dtype)
    target[where] = sums


def _add_compiled(target: Bits, delta: DeltaBlock) -> None:
    """`_add_dense` of BF16 to BF16, with its check, in one pass."""
    where, sums = sums_with_lo(target, delta, BF16)
    finite = kernels.COMPILED.add(target, delta.hi)
    target[where] = sums
    if not finite or not all_finite(sums, BF16):
        _require_finite(target, BF16, _OVERFLOWS)


def _add_sparse(
    target: Bits, dtype: DType, delta: DeltaBlock, changed: NDArray[np.intp], scale: float
) -> None:
    """Add only where a sparse delta changes something, or has a lo."""
    if scale == 1.0 and delta.dtype == dtype:
        where, sums = sums_with_lo(target, delta, dtype)
        target[changed] = _add_plain(target[changed], delta.hi[changed], dtype)
        target[where] = sums
        return
    index = np.union1d(changed, delta.places)
    for start in range(0, index.size, CHUNK):
        part = index[start : start + CHUNK]
        target[part] = _add_wide(target[part], dtype, delta.part(part), scale, dtype)


def rebuilds(source: Bits, delta: DeltaBlock, tuned: Bits) -> bool:
    """Whether source + Δ is the fine-tuned model bit for bit, as `add` computes it.

    Where lo is zero the sum is representable, so that it needs no rounding to be compared.

    Args:
        source: Bits of the source base, in the delta's dtype.
        delta: The delta of the same elements.
        tuned: Bits of the fine-tuned model, likewise.
    """
    dtype = delta.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        where, special = sums_with_lo(source, delta, dtype)
        if not np.array_equal(special, tuned[where]):
            return False
        wrong = _count_unequal(source, delta.hi, tuned, dtype)
        return not wrong or wrong == _count_unequal(
            source[where], delta.hi[where], tuned[where], dtype
        )


def _count_unequal(source: Bits, hi: Bits, tuned: Bits, dtype: DType) -> int:
    """Elements at which source + hi, in float32, is not the fine-tuned value."""
    if dtype is BF16 and kernels.usable(source, hi, tuned):
        return int(kernels.COMPILED.count_unequal(source, hi, tuned))
    total = 0
    for start in range(0, source.size, CHUNK):
        parts = [bits[start : start + CHUNK] for bits in (source, hi, tuned)]
        if dtype is BF16 and parts[0].size % 2 == 0:
            total += count_unequal_halves(parts[0], parts[1], parts[2])
            continue
        base, change, fine = (widen(part, dtype) for part in parts)
        unequal = (change + base).view(np.uint32) != fine.view(np.uint32)
        total += int(np.count_nonzero(unequal))
    return total


def sums_with_lo(target: Bits, delta: DeltaBlock, dtype: DType) -> tuple[NDArray[np.intp], Bits]:
    """The few elements that have a lo: where they are, and target + Δ there, rounded once."""
    where = delta.places
    sums = np.empty(where.size, dtype.numpy)
    if not where.size:
        return where, sums
    if (
        delta.dtype is dtype is BF16
        and delta.lo is not None
        and where.itemsize == 8
        and kernels.usable(target, delta.hi, delta.lo, where)
    ):
        kernels.COMPILED.sums(target, delta.hi, delta.lo, where, sums)
        return where, sums
    for start in range(0, where.size, CHUNK):
        index = where[start : start + CHUNK]
        sums[start : start + CHUNK] = _add_wide(target[index], dtype, delta.part(index), 1.0, dtype)
    return where, sums


def add_as(
    target: Bits, dtype: DType, delta: DeltaBlock, result_dtype: DType, *, scale: float = 1.0
) -> Bits:
    """Target + scale·Δ as new bits of another dtype, rounded once.

    Args:
        target: Bits of the target, 1-D; not changed.
        dtype: The target's dtype.
        delta: The delta of the same elements.
        result_dtype: Dtype of the result.
        scale: Task-arithmetic coefficient λ.

    Raises:
        NonFiniteError: The result is not finite.
    """
    result = np.empty(target.size, result_dtype.numpy)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, target.size, CHUNK):
            part = slice(start, start + CHUNK)
            result[part] = _add_wide(target[part], dtype, delta.part(part), scale, result_dtype)
    _require_finite(result, result_dtype, _OVERFLOWS)
    return result
