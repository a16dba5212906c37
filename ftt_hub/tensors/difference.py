"""Tuned − source, exactly, as hi + lo in their own dtype; `tensors.delta` explains the form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ftt_hub import kernels
from ftt_hub.tensors.dtypes import BF16, Bits, DType
from ftt_hub.tensors.halves import CHUNK, Halves, workspace
from ftt_hub.tensors.rounding import Floats, narrow, two_sum, widen

_SAFE = (1e-25, 1e30)
"""Sums of squares in float32 that can be trusted; below, single squares may have vanished."""

Places = NDArray[np.intp]

_SIGN = np.uint16(BF16.sign_bit)
_ROW = 1 << 10
_BLOCK = 2 * _ROW
"""Elements that compiled code takes at a time: a row of even ones, a row of odd ones."""


@dataclass
class Difference:
    """Tuned − source as hi + lo, and what was seen on the way.

    Attributes:
        hi: Bits of the difference rounded to nearest.
        lo: Bits of the rounding error; ``None`` where it is +0.0 everywhere.
        runs: Where lo is not, ascending, in runs.
        delta_square: Σ (tuned − source)²; not finite where either holds NaN or infinity.
        source_square: Σ source², likewise.
        changed: Elements whose bits differ.
    """

    hi: Bits
    lo: Bits | None = None
    runs: list[Places] = field(default_factory=list)
    delta_square: float = 0.0
    source_square: float = 0.0
    changed: int = 0

    def keep(self, places: Places, lo: Bits) -> None:
        """Note lo at some more places."""
        if places.size:
            if self.lo is None:
                self.lo = np.zeros_like(self.hi)
            self.lo[places] = lo
            self.runs.append(places)

    @property
    def places(self) -> Places | None:
        """Where lo is not +0.0, ascending; ``None`` where it is so everywhere."""
        return np.concatenate(self.runs) if self.runs else None


def difference(source: Bits, tuned: Bits, dtype: DType) -> Difference:
    """Tuned − source of contiguous 1-D arrays, a chunk at a time.

    NaN, infinity and overflow show in the sums of squares and in hi.
    """
    result = Difference(np.empty_like(source))
    with np.errstate(over="ignore", invalid="ignore"):
        done = _compiled(result, source, tuned) if dtype is BF16 else 0
        chunks = [slice(start, start + CHUNK) for start in range(done, source.size, CHUNK)]
        if dtype is BF16:
            _subtract_bf16(result, source, tuned, chunks)
            return result
        for part in chunks:
            before, after = source[part], tuned[part]
            result.hi[part], places, lo, minus = _exactly(before, after, dtype)
            result.keep(places + part.start, lo)
            result.delta_square += square_sum(minus)
            result.source_square += square_sum(widen(before, dtype))
            result.changed += int(np.count_nonzero(before != after))
    return result


def _compiled(result: Difference, source: Bits, tuned: Bits) -> int:
    """Whole chunks, and a last one in whole blocks, by compiled code; how many elements it did."""
    rest = source.size % CHUNK
    done = source.size - (rest if rest % _BLOCK else 0)
    if not done or not kernels.usable(source, tuned):
        return 0
    sums = np.zeros((-(-done // CHUNK), 2, _BLOCK), np.float32)
    lo = np.empty_like(source)
    result.changed, number = kernels.COMPILED.subtract(
        source[:done], tuned[:done], result.hi[:done], lo[:done], sums, CHUNK
    )
    if number:
        places = np.empty(number, np.int64)
        kernels.COMPILED.places(lo[:done], places)
        lo[done:] = 0
        result.lo, result.runs = lo, [places.astype(np.intp, copy=False)]
    totals = np.add.reduce(sums.reshape(-1, 2, _ROW, 2).swapaxes(2, 3).reshape(-1, _BLOCK), axis=1)
    for number, (deltas, weights) in enumerate(totals.reshape(-1, 2).tolist()):
        start = number * CHUNK
        before, after = (bits[start : min(start + CHUNK, done)] for bits in (source, tuned))
        result.delta_square += _trusted(deltas, partial(_minus, before, after))
        result.source_square += _trusted(weights, partial(_values, before))
    return done


def _values(bits: Bits) -> NDArray[np.float32]:
    """Values in the order in which `Halves` has them: the even elements, then the odd ones."""
    return widen(bits.reshape(-1, 2).T.reshape(-1), BF16)


def _minus(source: Bits, tuned: Bits) -> NDArray[np.float32]:
    return _values(source) - _values(tuned)


def _subtract_bf16(result: Difference, source: Bits, tuned: Bits, chunks: list[slice]) -> None:
    """The differences of BF16 are mostly exact in BF16; the others are done again, together."""
    doubtful: list[Places] = []
    for part in chunks:
        before, after, hi = source[part], tuned[part], result.hi[part]
        count = hi.size
        if count % 2:
            before, after, hi = (np.append(bits, np.uint16(0)) for bits in (before, after, hi))
        places = _subtract_chunk(result, before, after, hi)
        if count % 2:
            result.hi[part], places = hi[:count], places[places < count]
        if places.size:
            doubtful.append(places + part.start)
    if not doubtful:
        return
    every = np.concatenate(doubtful)
    for start in range(0, every.size, CHUNK):
        where = every[start : start + CHUNK]
        result.hi[where], places, lo, _ = _exactly(source[where], tuned[where], BF16)
        result.keep(where[places], lo)


def _subtract_chunk(result: Difference, before: Bits, after: Bits, hi: Bits) -> Places:
    """An even number of elements; gives the places at which hi may be wrong or leave a lo.

    These are where float32 holds more of the difference than BF16 can; where one number is so much
    smaller than the other that it is lost in the sum; and where a negative zero must come out.
    """
    work = workspace(hi.size)
    base, minus, (lost, other) = work.first, work.second, work.flags
    base.fill(before)
    minus.fill(after)
    np.subtract(base.values, minus.values, out=minus.values)
    work.cut(minus, hi)
    np.equal(hi, before, out=lost)
    np.bitwise_xor(hi, _SIGN, out=hi)
    np.equal(hi, after, out=other)
    np.bitwise_or(lost, other, out=lost)
    places = _lost(before, after, lost.nonzero()[0], minus)
    longer = work.longer_than_bf16(minus)
    result.changed += hi.size - int(np.count_nonzero(np.equal(before, after, out=lost)))
    result.delta_square += square_sum(minus.values, scratch=work.third.values)
    result.source_square += square_sum(base.values, scratch=work.third.values)
    return np.unique(np.concatenate([longer, places])) if places.size else longer


def _lost(before: Bits, after: Bits, where: Places, minus: Halves) -> Places:
    """Of the places where hi equals one of the two numbers: those that need more than hi.

    Either neither number is zero, and yet float32 has no more to say; or after is a new −0.0.
    """
    if not where.size:
        return where
    words = np.where(where & 1, minus.odd[where >> 1], minus.even[where >> 1])
    before, after = before[where], after[where]
    nonzero = ((after << 1) != 0) & ((before << 1) != 0) & (words & 0xFFFF == 0)
    result: Places = where[nonzero | ((after == _SIGN) & (before != _SIGN))]
    return result


def _exactly(
    source: Bits, tuned: Bits, dtype: DType
) -> tuple[Bits, Places, Bits, NDArray[np.float32]]:
    """Hi, where lo is not +0.0, lo there, and the negated difference in float32."""
    minus, error = (
        np.asarray(part, np.float32) for part in two_sum(widen(source, dtype), -widen(tuned, dtype))
    )
    hi = narrow(minus, dtype)
    residue = np.asarray(minus - widen(hi, dtype) + error, np.float32)
    negative_zero = (tuned == dtype.sign_bit) & (source != dtype.sign_bit)
    places = np.flatnonzero((residue != 0) | negative_zero)
    lo = narrow(-residue[places], dtype)
    lo[negative_zero[places] & (residue[places] == 0)] = dtype.sign_bit
    return hi ^ hi.dtype.type(dtype.sign_bit), places, lo, minus


def square_sum(values: Floats, *, scratch: NDArray[np.float32] | None = None) -> float:
    """Σ x², by sums whose order is the same on every machine.

    In float32 where that neither overflows nor vanishes (to about 1e-7 for a chunk), else in
    float64; NaN or infinity where `values` hold such.

    Args:
        values: 1-D.
        scratch: Memory of the same shape and dtype to use for float32 values; overwritten.
    """
    if values.dtype == np.float32:
        squares = np.square(values, out=scratch)
        if squares.size % _BLOCK == 0:  # elementwise sums of rows are the fastest
            squares = np.add.reduce(squares.reshape(2, -1, _ROW), axis=1).reshape(-1)
        return _trusted(float(np.add.reduce(squares)), lambda: values)
    return float(np.square(values, dtype=np.float64).sum())


def _trusted(total: float, values: Callable[[], Floats]) -> float:
    """A float32 sum of squares, or the float64 one of the values where that cannot be trusted."""
    if _SAFE[0] < total < _SAFE[1]:
        return total
    return float(np.square(values(), dtype=np.float64).sum())
