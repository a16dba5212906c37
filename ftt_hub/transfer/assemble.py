"""The bits of a tensor of the result, a range at a time: target + λΔ, rows aligned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.checkpoint.arrangement import Arrangement, Piece
from ftt_hub.checkpoint.view import strided
from ftt_hub.checkpoint.vocabulary import RowPlan
from ftt_hub.errors import FttError, NonFiniteError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.rounding import all_finite, convert
from ftt_hub.transfer.plan import TensorPlan

BLOCK_ELEMENTS = 4 << 20
ALIGNED_ELEMENTS = 64 << 20
"""Where rows move, a range is this large, since each range decodes every block of the delta."""


class Add(Protocol):
    """`delta.add`, or something faster that gives the same bits."""

    def __call__(
        self, target: Bits, block: DeltaBlock, dtype: DType, /, *, scale: float = 1.0
    ) -> None:
        """Target ← target + scale·Δ in place."""


ReadBits = Callable[[str, int, int], Bits]
Range = tuple[int, int]


def check_scale(scale: float) -> float:
    """The scale itself, when it is a finite number.

    Raises:
        FttError: It is NaN or infinite.
    """
    if not math.isfinite(scale):
        raise FttError("the scale must be a finite number", where="scale", found=scale)
    return scale


def whole_rows(shape: tuple[int, ...], elements: int) -> Iterator[Range]:
    """Ranges (first element, count) of whole rows of about `elements` elements."""
    total = int(np.prod(shape, dtype=np.int64))
    row = int(np.prod(shape[1:], dtype=np.int64)) if shape else 1
    step = max(1, elements // max(1, row)) * max(1, row)
    yield from ((start, min(step, total - start)) for start in range(0, total, step))


def ranges(plan: TensorPlan) -> list[Range]:
    """Ranges in which a tensor of the result is best made: one stored block each."""
    if plan.rows is not None:
        return list(whole_rows(plan.shape[plan.axis :], ALIGNED_ELEMENTS))
    if plan.parts:
        elements = range_elements(part.piece for part in plan.parts)
        return list(whole_rows(plan.shape, elements))
    if plan.entry is None:
        return list(whole_rows(plan.shape, BLOCK_ELEMENTS))
    result, start = [], 0
    for block in plan.entry.blocks:
        result.append((start, block.elements))
        start += block.elements
    return result


def range_elements(pieces: Iterable[Piece]) -> int:
    """Elements of a range: few where deltas and result run in the same order, else many."""
    for piece in pieces:
        by_source = sorted(piece.axes, key=lambda axis: axis.source)
        if by_source != sorted(piece.axes, key=lambda axis: axis.target):
            return ALIGNED_ELEMENTS
    return BLOCK_ELEMENTS


Loops = list[tuple[int, int]]
"""Size and step of nested loops over the elements of a flattened tensor."""


def blocks_of(
    container: Container, entry: TensorEntry, piece: Piece
) -> Iterator[tuple[DeltaBlock, int, Loops]]:
    """The deltas of a piece, a stored block at a time: block, first element of the result, loops.

    The loops visit the elements of the result in the order of the block's. Only blocks that the
    piece touches are decoded.
    """
    backwards = Arrangement((entry.count,), (piece.inverse,))
    span = piece.last_source - piece.source + 1
    for start, block in container.decode_range(entry, piece.source, span):
        for inside in backwards.section(start, block.hi.size).pieces:
            axes = sorted(inside.axes, key=lambda axis: -axis.target)
            selected = _selected(block, inside.target, [(axis.size, axis.target) for axis in axes])
            yield selected, inside.source, [(axis.size, axis.source) for axis in axes]


def gathered(
    container: Container, entries: Mapping[str, TensorEntry], made: Arrangement, dtype: DType
) -> DeltaBlock:
    """The deltas of an arrangement as one block; "no change" where nothing is stored."""
    hi = np.full(made.count, dtype.sign_bit, dtype.numpy)
    lo: Bits | None = None
    for piece in made.pieces:
        entry = entries[piece.name]
        if entry.slot is None:
            continue
        for block, first, loops in blocks_of(container, entry, piece):
            shape = tuple(size for size, _ in loops)
            strided(hi, first, loops)[...] = convert(block.hi, block.dtype, dtype).reshape(shape)
            if block.lo is not None:
                lo = np.zeros_like(hi) if lo is None else lo
                low = convert(block.lo, block.dtype, dtype)
                strided(lo, first, loops)[...] = low.reshape(shape)
    return DeltaBlock(hi, lo, dtype)


def _selected(block: DeltaBlock, start: int, loops: Loops) -> DeltaBlock:
    """The elements of a block that loops visit, in their order."""

    def of(bits: Bits) -> Bits:
        return np.ascontiguousarray(strided(bits, start, loops)).reshape(-1)

    return DeltaBlock(of(block.hi), None if block.lo is None else of(block.lo), block.dtype)


@dataclass(frozen=True)
class Assembler:
    """Makes ranges of result tensors; safe to call from many threads.

    Attributes:
        read_target: Reads bits of the target by name, first element and count.
        container: The adapter's frames.
        scale: Task-arithmetic coefficient λ.
        add: Adds a block in place.
    """

    read_target: ReadBits
    container: Container
    scale: float = 1.0
    add: Add = delta.add

    def fill(self, plan: TensorPlan, start: int, out: Bits) -> None:
        """As `bits`, into memory of the result's dtype, so that no second copy is held.

        Raises:
            IntegrityError: A frame is damaged.
            NonFiniteError: Target or sum hold NaN or infinity.
        """
        made = self._made(plan, start, out.size, plan.dtype, out)
        if made is not out:
            out[:] = made

    def bits(self, plan: TensorPlan, start: int, count: int, dtype: DType | None = None) -> Bits:
        """Bits of elements [start, start + count) of a result tensor, in `dtype` or its own.

        Raises:
            IntegrityError: A frame is damaged.
            NonFiniteError: Target or sum hold NaN or infinity.
        """
        wanted = plan.dtype if dtype is None or not plan.dtype.is_float else dtype
        return self._made(plan, start, count, wanted, None)

    def _made(
        self, plan: TensorPlan, start: int, count: int, wanted: DType, out: Bits | None
    ) -> Bits:
        try:
            if plan.rows is not None:
                return self._aligned(plan, plan.rows, start, count, wanted)
            base = self._base(plan, start, count)
            if out is not None:
                out[:] = base
                base = out
            if plan.parts:
                return self._pieced(plan, base, start, wanted)
            if plan.entry is None:
                if plan.verbatim:
                    return convert(base, plan.dtype, wanted)
                return self._copy(base, plan.dtype, wanted)
            return self._sum(plan, plan.entry, base, start, wanted)
        except NonFiniteError as error:
            raise NonFiniteError(
                error.what, where=plan.name, hint="Repair the model; nothing was written."
            ) from error

    def _copy(self, bits: Bits, dtype: DType, wanted: DType) -> Bits:
        if dtype.is_float and not all_finite(bits, dtype):
            raise NonFiniteError("the target holds NaN or infinity")
        return convert(bits, dtype, wanted)

    def _base(self, plan: TensorPlan, start: int, count: int) -> Bits:
        if plan.target is None:
            return np.zeros(count, plan.dtype.numpy)
        return self.read_target(plan.target.name, start, count)

    def _sum(
        self, plan: TensorPlan, entry: TensorEntry, base: Bits, start: int, wanted: DType
    ) -> Bits:
        result = base if wanted == plan.dtype else np.empty(base.size, wanted.numpy)
        for first, block in self.container.decode_range(entry, start, base.size):
            part = np.s_[first - start : first - start + block.hi.size]
            if wanted != plan.dtype:
                result[part] = delta.add_as(base[part], plan.dtype, block, wanted, scale=self.scale)
            elif block.is_identity:
                self._copy(base[part], plan.dtype, wanted)
            else:
                self.add(base[part], block, plan.dtype, scale=self.scale)
        return result

    def _pieced(self, plan: TensorPlan, base: Bits, start: int, wanted: DType) -> Bits:
        """The sum where the target's layout is another: each part to the elements it is for."""
        result = self._copy(base, plan.dtype, wanted)
        for part in plan.parts:
            if part.piece.target >= start + base.size or part.piece.last_target < start:
                continue
            section = Arrangement(plan.shape, (part.piece,)).section(start, base.size)
            for piece in section.pieces:
                for block, first, loops in blocks_of(self.container, part.entry, piece):
                    self._add_loops(
                        block,
                        strided(base, first, loops),
                        strided(result, first, loops),
                        (plan.dtype, wanted),
                    )
        return result

    def _add_loops(
        self, block: DeltaBlock, base: Bits, result: Bits, dtypes: tuple[DType, DType]
    ) -> None:
        """Add a block to the elements that loops visit, with the bits that `delta.add` gives."""
        dtype, wanted = dtypes
        if block.is_identity:
            return
        own = np.ascontiguousarray(base).reshape(-1)
        if dtype == wanted:
            sums = own.copy()
            self.add(sums, block, dtype, scale=self.scale)
        else:
            sums = delta.add_as(own, dtype, block, wanted, scale=self.scale)
        result[...] = sums.reshape(result.shape)

    def _aligned(
        self, plan: TensorPlan, rows: RowPlan, start: int, count: int, wanted: DType
    ) -> Bits:
        width = plan.token_elements
        first, number = start // width, count // width
        table = np.zeros((number, width), plan.dtype.numpy)
        self._gather(plan, rows.target_row[first : first + number], table)
        if plan.entry is not None:
            self._scatter(plan, plan.entry, rows.delta_row[first : first + number], table)
        return convert(table.reshape(-1), plan.dtype, wanted)

    def _gather(self, plan: TensorPlan, places: np.ndarray, table: np.ndarray) -> None:
        """Rows of the target into the table, a run of consecutive rows at a time."""
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        for run in np.split(np.arange(len(places)), breaks):
            if run.size and places[run[0]] >= 0 and plan.target is not None:
                width = table.shape[1]
                bits = self.read_target(
                    plan.target.name, int(places[run[0]]) * width, run.size * width
                )
                table[run[0] : run[0] + run.size] = bits.reshape(-1, width)

    def _scatter(
        self, plan: TensorPlan, entry: TensorEntry, places: np.ndarray, table: np.ndarray
    ) -> None:
        """Add the delta's rows to the table's, a stored block at a time."""
        width, first = table.shape[1], 0
        for number, block in enumerate(entry.blocks):
            last = first + block.elements // width
            mine = np.flatnonzero((places >= first) & (places < last))
            if mine.size:
                wanted = (places[mine] - first)[:, None] * width + np.arange(width)
                part = self.container.decode(entry, number).part(wanted.reshape(-1))
                sums = table[mine].reshape(-1)
                self.add(sums, part, plan.dtype, scale=self.scale)
                table[mine] = sums.reshape(-1, width)
            first = last
