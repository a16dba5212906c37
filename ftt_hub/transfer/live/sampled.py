"""The weights of a model in memory as its checkpoint had them, for the sketch to be compared with.

A parameter that the loader fused from several checkpoint tensors is read through the loader's own
rule: every sampled element gets a number, the rule moves the numbers as it moved the weights, and
the number's position is where the weight is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftt_hub.artifact.sketch import Run
from ftt_hub.errors import UnsupportedError
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.live.names import Group
from ftt_hub.transfer.live.places import Place, place_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Runs = Mapping[str, Iterable[Run]]


@dataclass(frozen=True)
class _Rows:
    """Whole rows of a parameter that is one checkpoint tensor."""

    place: Place
    rows: range
    width: int

    @property
    def dtype(self) -> DType:
        return self.place.dtype

    def holds(self, element: int) -> bool:
        return element // self.width in self.rows

    def read(self, start: int, count: int) -> Bits:
        return self.place.read(start - self.rows.start * self.width, count)


@dataclass(frozen=True)
class _Scattered:
    """Sampled runs of a checkpoint tensor that became part of a fused parameter.

    Attributes:
        dtype: Of the parameter.
        runs: First element of a run → the parameter, and where its elements are in it, int64.
    """

    dtype: DType
    runs: Mapping[int, tuple[Place, torch.Tensor]]

    def holds(self, element: int) -> bool:
        return element in self.runs

    def read(self, start: int, count: int) -> Bits:
        place, elements = self.runs[start]
        return place.pick(elements[:count])


class SampledWeights:
    """Sampled weights of a model in memory, under the names of checkpoint tensors.

    Weights that are quantized, not in memory, or in parts of rows on this process are left out.

    Args:
        model: The model.
        tensors: Its parameters and buffers by name.
        groups: Which checkpoint tensors they were made of.
        shapes: Shapes of the checkpoint tensors.
        runs: What the sketch has of each checkpoint tensor.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tensors: Mapping[str, torch.Tensor],
        groups: Iterable[Group],
        shapes: Mapping[str, tuple[int, ...]],
        runs: Runs,
    ) -> None:
        self._parts: dict[str, _Rows | _Scattered] = {}
        self.tensors: dict[str, TensorInfo] = {}
        for group in groups:
            sampled = {name: runs[name] for name in group.names if name in runs}
            if sampled:
                self._add(model, tensors, group, shapes, sampled)

    def _add(
        self,
        model: PreTrainedModel,
        tensors: Mapping[str, torch.Tensor],
        group: Group,
        shapes: Mapping[str, tuple[int, ...]],
        runs: Runs,
    ) -> None:
        try:
            if group.converter is None:
                parts = _whole_rows(place_of(group.key, tensors[group.key]), group.names[0])
            else:
                parts = _fused(model, tensors, group, shapes, runs)
        except (UnsupportedError, RuntimeError):  # quantized, elsewhere, or of shapes not to fuse
            return
        for name, part in parts.items():
            shape = part.place.shape if isinstance(part, _Rows) else shapes[name]
            nbytes = int(np.prod(shape, dtype=np.int64)) * part.dtype.itemsize
            self._parts[name] = part
            self.tensors[name] = TensorInfo(name, part.dtype, shape, 0, nbytes)

    def holds(self, name: str, element: int) -> bool:
        """Whether a run that begins at an element can be read on this process."""
        return name in self._parts and self._parts[name].holds(element)

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """A copy of the bits of a run."""
        return self._parts[name].read(start, count)


def _whole_rows(place: Place, name: str) -> dict[str, _Rows | _Scattered]:
    rows = place.whole_rows()
    width = int(np.prod(place.shape[1:], dtype=np.int64)) if place.shape else 1
    return {} if rows is None or not width else {name: _Rows(place, rows, width)}


def _fused(
    model: PreTrainedModel,
    tensors: Mapping[str, torch.Tensor],
    group: Group,
    shapes: Mapping[str, tuple[int, ...]],
    runs: Runs,
) -> dict[str, _Rows | _Scattered]:
    """Where the runs are after fusing; 4 bytes per weight of the group while it is found out."""
    numbered: dict[str, torch.Tensor] = {}
    order: list[tuple[str, int, int]] = []
    for name in group.names:
        numbers = torch.zeros(int(np.prod(shapes[name], dtype=np.int64)), dtype=torch.int32)
        for start, count in runs.get(name, ()):
            if not count or start + count > numbers.numel():
                continue
            first = 1 + sum(length for _, _, length in order)
            numbers[start : start + count] = torch.arange(first, first + count, dtype=torch.int32)
            order.append((name, start, count))
        numbered[name] = numbers.view(shapes[name])
    parts: dict[str, _Rows | _Scattered] = {}
    for key, moved in group.convert(model, numbered).items():
        place = place_of(key, tensors[key])
        if not place.is_distributed and tuple(moved.shape) == place.shape:
            _locate(place, moved, order, parts)
    return parts


def _locate(
    place: Place,
    moved: torch.Tensor,
    order: list[tuple[str, int, int]],
    parts: dict[str, _Rows | _Scattered],
) -> None:
    """Note the runs of which this parameter has every element."""
    flat = moved.contiguous().view(-1)
    positions = flat.nonzero().view(-1)
    by_number = dict(zip(flat[positions].tolist(), positions.tolist(), strict=True))
    first = 1
    for name, start, count in order:
        numbers = range(first, first + count)
        first += count
        if all(number in by_number for number in numbers):
            elements = torch.tensor([by_number[number] for number in numbers])
            part = parts.get(name)
            known = part.runs if isinstance(part, _Scattered) else {}
            if part is None or part.dtype == place.dtype:
                parts[name] = _Scattered(place.dtype, {**known, start: (place, elements)})
