"""A safetensors file opened for ranged reads: `pread`, no mmap, so that memory stays flat."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ftt_hub.errors import CheckpointError
from ftt_hub.support.closing import Closing
from ftt_hub.tensors.header import TensorInfo, header_length, parse_header

_HAS_PREAD = hasattr(os, "preadv")


class RangedFile(Closing):
    """A file read at offsets from many threads.

    Raises:
        CheckpointError: The file is missing, unreadable, or ends before a range does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise CheckpointError(
                f"cannot be read ({error.strerror})", where=path, hint="Check path and permissions."
            ) from error
        self._close = weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def _read_some(self, offset: int, view: memoryview) -> int:
        if _HAS_PREAD:
            return os.preadv(self._descriptor, [view], offset)
        with self._lock:  # no pread on Windows: seek and read under a lock
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, len(view))
            view[: len(data)] = data
            return len(data)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(f"cannot be read ({error.strerror})", where=self.path) from error

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `offset` on."""
        done = 0
        while done < len(out):
            with self._errors():
                got = self._read_some(offset + done, out[done:])
            if got == 0:
                raise CheckpointError(
                    "truncated file",
                    where=self.path,
                    expected=f"{offset + len(out)} bytes",
                    found=f"{offset + done} bytes",
                    hint="Download or copy the file again.",
                )
            done += got

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; the range is checked before anything is allocated."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CheckpointError(
                "truncated file",
                where=self.path,
                expected=f"{offset + length} bytes",
                found=f"{self.size} bytes",
                hint="Download or copy the file again.",
            )
        if _HAS_PREAD:
            with self._errors():
                data = os.pread(self._descriptor, length, offset)
            if len(data) == length:
                return data
        buffer = bytearray(length)  # more than one call can read, or a file that was cut
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def close(self) -> None:
        """Close the file; one that is forgotten is closed when it is collected."""
        self._close()


class SafetensorsFile(RangedFile):
    """A safetensors file: its tensors by name, read lazily.

    Attributes:
        tensors: Name → where and what, in header order.
        metadata: The free text entries of the header.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            length = header_length(self.read(0, min(8, self.size)), str(path), self.size)
            header = self.read(8, length)
            self.tensors, self.metadata = parse_header(header, str(path), self.size)
        except CheckpointError:
            self.close()
            raise

    def read_bits(self, info: TensorInfo, start: int, count: int) -> np.ndarray:
        """Raw bits of `count` elements from element `start` of a tensor, as a new 1-D array."""
        bits = np.empty(count, dtype=info.dtype.numpy)
        offset = info.start + start * info.dtype.itemsize
        if count:
            self.read_into(offset, bits.view(np.uint8).data)
        return bits
