"""A sharded safetensors checkpoint written out of order, from many threads, in bounded memory."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftt_hub.errors import OutputError
from ftt_hub.support.closing import Closing
from ftt_hub.support.staging import writing
from ftt_hub.tensors.dtypes import Bits, DType
from ftt_hub.tensors.header import build_header

_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be written: name, dtype and shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        count = 1
        for n in self.shape:
            count *= n
        return count

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.count * self.dtype.bits // 8


def plan_shards(
    tensors: Iterable[PlannedTensor], max_shard_size: int
) -> dict[str, list[PlannedTensor]]:
    """File name → tensors, filled greedily in the order that safetensors itself uses.

    A tensor larger than `max_shard_size` gets a file of its own.
    """
    shards: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in sorted(tensors, key=lambda t: (-t.dtype.itemsize, t.name)):
        if shards[-1] and size + tensor.nbytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    total = len(shards)
    return {f"model-{i + 1:05}-of-{total:05}.safetensors": s for i, s in enumerate(shards)}


class CheckpointWriter(Closing):
    """Writes planned tensors at their offsets into a folder that exists already.

    The size of every file is known before the first byte, so the space is reserved up front and a
    full disk is reported at once.

    Raises:
        OutputError: The disk is full or not writable.
    """

    def __init__(
        self, folder: Path, tensors: Iterable[PlannedTensor], *, max_shard_size: int
    ) -> None:
        self.folder = folder
        self._places: dict[str, tuple[int, int]] = {}
        self._files: list[int] = []
        self._lock = threading.Lock()
        self._shards = plan_shards(tensors, max_shard_size)
        self.total_size = sum(t.nbytes for shard in self._shards.values() for t in shard)
        try:
            for filename, shard in self._shards.items():
                self._create(folder / filename, shard)
        except OutputError:
            self.close()
            raise

    def _create(self, path: Path, shard: list[PlannedTensor]) -> None:
        header = build_header({t.name: (t.dtype.name, t.shape, t.nbytes) for t in shard}, _METADATA)
        offset = len(header)
        with writing(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags, 0o644)
            self._files.append(descriptor)
            os.write(descriptor, header)
            for tensor in shard:
                self._places[tensor.name] = (descriptor, offset)
                offset += tensor.nbytes
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, offset)
            else:
                os.ftruncate(descriptor, offset)

    def write_bits(self, name: str, start: int, bits: Bits) -> None:
        """Write elements of a tensor from element `start` on; safe to call from threads."""
        descriptor, origin = self._places[name]
        data = bits.view(np.uint8).data
        offset = origin + start * bits.itemsize
        with writing(self.folder):
            while data:
                done = self._write_some(descriptor, data, offset)
                data, offset = data[done:], offset + done

    def _write_some(self, descriptor: int, data: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(descriptor, data, offset)
        with self._lock:  # no pwrite on Windows
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)

    def finish(self) -> None:
        """Write the index of a sharded checkpoint and close the files."""
        self.close()
        if len(self._shards) == 1:
            return
        index = {
            "metadata": {"total_size": self.total_size},
            "weight_map": {t.name: f for f, shard in self._shards.items() for t in shard},
        }
        path = self.folder / "model.safetensors.index.json"
        with writing(path):
            path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Close all files; what was written stays."""
        while self._files:
            os.close(self._files.pop())
