"""The combined Δ, a run of elements at a time: what the writer stores and the merger adds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.combining.inputs import CombinedTensor, joined, values_of
from ftt_hub.combining.methods import Merge, Method, Tensor
from ftt_hub.errors import NonFiniteError, UnsupportedError
from ftt_hub.tensors.chunk_sums import Floats, weighted_sum
from ftt_hub.tensors.delta import CHUNK
from ftt_hub.tensors.delta_block import DeltaBlock, identity
from ftt_hub.tensors.dtypes import F32, Bits, DType
from ftt_hub.tensors.rounding import all_finite, convert, narrow_double, widen

KEPT_FROM = 0.99
"""Part of a block for which hi + lo must be exact, so that lo is kept."""

Thresholds = Mapping[int, float]
"""`id` of an input → the smallest magnitude kept of it."""


class Combination:
    """Makes runs of the combined Δ; safe to call from many threads.

    Args:
        tensors: By name.
        method: Combines the inputs of one tensor.
        thresholds: The smallest magnitude kept of each input, where the method has a density.
    """

    def __init__(
        self, tensors: Mapping[str, CombinedTensor], method: Method, thresholds: Thresholds
    ) -> None:
        self.tensors = tensors
        self._method, self._thresholds = method, thresholds
        self._merges: dict[str, Merge] = {}
        self._locks = {name: threading.Lock() for name in tensors}

    def whole(self, name: str, start: int, count: int) -> DeltaBlock | None:
        """The run as it stands in one input, where a single input of weight 1 changes it."""
        combined = self.tensors[name]
        inputs, weights = combined.inputs, combined.weights
        if start >= combined.changes:
            inputs, weights = combined.givers, (1.0,) * len(combined.givers)
        elif not self._method.is_sum or start + count > combined.changes:
            return None
        alone = [(i, w) for i, w in zip(inputs, weights, strict=True) if i.has(name, start)]
        if not alone:
            return identity(count, combined.entry.dtype)
        return alone[0][0].read(name, start, count) if [w for _, w in alone] == [1.0] else None

    def ideal(self, name: str, start: int, count: int) -> DeltaBlock:
        """The run as hi + lo in F32, 48 bits of its float64 value; or as `whole` has it.

        Raises:
            IntegrityError: A frame of an input is damaged.
            NonFiniteError: A sum overflows.
        """
        alone = self.whole(name, start, count)
        if alone is not None:
            return alone
        combined = self.tensors[name]
        border = min(max(combined.changes, start), start + count)
        parts = []
        if border > start:
            parts.append(self._merged(combined, start, border - start))
        if border < start + count:
            alone = self.whole(name, border, start + count - border)
            values = self._mean(combined, border, start + count - border)
            parts.append(values if alone is None else widened(alone))
        return joined(parts, count)

    def stored(self, name: str, start: int, count: int) -> tuple[DeltaBlock, DeltaBlock]:
        """The run as an adapter stores it, and as it would be without rounding."""
        dtype, alone = self.tensors[name].entry.dtype, self.whole(name, start, count)
        if alone is not None and alone.dtype == dtype:
            return alone, alone
        ideal = self.ideal(name, start, count) if alone is None else alone
        return rounded_to(ideal, dtype, name), ideal

    def _merged(self, combined: CombinedTensor, start: int, count: int) -> DeltaBlock:
        blocks = [i.read(combined.entry.name, start, count) for i in combined.inputs]
        merge = self._merge(combined)
        return _filled(
            count,
            combined.entry.name,
            lambda part: merge([values_of(b, part) for b in blocks], start + part.start),
        )

    def _mean(self, combined: CombinedTensor, start: int, count: int) -> DeltaBlock:
        blocks = [i.read(combined.entry.name, start, count) for i in combined.givers]
        total = sum(combined.shares)
        return _filled(
            count,
            combined.entry.name,
            lambda part: (
                weighted_sum([values_of(b, part) for b in blocks], combined.shares) / total
            ),
        )

    def _merge(self, combined: CombinedTensor) -> Merge:
        name = combined.entry.name
        with self._locks[name]:
            if name not in self._merges:
                self._merges[name] = self._method.plan(self._tensor(combined))
            return self._merges[name]

    def _tensor(self, combined: CombinedTensor) -> Tensor:
        return Tensor(
            combined.entry.name,
            combined.changes,
            combined.weights,
            [i.key for i in combined.inputs],
            [self._thresholds.get(id(i), 0.0) for i in combined.inputs],
            lambda: combined.chunks(combined.inputs),
        )


def _filled(count: int, name: str, make: Callable[[slice], Floats]) -> DeltaBlock:
    hi, lo = np.empty(count, F32.numpy), np.empty(count, F32.numpy)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, count, CHUNK):
            part = slice(first, min(first + CHUNK, count))
            hi[part], lo[part], _ = split(make(part), F32)
    _require_finite(hi, F32, name)
    return DeltaBlock(hi, lo if lo.any() else None, F32)


def split(values: Floats, dtype: DType) -> tuple[Bits, Bits, int]:
    """Values rounded to hi, the rest rounded to lo, and for how many nothing is lost."""
    hi = narrow_double(values, dtype)
    upper = widen(hi, dtype).astype(np.float64)
    hi[upper == 0] = dtype.sign_bit
    lo = narrow_double(values - upper, dtype)
    lower = widen(lo, dtype).astype(np.float64)
    lo[lower == 0] = 0
    return hi, lo, int(np.count_nonzero(upper + lower == values))


def rounded_to(ideal: DeltaBlock, dtype: DType, name: str) -> DeltaBlock:
    """What is stored of a block: rounded to `dtype`, with lo where that makes it exact.

    Rounding Δ once lies far below what rounding the sum does to a model, and a full lo costs more
    bits than hi. It is kept where it is exact for 99 elements of 100, as with weights ±1, and
    never in F32.
    """
    count = ideal.hi.size
    hi, lo, exact = np.empty(count, dtype.numpy), np.empty(count, dtype.numpy), 0
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, count, CHUNK):
            part = slice(first, min(first + CHUNK, count))
            hi[part], lo[part], same = split(values_of(ideal, part), dtype)
            exact += same
    _require_finite(hi, dtype, name)
    kept = dtype is not F32 and exact >= KEPT_FROM * count and lo.any()
    return DeltaBlock(hi, lo if kept else None, dtype)


def widened(block: DeltaBlock) -> DeltaBlock:
    """The same in F32."""
    lo = None if block.lo is None else convert(block.lo, block.dtype, F32)
    return DeltaBlock(convert(block.hi, block.dtype, F32), lo, F32)


def _require_finite(bits: Bits, dtype: DType, name: str) -> None:
    if not all_finite(bits, dtype):
        raise NonFiniteError(
            "the combined Δ overflows its dtype",
            where=name,
            expected=dtype.name,
            hint="Lower the weights, or set dtype: float32.",
        )


class CombinedContainer(Container):
    """Stands for the frames of an adapter; every block is computed when it is decoded.

    Args:
        combination: Makes the blocks.
        folder: Folder of the files beside the container.
    """

    def __init__(self, combination: Combination, folder: Path) -> None:
        self.folder, self.anchor = folder, None
        self._files, self._slots = [], {}
        self._combination = combination
        self.entries = {name: p.entry for name, p in combination.tensors.items()}

    @property
    def needs_source(self) -> bool:
        """Always false: anchored inputs were given their source base when they were opened."""
        return False

    def frame(self, entry: TensorEntry, number: int) -> bytes:
        """Refuse: nothing is stored.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a combination has no frames", where=entry.name)

    def decode(self, entry: TensorEntry, number: int) -> DeltaBlock:
        """The combined Δ of one block, not rounded to the entry's dtype."""
        start = sum(block.elements for block in entry.blocks[:number])
        return self._combination.ideal(entry.name, start, entry.blocks[number].elements)
