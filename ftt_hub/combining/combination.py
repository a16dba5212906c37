"""The combined Δ, a run of elements at a time: what the writer stores and the merger adds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.combining.agreement import Planned
from ftt_hub.combining.inputs import Input, joined, values_of
from ftt_hub.combining.methods import Merge, Method, Tensor, weighted_sum
from ftt_hub.combining.statistics import Floats
from ftt_hub.errors import NonFiniteError, UnsupportedError
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
        method: How inputs become one.
        thresholds: Of each input, by `id`, where the method has a density.
    """

    def __init__(
        self, tensors: Mapping[str, Planned], method: Method, thresholds: Thresholds
    ) -> None:
        self.tensors = tensors
        self._method, self._thresholds = method, thresholds
        self._merges: dict[str, Merge] = {}
        self._locks = {name: threading.Lock() for name in tensors}

    def whole(self, name: str, start: int, count: int) -> DeltaBlock | None:
        """The run as one input has it, where nothing is computed: a lone input of weight 1."""
        planned = self.tensors[name]
        inputs, weights = planned.inputs, planned.weights
        if start >= planned.changes:
            inputs, weights = planned.givers, (1.0,) * len(planned.givers)
        elif not self._method.is_sum or start + count > planned.changes:
            return None
        alone = [(i, w) for i, w in zip(inputs, weights, strict=True) if i.has(name, start)]
        if not alone:
            return identity(count, planned.entry.dtype)
        return alone[0][0].read(name, start, count) if [w for _, w in alone] == [1.0] else None

    def ideal(self, name: str, start: int, count: int) -> DeltaBlock:
        """The run as hi + lo in F32, 48 bits of its float64 value; or as `whole` has it.

        Raises:
            IntegrityError: A frame of an input is damaged.
            NonFiniteError: A sum overflows.
        """
        found = self.whole(name, start, count)
        if found is not None:
            return found
        planned = self.tensors[name]
        border = min(max(planned.changes, start), start + count)
        parts = []
        if border > start:
            parts.append(self._merged(planned, start, border - start))
        if border < start + count:
            alone = self.whole(name, border, start + count - border)
            values = self._mean(planned, border, start + count - border)
            parts.append(values if alone is None else widened(alone))
        return joined(parts, count)

    def stored(self, name: str, start: int, count: int) -> tuple[DeltaBlock, DeltaBlock]:
        """The run as an adapter stores it, and as it would be without rounding."""
        dtype, found = self.tensors[name].entry.dtype, self.whole(name, start, count)
        if found is not None and found.dtype == dtype:
            return found, found
        ideal = self.ideal(name, start, count) if found is None else found
        return rounded_to(ideal, dtype, name), ideal

    def _merged(self, planned: Planned, start: int, count: int) -> DeltaBlock:
        blocks = [i.read(planned.entry.name, start, count) for i in planned.inputs]
        merge = self._merge(planned)
        return _filled(
            count,
            planned.entry.name,
            lambda part: merge([values_of(b, part) for b in blocks], start + part.start),
        )

    def _mean(self, planned: Planned, start: int, count: int) -> DeltaBlock:
        blocks = [i.read(planned.entry.name, start, count) for i in planned.givers]
        total = sum(planned.shares)
        return _filled(
            count,
            planned.entry.name,
            lambda part: weighted_sum([values_of(b, part) for b in blocks], planned.shares) / total,
        )

    def _merge(self, planned: Planned) -> Merge:
        name = planned.entry.name
        with self._locks[name]:
            if name not in self._merges:
                self._merges[name] = self._method.plan(self._tensor(planned))
            return self._merges[name]

    def _tensor(self, planned: Planned) -> Tensor:
        return Tensor(
            planned.entry.name,
            planned.changes,
            planned.weights,
            [i.key for i in planned.inputs],
            [self._thresholds.get(id(i), 0.0) for i in planned.inputs],
            lambda: chunks_of(planned, planned.inputs),
        )


def chunks_of(planned: Planned, inputs: tuple[Input, ...]) -> Iterator[list[Floats]]:
    """The changes of some inputs in a tensor, a chunk at a time, a block in memory."""
    start = 0
    for block in planned.entry.blocks:
        count = min(block.elements, planned.changes - start)
        if count <= 0:
            return
        held = [i.read(planned.entry.name, start, count) for i in inputs]
        for first in range(0, count, CHUNK):
            part = slice(first, min(first + CHUNK, count))
            yield [values_of(b, part) for b in held]
        start += count


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
    """A combination in the place of an adapter's frames: nothing is stored, all is computed.

    Args:
        combination: Makes the blocks.
        folder: Where the files beside the container lie.
    """

    def __init__(self, combination: Combination, folder: Path) -> None:
        self.folder, self.anchor = folder, None
        self._files, self._slots = [], {}
        self._combination = combination
        self.entries = {name: p.entry for name, p in combination.tensors.items()}

    @property
    def needs_source(self) -> bool:
        """Never: inputs that do have got it."""
        return False

    def frame(self, entry: TensorEntry, number: int) -> bytes:
        """There are none.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a combination has no frames", where=entry.name)

    def decode(self, entry: TensorEntry, number: int) -> DeltaBlock:
        """The combined Δ of one block, not rounded to the entry's dtype."""
        start = sum(block.elements for block in entry.blocks[:number])
        return self._combination.ideal(entry.name, start, entry.blocks[number].elements)
