"""A checkpoint under the names of another, read a range at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ftt_hub.checkpoint.arrangement import Arrangement, Axis, Piece
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.spelling import Respelling, Stored, respell
from ftt_hub.support.closing import Closing
from ftt_hub.tensors.dtypes import Bits, DType, wider
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import convert

READ_WHOLE_BELOW = 1 << 16
"""Elements up to which a run is read whole although only some of it is needed …"""
WASTE = 4
"""… and how many times more than needed may be read of a longer one."""

ReadBits = Callable[[str, int, int], Bits]


class Readable(Protocol):
    """Tensors whose bits can be read."""

    tensors: Mapping[str, TensorInfo]

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""


class Weights(Readable, Protocol):
    """A checkpoint, or what stands for one."""

    folder: Path
    label: str

    def close(self) -> None:
        """Release the files."""


def stored(headers: ModelHeaders) -> Stored:
    """What a model stores, for `respell`."""
    shapes = {name: info.shape for name, info in headers.tensors.items()}
    return Stored(headers.label, headers.config, shapes)


def named_as(
    reference: Stored, checkpoint: Weights, headers: ModelHeaders
) -> tuple[Weights, ModelHeaders]:
    """A checkpoint and its headers under the names of another; as they are where these agree.

    Raises:
        UnsupportedError: The two cannot be matched.
    """
    respelling = respell(reference, stored(headers))
    if respelling is None:
        return checkpoint, headers
    view = CheckpointView(checkpoint, respelling)
    return view, replace(headers, tensors=view.tensors, respelling=respelling)


def infos_of(
    tensors: Mapping[str, Arrangement], own: Mapping[str, TensorInfo]
) -> dict[str, TensorInfo]:
    """Headers of tensors that are made of those of a checkpoint, in name order.

    A tensor that is one of the checkpoint's under another name keeps its place in the file; the
    dtype of one that is made of several is the widest of theirs.
    """
    infos = {}
    for name, made in sorted(tensors.items()):
        sources = [own[source] for source in made.names]
        if len(sources) == 1 and made.is_whole(sources[0].shape):
            one = sources[0]
            infos[name] = TensorInfo(name, one.dtype, one.shape, one.start, one.nbytes)
        else:
            sources = sources or list(own.values())  # without elements, of none of them
            dtype = _common_dtype([info.dtype for info in sources])
            infos[name] = TensorInfo(name, dtype, made.shape, 0, made.count * dtype.bits // 8)
    return infos


def _common_dtype(dtypes: list[DType]) -> DType:
    return dtypes[0] if len(set(dtypes)) == 1 else reduce(wider, dtypes)


class RespelledReader:
    """Tensors made of those of a checkpoint, read a range at a time.

    Args:
        arrangements: Name → what the tensor is made of.
        own: The checkpoint's tensors.
        read_own: Reads its weights by name, first element and count.
    """

    def __init__(
        self,
        arrangements: Mapping[str, Arrangement],
        own: Mapping[str, TensorInfo],
        read_own: ReadBits,
    ) -> None:
        self._arrangements, self._own, self._read_own = arrangements, own, read_own
        self.tensors: Mapping[str, TensorInfo] = infos_of(arrangements, own)

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of `count` elements of a tensor from element `start`, 1-D."""
        info, made = self.tensors[name], self._arrangements[name]
        if len(made.names) == 1 and made.is_whole(self._own[made.names[0]].shape):
            return self._read_own(made.names[0], start, count)
        out: Bits = np.empty(count, info.dtype.numpy)
        for piece in made.section(start, count).pieces:
            copy_piece(piece, self._converted(info.dtype), out)
        return out

    def _converted(self, dtype: DType) -> ReadBits:
        def read(name: str, start: int, count: int) -> Bits:
            bits, own = self._read_own(name, start, count), self._own[name].dtype
            return bits if own == dtype else convert(bits, own, dtype)

        return read


class CheckpointView(Closing):
    """A checkpoint under the names and in the layout of another one.

    Memory is a range at a time, as of the checkpoint itself.

    Attributes:
        folder: Of the checkpoint.
        label: How the user named it.
        tensors: Name → dtype and shape, in name order.
    """

    tensors: Mapping[str, TensorInfo]

    def __init__(self, checkpoint: Weights, respelling: Respelling) -> None:
        self.folder, self.label = checkpoint.folder, checkpoint.label
        self._checkpoint = checkpoint
        self._reader = RespelledReader(respelling.tensors, checkpoint.tensors, checkpoint.read_bits)
        self.tensors = self._reader.tensors

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of `count` elements of a tensor from element `start`, 1-D."""
        return self._reader.read_bits(name, start, count)

    def path_of(self, name: str) -> Path | None:
        """No file holds a tensor as it is shown here."""
        return None

    def close(self) -> None:
        """Close the checkpoint."""
        self._checkpoint.close()


def strided(bits: Bits, start: int, loops: list[tuple[int, int]]) -> Bits:
    """The elements that loops of (size, step) visit, as an array over the same memory."""
    shape = tuple(size for size, _ in loops)
    strides = tuple(step * bits.itemsize for _, step in loops)
    view: Bits = as_strided(bits[start:], shape, strides)
    return view


def copy_piece(piece: Piece, read: ReadBits, out: Bits) -> None:
    """Put the elements of a piece where they belong, reading what is needed and little more.

    Args:
        piece: What to copy.
        read: Reads elements of the source by name, first element and count.
        out: The result, 1-D.
    """
    span = piece.last_source - piece.source + 1
    axes = sorted(piece.axes, key=lambda axis: -axis.source)
    if not axes or span <= max(READ_WHOLE_BELOW, WASTE * piece.count):
        bits = read(piece.name, piece.source, span)
        values = strided(bits, 0, [(axis.size, axis.source) for axis in axes])
        strided(out, piece.target, [(axis.size, axis.target) for axis in axes])[...] = values
        return
    outer: Axis = axes[0]
    for index in range(outer.size):
        part = Piece(
            piece.name,
            piece.source + index * outer.source,
            piece.target + index * outer.target,
            tuple(axes[1:]),
        )
        copy_piece(part, read, out)
