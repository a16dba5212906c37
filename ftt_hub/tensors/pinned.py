"""Host arrays on their way to a device: through few reused pinned buffers, on a side stream.

A copy from pinned memory runs beside the computation; pinning is slow, so that the buffers are
kept. A buffer is filled again only when its last copy has arrived.
"""

from __future__ import annotations

import functools
from queue import Queue
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

BUFFERS = 4
BUFFER_BYTES = 8 << 20


class Arrival(Protocol):
    """A copy that was started and may not be complete yet."""

    def synchronize(self) -> None:
        """Block until the copy is complete."""


class Link(Protocol):
    """How bytes get from host memory to one kind of device."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Allocate host memory to copy from; uint8, 1-D."""

    def room(self, nbytes: int) -> torch.Tensor:
        """Allocate device memory to copy to; uint8, 1-D."""

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Arrival:
        """Start copying `source` into `to`; both have the same size."""

    def join(self, tensor: torch.Tensor) -> None:
        """Make later work on the device wait for the copies into `tensor`."""

    def wait(self) -> None:
        """Block until the device has finished all work."""


class CudaLink:
    """Copies from pinned memory on a CUDA stream of its own.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Allocate pinned host memory."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def room(self, nbytes: int) -> torch.Tensor:
        """Allocate device memory for the side stream."""
        # Of the side stream's own memory: the copy need not wait for what used it before.
        with torch.cuda.stream(self._stream):
            return torch.empty(nbytes, dtype=torch.uint8, device=self._device)

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Arrival:
        """Start a copy on the side stream."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            to.copy_(source, non_blocking=True)
            event.record(self._stream)
        return event  # type: ignore[no-any-return,unused-ignore]

    def join(self, tensor: torch.Tensor) -> None:
        """Make the current stream wait for the side stream."""
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        tensor.record_stream(current)

    def wait(self) -> None:
        """Block until all streams of the device have finished."""
        torch.cuda.synchronize(self._device)


class _Arrived:
    def synchronize(self) -> None:
        """Return at once: a host copy is complete when `copy` returns."""


class HostLink:
    """Copies within host memory, complete when `copy` returns."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Allocate host memory."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def room(self, nbytes: int) -> torch.Tensor:
        """Allocate host memory."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Arrival:
        """Copy `source` into `to`."""
        to.copy_(source)
        return _Arrived()

    def join(self, tensor: torch.Tensor) -> None:
        """Return at once: nothing is pending."""

    def wait(self) -> None:
        """Return at once: nothing is pending."""


class Ring:
    """Copies arrays to a device through a few reused buffers; safe to call from many threads.

    Args:
        link: How to copy to the device.
        buffers: Number of buffers, and so of copies in progress at once.
        nbytes: Size of one buffer in bytes.
    """

    def __init__(self, link: Link, *, buffers: int = BUFFERS, nbytes: int = BUFFER_BYTES) -> None:
        self._link, self._nbytes = link, nbytes
        self._free: Queue[tuple[torch.Tensor | None, Arrival | None]] = Queue()
        for _ in range(buffers):
            self._free.put((None, None))  # memory is taken when it is needed

    def send(self, array: NDArray[Any]) -> torch.Tensor:
        """The array's bytes on the device, 1-D, ready for what is computed next."""
        flat = np.require(array, requirements=["C", "W"]).reshape(-1).view(np.uint8)
        room = self._link.room(flat.size)
        for start in range(0, flat.size, self._nbytes):
            part = torch.from_numpy(flat[start : start + self._nbytes])
            buffer, arrival = self._free.get()
            try:
                if buffer is None:
                    buffer = self._link.buffer(self._nbytes)
                if arrival is not None:
                    arrival.synchronize()
                filled = buffer[: part.numel()].copy_(part)
                arrival = self._link.copy(filled, room[start : start + part.numel()])
            finally:
                self._free.put((buffer, arrival))
        self._link.join(room)
        return room

    def wait(self) -> None:
        """Block until the device is done, so that any thread may continue on any stream."""
        self._link.wait()


@functools.cache
def ring_to(device: torch.device) -> Ring:
    """The ring of a device, which all models on it share."""
    return Ring(CudaLink(device) if device.type == "cuda" else HostLink())
