"""A container whose slots have been read into memory by someone else, such as PEFT's loader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ftt_hub.artifact.reader import Container, slot_key
from ftt_hub.errors import CheckpointError
from ftt_hub.tensors.dtypes import DTYPES
from ftt_hub.tensors.header import TensorInfo


class _Slot:
    """The bytes of one slot."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.size, self._data = path, data.nbytes, data

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CheckpointError("a slot is cut short", where=self.path, found=self.size)
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        """Release the bytes."""
        self._data = memoryview(b"")
        self.size = 0


class MemoryContainer(Container):
    """The frames of an adapter, held in memory.

    Args:
        slots: Bytes of every slot by its number.
        label: Stands for the folder in messages.

    Raises:
        IntegrityError: They are not a container.
    """

    def __init__(self, slots: Mapping[int, memoryview], label: str) -> None:
        self._data = slots
        super().__init__(Path(label))

    def _open_all(self) -> None:
        for number, data in self._data.items():
            held = _Slot(self.folder, data)
            info = TensorInfo(slot_key(number), DTYPES["U8"], (held.size,), 0, held.size)
            self._files.append(held)
            self._slots[number] = (held, info)
        self._data = {}
