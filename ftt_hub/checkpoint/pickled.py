"""`pytorch_model.bin`: read with torch's `weights_only=True`, which executes no pickled code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.errors import CheckpointError
from ftt_hub.support.warn import warn_caller
from ftt_hub.tensors.dtypes import BY_TORCH_NAME, Bits
from ftt_hub.tensors.header import TensorInfo

if TYPE_CHECKING:
    import torch

_HINT = (
    "Convert it to safetensors: load it with transformers and save_pretrained(folder), "
    "which is safer and faster."
)


def _load(path: Path) -> dict[str, torch.Tensor]:
    import pickle
    import zipfile

    import torch

    try:
        mapped = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"not a plain state dict ({str(error).splitlines()[0][:100]})", where=path, hint=_HINT
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise CheckpointError("holds more than tensors", where=path, hint=_HINT)
    return state


class PickledFile:
    """The tensors of one `.bin` file, memory-mapped where its format allows.

    Raises:
        CheckpointError: Not a plain state dict.
    """

    def __init__(self, path: Path) -> None:
        warn_caller(f"{path.name} is a pickle. {_HINT}")
        self._state = _load(path)
        self.tensors: dict[str, TensorInfo] = {}
        for name, tensor in self._state.items():
            dtype = BY_TORCH_NAME.get(str(tensor.dtype).removeprefix("torch."))
            if dtype is None:
                raise CheckpointError(
                    f"tensor {name!r} has the unknown dtype {tensor.dtype}", where=path, hint=_HINT
                )
            nbytes = tensor.numel() * tensor.element_size()
            self.tensors[name] = TensorInfo(name, dtype, tuple(tensor.shape), 0, nbytes)

    def read_bits(self, info: TensorInfo, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""
        import torch

        flat = self._state[info.name].contiguous().view(-1)[start : start + count]
        raw = flat.view(torch.uint8).numpy() if count else flat.numpy()
        bits: Bits = raw.view(info.dtype.numpy).copy()
        return bits

    def close(self) -> None:
        """Release the tensors."""
        self._state = {}
