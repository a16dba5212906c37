"""Where the numbers of a parameter lie: its bits on this process, and which part of it they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from ftt_hub.errors import UnsupportedError
from ftt_hub.tensors.dtypes import BY_TORCH_NAME, Bits, DType
from ftt_hub.tensors.pinned import Ring, ring_to
from ftt_hub.transfer.live import shards
from ftt_hub.transfer.live.names import Group

Window = tuple[slice, ...]
Held: TypeAlias = Bits | torch.Tensor
"""What this process holds of a parameter: bits on the host, or a 1-D tensor on a device."""

DEVICES = frozenset({"cuda"})
"""Kinds of devices on which sums are made where the parameter lies."""


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part this process holds; the tensor itself unless it is a DTensor."""
    part = getattr(tensor, "_local_tensor", tensor)
    return part.detach() if isinstance(part, torch.Tensor) else tensor.detach()


@dataclass(frozen=True)
class Place:
    """A parameter or buffer of a model.

    Attributes:
        name: Its name in the model.
        tensor: The object itself.
        dtype: BF16, F16 or F32.
    """

    name: str
    tensor: torch.Tensor
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole parameter, on all processes together."""
        return tuple(self.tensor.shape)

    @property
    def is_distributed(self) -> bool:
        """Whether it is a DTensor."""
        return shards.is_sharded(self.tensor)

    @property
    def is_of_its_dtype(self) -> bool:
        """Whether the parameter still has the dtype it had."""
        return str(self.tensor.dtype) == f"torch.{self.dtype.torch_name}"

    @property
    def version(self) -> int:
        """Torch's count of in-place changes; 0 where it keeps none."""
        part = getattr(self.tensor, "_local_tensor", self.tensor)
        return 0 if part.is_inference() else part._version  # noqa: SLF001

    def window(self, shape: tuple[int, ...] | None = None) -> Window | None:
        """The part of the whole this process holds; ``None`` when it is not one rectangle.

        Args:
            shape: Of the whole, where it will be another than it is now.
        """
        shape = self.shape if shape is None else shape
        if not self.is_distributed:
            return tuple(slice(0, size) for size in shape)
        from torch.distributed.tensor import Replicate, Shard
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        placements = self.tensor.placements  # type: ignore[attr-defined]
        if not all(type(p) in (Replicate, Shard) for p in placements):
            return None
        sizes, offsets = compute_local_shape_and_global_offset(
            torch.Size(shape),
            self.tensor.device_mesh,  # type: ignore[attr-defined]
            placements,
        )
        return tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))

    def whole_rows(self) -> range | None:
        """The rows that this process holds, ``None`` when it holds parts of rows."""
        window = self.window()
        if window is None or any(
            part != slice(0, size) for part, size in zip(window[1:], self.shape[1:], strict=True)
        ):
            return None
        return range(window[0].start, window[0].stop) if window else range(1)

    def cut(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from a whole tensor to the part this process holds, for any placement."""
        window = self.window()
        if window is not None:
            return lambda whole: whole[window]
        from transformers.distributed.sharding_utils import DtensorShardOperation

        operation = DtensorShardOperation(self.tensor)  # type: ignore[arg-type]

        def shard(whole: torch.Tensor) -> torch.Tensor:
            part = operation.shard_tensor(whole)
            return whole[:0] if part is None else part

        return shard

    def gatherer(self) -> Callable[[Bits], Bits]:
        """A function from the bits this process holds, in today's shape, to those of the whole.

        Where the parameter is distributed, all processes have to call it, in the same order.
        """
        if not self.is_distributed:
            return lambda bits: bits
        shape, like, part_shape = self.shape, self.tensor, _local(self.tensor).shape

        def gather(bits: Bits) -> Bits:
            part = self._flat(bits).view(part_shape).to(_local(like).device)
            whole = shards.gather(part, like, shape)  # type: ignore[arg-type]
            return self._bits(whole)

        return gather

    def _flat(self, bits: Bits) -> torch.Tensor:
        dtype = getattr(torch, self.dtype.torch_name or "")
        return torch.from_numpy(bits.view(np.uint8)).view(dtype)

    def _bits(self, tensor: torch.Tensor) -> Bits:
        flat = tensor.contiguous().view(-1).to("cpu")
        return flat.view(torch.uint8).numpy().view(self.dtype.numpy)

    def read(self, start: int = 0, count: int | None = None) -> Bits:
        """A copy of the bits this process holds, 1-D; of a run of elements if asked."""
        flat = _local(self.tensor).contiguous().view(-1)
        flat = flat[start : None if count is None else start + count].to("cpu")
        return flat.view(torch.uint8).numpy().view(self.dtype.numpy).copy()

    def pick(self, elements: torch.Tensor) -> Bits:
        """A copy of the bits of some elements, 1-D; of a parameter that is not distributed."""
        return self._bits(self.tensor.detach().reshape(-1)[elements.to(self.tensor.device)])

    @property
    def is_on_device(self) -> bool:
        """Whether sums are made on the device it lies on."""
        return _local(self.tensor).device.type in DEVICES

    @property
    def ring(self) -> Ring:
        """The way to the device it lies on."""
        return ring_to(_local(self.tensor).device)

    def take(self) -> torch.Tensor:
        """A copy of what this process holds where it lies, 1-D."""
        return _local(self.tensor).contiguous().view(-1).clone()

    def write(self, held: Held) -> None:
        """Overwrite the part this process holds, in one call."""
        part = _local(self.tensor)
        flat = held if isinstance(held, torch.Tensor) else self._flat(held)
        with torch.no_grad():
            part.copy_(flat.view(part.shape))


class _Probe:
    """Stands for a checkpoint tensor, and learns which part of it is wanted."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.window: Window = ()

    def get_shape(self) -> list[int]:
        return list(self._shape)

    def __getitem__(self, window: Window) -> torch.Tensor:
        self.window = window
        return torch.empty(0)


def merged_members(
    group: Group, shapes: Mapping[str, tuple[int, ...]], place: Place
) -> dict[str, Window] | None:
    """What this process holds of tensors that are stacked into one, by the loader's own rule.

    Returns:
        The part of every tensor of which it holds some; ``None`` where the tensors are not stacked
        or the parameter is not sharded, so that the whole has to be made first.
    """
    operations = [] if group.converter is None else group.converter.operations
    merged = bool(operations) and type(operations[0]).__name__ == "MergeModulelist"
    flat = all(len(shape) == len(place.shape) - 1 for shape in shapes.values())
    if not (place.is_distributed and merged and flat):
        return None
    from transformers.distributed.sharding_utils import DtensorShardOperation

    operation, held = DtensorShardOperation(place.tensor), {}  # type: ignore[arg-type]
    for names in group.members.values():
        for number, name in enumerate(names):
            probe = _Probe(shapes[name])
            if operation.shard_tensor(probe, tensor_idx=number) is not None:  # type: ignore[arg-type]
                held[name] = probe.window
    return held


def place_of(name: str, tensor: torch.Tensor) -> Place:
    """The place of a parameter to which a delta can be added.

    Raises:
        UnsupportedError: It is quantized, of another dtype, or its weights are not in memory.
    """
    streaming = "Load it with ftt_hub.AutoTransferModel…(adapter, base_model=…"
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) or hasattr(tensor, "_local_tensor")
    dtype = BY_TORCH_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if not plain or dtype is None or not dtype.is_float:
        raise UnsupportedError(
            f"a delta cannot be added to quantized or integer weights ({type(tensor).__name__})",
            where=name,
            expected="bfloat16, float16 or float32",
            found=tensor.dtype,
            hint=f"{streaming}, quantization_config=…), which adds Δ before quantizing.",
        )
    if tensor.is_meta:
        raise UnsupportedError(
            "the weights are not in memory (meta device: offloaded, or never loaded)",
            where=name,
            hint=f"{streaming}, device_map=…), which adds Δ before offloading.",
        )
    return Place(name, tensor, dtype)
