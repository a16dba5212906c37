"""What one adapter does to one parameter, and how it is undone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.tracing import TracedTensor
from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import torch_delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import Bits, wider
from ftt_hub.transfer.assemble import gathered, range_elements, whole_rows
from ftt_hub.transfer.live import on_device, undo
from ftt_hub.transfer.live.places import Held, Place, Window

Log: TypeAlias = "list[bytes] | Bits"
Pieces = Callable[[], Iterator[tuple[int, DeltaBlock]]]


class Step(Protocol):
    """One adapter's effect on one parameter."""

    @property
    def place(self) -> Place:
        """The parameter."""

    def forth(self, bits: Held, scale: float) -> tuple[Held, Log]:
        """New bits, and what `back` needs."""

    def back(self, bits: Held, scale: float, log: Log) -> Held:
        """The bits before `forth`, exactly."""


@dataclass(frozen=True)
class SumStep:
    """Adds deltas to the elements it has some for.

    Attributes:
        place: The parameter.
        pieces: The deltas of the part held here: first element and block.
    """

    place: Place
    pieces: Pieces

    def forth(self, bits: Held, scale: float) -> tuple[Held, Log]:
        """Add; the log is one entry a piece."""
        log = []
        try:
            for start, block in self.pieces():
                part = bits[start : start + block.hi.size]
                log.append(b"" if block.is_identity else self._add(part, block, scale))
        except NonFiniteError as error:
            raise NonFiniteError(error.what, where=self.place.name) from error
        return bits, log

    def _add(self, part: Held, block: DeltaBlock, scale: float) -> bytes:
        dtype = self.place.dtype
        if isinstance(part, torch.Tensor):
            return on_device.add(part, block, dtype, scale, self.place.ring)
        old = part.copy()
        torch_delta.add(part, block, dtype, scale=scale)
        return undo.record(old, part, block, dtype, scale)

    def back(self, bits: Held, scale: float, log: Log) -> Held:
        """Subtract, and set right what subtraction misses."""
        dtype = self.place.dtype
        for (start, block), entry in zip(self.pieces(), log, strict=True):
            part = bits[start : start + block.hi.size]
            if block.is_identity:
                continue
            if isinstance(part, torch.Tensor):
                on_device.take_off(part, block, dtype, scale, bytes(entry), self.place.ring)
            else:
                part[:] = undo.restore(part, block, dtype, scale, bytes(entry))
        return bits


@dataclass(frozen=True)
class ReplaceStep:
    """Puts other bits in the place of the old ones, which the log keeps whole.

    For tensors that fine-tuning added, and for vocabularies whose rows move.

    Attributes:
        place: The parameter.
        make: New bits from old ones and λ.
        before: Shape of the whole parameter before.
        shape: And of the result.
    """

    place: Place
    make: Callable[[Bits, float], Bits]
    before: tuple[int, ...]
    shape: tuple[int, ...]

    def forth(self, bits: Held, scale: float) -> tuple[Held, Log]:
        """Replace."""
        if isinstance(bits, torch.Tensor):
            bits = on_device.host_bits(bits, self.place.dtype)
        return self.make(bits, scale), bits

    def back(self, bits: Held, scale: float, log: Log) -> Held:
        """Put back."""
        return np.array(log)


def tensor_pieces(container: Container, entry: TensorEntry, place: Place) -> Pieces:
    """Pieces of a parameter that is one checkpoint tensor; only blocks held here are decoded."""
    window = place.window()
    if window is None:
        return lambda: _whole_piece(_rectangle(container, entry, _all_of(entry.shape)), place)
    rows, rest = (window[0], window[1:]) if window else (slice(0, 1), ())
    width = entry.row_elements
    complete = all(w == slice(0, n) for w, n in zip(rest, entry.shape[1:], strict=True))
    held = int(np.prod([w.stop - w.start for w in rest], dtype=np.int64)) if rest else 1

    def pieces() -> Iterator[tuple[int, DeltaBlock]]:
        first, count = rows.start * width, (rows.stop - rows.start) * width
        for start, block in container.decode_range(entry, first, count):
            if complete:
                yield start - first, block
                continue
            local = (start - first) // width * held
            yield local, _part(block, (-1, *entry.shape[1:]), (slice(None), *rest))

    return pieces


def _part(block: DeltaBlock, shape: tuple[int, ...], where: tuple[slice, ...]) -> DeltaBlock:
    def cut(bits: Bits) -> Bits:
        return np.ascontiguousarray(bits.reshape(shape)[where]).reshape(-1)

    return DeltaBlock(cut(block.hi), None if block.lo is None else cut(block.lo), block.dtype)


def _rectangle(container: Container, entry: TensorEntry, window: Window) -> DeltaBlock:
    """The delta of a part of a tensor; the identity when nothing is stored.

    Only the blocks that hold its rows are decoded.
    """
    rows, rest = (window[0], window[1:]) if window else (slice(0, 1), ())
    first = rows.start * entry.row_elements
    hi = np.full(rows.stop * entry.row_elements - first, entry.dtype.sign_bit, entry.dtype.numpy)
    lo: Bits | None = None
    if entry.slot is not None:
        for start, block in container.decode_range(entry, first, hi.size):
            part = np.s_[start - first : start - first + block.hi.size]
            hi[part] = block.hi
            if block.lo is not None:
                lo = np.zeros_like(hi) if lo is None else lo
                lo[part] = block.lo
    return _part(DeltaBlock(hi, lo, entry.dtype), (-1, *entry.shape[1:]), (slice(None), *rest))


def _all_of(shape: tuple[int, ...]) -> Window:
    return tuple(slice(0, size) for size in shape)


def _tensor(bits: Bits, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.dtype(f"<i{bits.itemsize}"))).view(shape)


def _flat(tensor: torch.Tensor) -> Bits:
    array = tensor.contiguous().view(-1).numpy()
    return array.view(np.dtype(f"<u{array.itemsize}"))


def _whole_piece(block: DeltaBlock, place: Place) -> Iterator[tuple[int, DeltaBlock]]:
    cut = place.cut()

    def part(bits: Bits) -> Bits:
        return _flat(cut(_tensor(bits, place.shape)))

    lo = None if block.lo is None else part(block.lo)
    yield 0, DeltaBlock(part(block.hi), lo, block.dtype)


def arranged_pieces(
    container: Container, entries: Mapping[str, TensorEntry], made: Arrangement, place: Place
) -> Pieces:
    """Pieces of a parameter that is made of several tensors, or of one in another layout.

    Only the tensors, and of them the blocks, of which this process holds a part are decoded.
    """
    local = local_part(made, place)
    stored = [entries[name] for name in made.names if entries[name].slot is not None]
    if not stored:
        return lambda: iter(())
    dtype = functools.reduce(wider, (entry.dtype for entry in stored))

    def pieces() -> Iterator[tuple[int, DeltaBlock]]:
        for start, count in whole_rows(local.shape, range_elements(local.pieces)):
            yield start, gathered(container, entries, local.section(start, count), dtype)

    return pieces


def local_part(made: Arrangement, place: Place) -> Arrangement:
    """The part of a parameter that this process holds, for any placement."""
    window = place.window()
    if window is None:
        traced: Any = place.cut()(TracedTensor(made, place.tensor.dtype))
        part: Arrangement = traced.arrangement
        return part
    for dimension, part_of in enumerate(window):
        made = made.narrow(dimension, part_of.start, part_of.stop - part_of.start)
    return made
