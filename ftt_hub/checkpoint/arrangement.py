"""How one tensor is laid out in others: an exact description of moved elements, without any values.

Renaming, stacking, concatenating, splitting, transposing and reshaping move elements and never
compute with them. Whatever a chain of such steps does, its result is a set of *pieces*: a nest of
loops that steps through one source tensor and through the result at the same time. Both sides are
counted in elements of the flattened tensor, slowest dimension first, so that a reshape changes no
piece, and a piece read backwards describes the inverse.

This module does no I/O and does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop of a piece.

    Attributes:
        size: Number of steps, 2 or more.
        source: Elements of the source tensor that one step moves on.
        target: Elements of the result that one step moves on.
    """

    size: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of one source tensor, and where they lie in the result.

    Attributes:
        name: The source tensor.
        source: Its first element.
        target: The element of the result it becomes.
        axes: The loops, in any order.
    """

    name: str
    source: int
    target: int
    axes: tuple[Axis, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def last_source(self) -> int:
        """Its last element of the source tensor."""
        return self.source + sum((axis.size - 1) * axis.source for axis in self.axes)

    @property
    def last_target(self) -> int:
        """The last element of the result it becomes."""
        return self.target + sum((axis.size - 1) * axis.target for axis in self.axes)

    @property
    def inverse(self) -> Piece:
        """The same elements with source and result exchanged; the name stays."""
        axes = tuple(Axis(a.size, a.target, a.source) for a in self.axes)
        return Piece(self.name, self.target, self.source, axes)

    def cut(self, number: int, index: int) -> tuple[Piece, Piece]:
        """The piece in two, before step `index` of one of its loops."""
        axis = self.axes[number]
        first, rest = index, axis.size - index
        later = replace(
            self,
            source=self.source + index * axis.source,
            target=self.target + index * axis.target,
        )
        return self.with_size(number, first), later.with_size(number, rest)

    def with_size(self, number: int, size: int) -> Piece:
        """The piece with one of its loops cut short or made longer."""
        axis = self.axes[number]
        kept = () if size == 1 else (replace(axis, size=size),)
        return replace(self, axes=(*self.axes[:number], *kept, *self.axes[number + 1 :]))


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop that stays within one dimension of the result."""

    dimension: int
    size: int
    source: int
    step: int

    @property
    def span(self) -> int:
        return self.step * (self.size - 1)


@dataclass(frozen=True, slots=True)
class _Box:
    """A piece of which every loop stays within one dimension of the result."""

    name: str
    source: int
    position: tuple[int, ...]
    loops: tuple[_Loop, ...]

    def moved(self, position: Sequence[int], dimensions: Sequence[int], units: Shape) -> Piece:
        """As a piece, with the dimensions renumbered and the result's units given."""
        axes = tuple(
            Axis(loop.size, loop.source, loop.step * units[dimensions[loop.dimension]])
            for loop in self.loops
        )
        target = sum(p * unit for p, unit in zip(position, units, strict=True))
        return Piece(self.name, self.source, target, axes)

    def piece(self, units: Shape) -> Piece:
        """As a piece of a result whose dimensions have these units."""
        return self.moved(self.position, range(len(units)), units)


