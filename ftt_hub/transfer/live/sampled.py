"""The weights of a model in memory under the names that a checkpoint has for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ftt_hub.checkpoint.arrangement import Arrangement, Shape, inverted
from ftt_hub.checkpoint.view import RespelledReader
from ftt_hub.errors import UnsupportedError
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.live.names import NameMap
from ftt_hub.transfer.live.places import Place, place_of
from ftt_hub.transfer.live.steps import local_part


class SampledWeights:
    """Weights of a model in memory, under the names of checkpoint tensors.

    Weights that are quantized, not in memory, or on another process are left out.

    Args:
        parameters: The model's parameters and buffers by name.
        names: Which checkpoint tensors they were made of.
        shapes: Shapes of the checkpoint tensors.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        names: NameMap,
        shapes: Mapping[str, Shape],
    ) -> None:
        self._places: dict[str, Place] = {}
        shapes, local = dict(shapes), dict[str, Arrangement]()
        known: set[str] = set()
        for parameter, made in names.parameters.items():
            place = _place(parameter, parameters[parameter])
            if place is None or not known.isdisjoint(made.names):
                continue
            whole = names.whole(parameter)
            if whole is not None:  # the rows of the vocabulary may be others than the adapter's
                shapes[whole], made = place.shape, Arrangement.whole(whole, place.shape)
            if made.shape == place.shape:
                known.update(made.names)
                self._places[parameter] = place
                local[parameter] = local_part(made, place)
        self._made = {n: a for n, a in inverted(local, shapes).items() if a.pieces}
        own = {name: _info(self._places[name], part.shape) for name, part in local.items()}
        self._reader = RespelledReader(self._made, own, self._read)
        self.tensors: Mapping[str, TensorInfo] = self._reader.tensors

    def _read(self, parameter: str, start: int, count: int) -> Bits:
        return self._places[parameter].read(start, count)

    def holds(self, name: str, start: int, count: int) -> bool:
        """Whether all of a run can be read on this process."""
        made = self._made.get(name)
        if made is None or start + count > made.count:
            return False
        return made.section(start, count).is_complete

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """A copy of the bits of a run."""
        return self._reader.read_bits(name, start, count)


def _place(name: str, tensor: torch.Tensor) -> Place | None:
    try:
        return place_of(name, tensor)
    except UnsupportedError:
        return None


def _info(place: Place, shape: Shape) -> TensorInfo:
    count = Arrangement(shape, ()).count
    return TensorInfo(place.name, place.dtype, shape, 0, count * place.dtype.itemsize)