def units_of(shape: Shape) -> Shape:
    """Elements that one step along each dimension moves on in the flattened tensor."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def _boxes(piece: Piece, shape: Shape) -> Iterator[_Box]:
    """The piece cut so that no loop leaves its dimension; mostly a single box."""
    units, todo = units_of(shape), [piece]
    while todo:
        current = todo.pop()
        box = _boxed(current, shape, units)
        if isinstance(box, _Box):
            yield box
        else:
            todo.extend(reversed(box))


def _boxed(piece: Piece, shape: Shape, units: Shape) -> _Box | tuple[Piece, ...]:
    """The piece as a box, or smaller or better divided pieces that together are the same."""
    position = tuple(piece.target // unit % size for unit, size in zip(units, shape, strict=True))
    loops = []
    for number, axis in enumerate(piece.axes):
        dimension = next(d for d, unit in enumerate(units) if unit <= axis.target)
        step, rest = divmod(axis.target, units[dimension])
        if rest:
            return piece.cut(number, 1)
        loop = _Loop(dimension, axis.size, axis.source, step)
        if position[dimension] + loop.span >= shape[dimension]:
            return _wrapped(piece, number, loop, position[dimension], shape[dimension])
        loops.append(loop)
    for dimension, size in enumerate(shape):
        mine = [n for n, loop in enumerate(loops) if loop.dimension == dimension]
        over = position[dimension] + sum(loops[n].span for n in mine) - (size - 1)
        if over > 0:
            outer = max(mine, key=lambda n: loops[n].step)
            fitting = loops[outer].size - 1 - -(-over // loops[outer].step)
            return piece.cut(outer, max(1, fitting + 1))
    return _Box(piece.name, piece.source, position, tuple(loops))


def _wrapped(piece: Piece, number: int, loop: _Loop, position: int, size: int) -> tuple[Piece, ...]:
    """A loop that runs over the end of its dimension, as two loops or in two pieces."""
    room = (size - 1 - position) // loop.step + 1
    if size % loop.step or position >= loop.step:
        return piece.cut(number, room)
    turns, left = divmod(loop.size, room)
    if left:
        return piece.cut(number, turns * room)
    axis = piece.axes[number]
    inner = Axis(room, axis.source, axis.target)
    outer = (Axis(turns, room * axis.source, room * axis.target),) if turns > 1 else ()
    return (replace(piece, axes=(*piece.axes[:number], *outer, inner, *piece.axes[number + 1 :])),)


def _within(box: _Box, dimension: int, start: int, stop: int) -> Iterator[_Box]:
    """The parts of a box whose position along a dimension lies in [start, stop)."""
    loops = sorted(
        (n for n, loop in enumerate(box.loops) if loop.dimension == dimension),
        key=lambda n: -box.loops[n].step,
    )
    position = box.position[dimension]
    if not loops:
        if start <= position < stop:
            yield box
        return
    number, loop = loops[0], box.loops[loops[0]]
    inner = sum(box.loops[n].span for n in loops[1:])
    low = max(0, -((position - start) // loop.step))
    high = min(loop.size - 1, (stop - 1 - position - inner) // loop.step)
    if low <= high:
        yield _limited(box, number, low, high - low + 1)
    first = max(0, -((position + inner - start) // loop.step))
    last = min(loop.size - 1, (stop - 1 - position) // loop.step)
    for index in range(first, last + 1):
        if not low <= index <= high:
            yield from _within(_limited(box, number, index, 1), dimension, start, stop)


def _limited(box: _Box, number: int, index: int, size: int) -> _Box:
    """The box with one loop begun at a later step, and with fewer of them."""
    loop = box.loops[number]
    position = tuple(
        p + index * loop.step * (d == loop.dimension) for d, p in enumerate(box.position)
    )
    kept = () if size == 1 else (replace(loop, size=size),)
    loops = (*box.loops[:number], *kept, *box.loops[number + 1 :])
    return _Box(box.name, box.source + index * loop.source, position, loops)


@dataclass(frozen=True)
class Arrangement:
    """A tensor made of parts of others.

    Attributes:
        shape: Its dimensions, slowest first.
        pieces: Which elements of which tensors it is made of.
    """

    shape: Shape
    pieces: tuple[Piece, ...]

    @classmethod
    def whole(cls, name: str, shape: Shape) -> Arrangement:
        """A tensor as it is."""
        count = math.prod(shape)
        if not count:
            return cls(shape, ())
        return cls(shape, (Piece(name, 0, 0, (Axis(count, 1, 1),) if count > 1 else ()),))

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors it is made of, each once."""
        return tuple(dict.fromkeys(piece.name for piece in self.pieces))

    @property
    def is_complete(self) -> bool:
        """Whether the pieces have as many elements as the tensor."""
        return sum(piece.count for piece in self.pieces) == self.count

    def is_whole(self, shape: Shape) -> bool:
        """Whether it is one tensor of this shape, element for element."""
        return (
            self.shape == shape
            and len(self.names) == 1
            and self.is_complete
            and all(piece.source == piece.target for piece in self.pieces)
            and all(axis.source == axis.target for p in self.pieces for axis in p.axes)
        )

    def renamed(self, names: Mapping[str, str]) -> Arrangement:
        """The same, made of tensors of other names."""
        pieces = tuple(replace(piece, name=names[piece.name]) for piece in self.pieces)
        return Arrangement(self.shape, pieces)

    def view(self, shape: Shape) -> Arrangement:
        """The same elements in another shape of as many."""
        return Arrangement(shape, self.pieces)

    def permute(self, order: Sequence[int]) -> Arrangement:
        """Dimension `order[i]` becomes dimension i."""
        shape = tuple(self.shape[d] for d in order)
        units, place = units_of(shape), {d: i for i, d in enumerate(order)}
        numbers = [place[d] for d in range(len(order))]
        return _collected(
            shape,
            (
                box.moved([box.position[d] for d in order], numbers, units)
                for piece in self.pieces
                for box in _boxes(piece, self.shape)
            ),
        )

    def narrow(self, dimension: int, start: int, length: int) -> Arrangement:
        """Positions [start, start + length) of a dimension."""
        shape = (*self.shape[:dimension], length, *self.shape[dimension + 1 :])
        if shape == self.shape:
            return self
        units = units_of(shape)

        def parts() -> Iterator[Piece]:
            for piece in self.pieces:
                for box in _boxes(piece, self.shape):
                    for part in _within(box, dimension, start, start + length):
                        position = list(part.position)
                        position[dimension] -= start
                        yield part.moved(position, range(len(shape)), units)

        return _collected(shape, parts())

    def every(self, dimension: int, step: int) -> Arrangement:
        """Positions 0, step, 2·step, … of a dimension."""
        size, parts = self.shape[dimension], []
        whole = size // step
        before, after = self.shape[:dimension], self.shape[dimension + 1 :]
        if whole:
            head = self.narrow(dimension, 0, whole * step).view((*before, whole, step, *after))
            parts.append(head.narrow(dimension + 1, 0, 1).view((*before, whole, *after)))
        if size % step:
            parts.append(self.narrow(dimension, whole * step, 1))
        return concatenated(parts, dimension) if parts else self.narrow(dimension, 0, 0)

    def section(self, start: int, count: int) -> Arrangement:
        """Elements [start, start + count) of the flattened tensor, as a tensor of one dimension."""
        near = tuple(
            piece
            for piece in self.pieces
            if piece.target < start + count and piece.last_target >= start
        )
        return Arrangement((self.count,), near).narrow(0, start, count)

    def gather(self, start: int, loops: Sequence[tuple[int, int]]) -> Arrangement:
        """Elements start + Σ i·step of the flattened tensor, as a tensor of the loops' sizes.

        Args:
            start: First element.
            loops: Size and step of each loop, the largest step first.
        """
        if any(size == 1 for size, _ in loops):
            kept = [(size, step) for size, step in loops if size != 1]
            return self.gather(start, kept).view(tuple(size for size, _ in loops))
        table, first = self.view((self.count,)), start
        done: Shape = ()
        for number, (size, step) in enumerate(loops):
            length = table.shape[-1]
            reach = 1 + sum((n - 1) * s for n, s in loops[number + 1 :])
            if first % step + reach <= step and length % step == 0:
                table = table.view((*done, length // step, step))
                table, first = table.narrow(number, first // step, size), first % step
            elif reach <= step and first + size * step <= length:
                table = table.narrow(number, first, size * step).view((*done, size, step))
                first = 0
            else:
                return self._gather_halves(
                    start, loops, number, size - 1 if reach <= step else size // 2
                )
            done = (*done, size)
        return table.narrow(len(loops), first, 1).view(done)

    def _gather_halves(
        self, start: int, loops: Sequence[tuple[int, int]], number: int, split: int
    ) -> Arrangement:
        """`gather` with one loop in two parts, where its steps do not divide the tensor."""
        size, step = loops[number]
        before, after = loops[:number], loops[number + 1 :]
        parts = [
            self.gather(start, (*before, (split, step), *after)),
            self.gather(start + split * step, (*before, (size - split, step), *after)),
        ]
        return concatenated(parts, number)

    def through(self, tensors: Mapping[str, Arrangement]) -> Arrangement:
        """The same tensor, made of what the tensors it is made of are made of.

        Raises:
            KeyError: One of them is not among `tensors`.
        """

        def parts() -> Iterator[Piece]:
            for piece in self.pieces:
                axes = sorted(piece.axes, key=lambda axis: -axis.source)
                loops = [(axis.size, axis.source) for axis in axes]
                shape, units = tuple(a.size for a in axes), tuple(a.target for a in axes)
                for part in tensors[piece.name].gather(piece.source, loops).pieces:
                    for box in _boxes(part, shape):
                        moved = box.piece(units)
                        yield replace(moved, target=moved.target + piece.target)

        return _collected(self.shape, parts())


def concatenated(parts: Sequence[Arrangement], dimension: int) -> Arrangement:
    """Tensors one after the other along a dimension."""
    first = parts[0].shape
    length = sum(part.shape[dimension] for part in parts)
    shape = (*first[:dimension], length, *first[dimension + 1 :])
    units = units_of(shape)

    def pieces() -> Iterator[Piece]:
        start = 0
        for part in parts:
            for piece in part.pieces:
                for box in _boxes(piece, part.shape):
                    position = list(box.position)
                    position[dimension] += start
                    yield box.moved(position, range(len(shape)), units)
            start += part.shape[dimension]

    return _collected(shape, pieces())


def inverted(
    tensors: Mapping[str, Arrangement], shapes: Mapping[str, Shape]
) -> dict[str, Arrangement]:
    """What `tensors` are made of, each made of `tensors`.

    Args:
        tensors: Name → what it is made of.
        shapes: Of the tensors they are made of.
    """
    pieces: dict[str, list[Piece]] = {name: [] for name in shapes}
    for name, arrangement in tensors.items():
        for piece in arrangement.pieces:
            pieces[piece.name].append(replace(piece.inverse, name=name))
    return {name: _collected(shape, pieces[name]) for name, shape in shapes.items()}


def _collected(shape: Shape, pieces: Iterable[Piece]) -> Arrangement:
    """The arrangement of these pieces, in the order of the result."""
    joined: list[Piece] = []
    for piece in sorted(map(_merged, pieces), key=lambda piece: piece.target):
        whole = _joined(joined[-1], piece) if joined else None
        if whole is None:
            joined.append(piece)
        else:
            joined[-1] = whole
    return Arrangement(shape, tuple(joined))


def _joined(first: Piece, second: Piece) -> Piece | None:
    """Two pieces as one, where the second goes on as the first would; else ``None``."""
    source, target = second.source - first.source, second.target - first.target
    if first.name != second.name or source <= 0 or target <= 0:
        return None
    outer = first.axes[0] if first.axes else None
    if outer is not None and (source, target) == (
        outer.size * outer.source,
        outer.size * outer.target,
    ):
        more = second.axes[0] if len(second.axes) == len(first.axes) else None
        same = more is not None and (more.source, more.target) == (outer.source, outer.target)
        if more is not None and same and second.axes[1:] == first.axes[1:]:
            return _merged(
                replace(first, axes=(replace(outer, size=outer.size + more.size), *first.axes[1:]))
            )
        if second.axes == first.axes[1:]:
            return _merged(
                replace(first, axes=(replace(outer, size=outer.size + 1), *first.axes[1:]))
            )
    if first.axes == second.axes:
        return _merged(replace(first, axes=(Axis(2, source, target), *first.axes)))
    return None


def _merged(piece: Piece) -> Piece:
    """The piece with loops that continue each other made one."""
    axes: list[Axis] = []
    for axis in sorted(piece.axes, key=lambda axis: -axis.target):
        outer = axes[-1] if axes else None
        if (
            outer is not None
            and outer.source == axis.size * axis.source
            and outer.target == axis.size * axis.target
        ):
            axes[-1] = Axis(outer.size * axis.size, axis.source, axis.target)
        else:
            axes.append(axis)
    return replace(piece, axes=tuple(axes))
