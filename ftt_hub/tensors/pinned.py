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
    """A copy under way."""

    def synchronize(self) -> None:
        """Wait until it has arrived."""


class Link(Protocol):
    """What a kind of device offers."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Bytes of host memory to copy from."""

    def room(self, nbytes: int) -> torch.Tensor:
        """Bytes of device memory to copy to."""

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Arrival:
        """Start a copy."""

    def join(self, tensor: torch.Tensor) -> None:
        """Have what comes later on the device wait for the copies into a tensor."""

    def wait(self) -> None:
        """Until the device has done all it was given."""


class CudaLink:
    """Pinned memory and a stream of its own.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Pinned memory."""
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def room(self, nbytes: int) -> torch.Tensor:
        """Device memory."""
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
        """The current stream waits for the side stream."""
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        tensor.record_stream(current)

    def wait(self) -> None:
        """Until all streams are done."""
        torch.cuda.synchronize(self._device)


class _Arrived:
    def synchronize(self) -> None:
        """It has."""


class HostLink:
    """For the host itself, where every copy has arrived at once."""

    def buffer(self, nbytes: int) -> torch.Tensor:
        """Memory."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def room(self, nbytes: int) -> torch.Tensor:
        """Memory."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def copy(self, source: torch.Tensor, to: torch.Tensor) -> Arrival:
        """Copy."""
        to.copy_(source)
        return _Arrived()

    def join(self, tensor: torch.Tensor) -> None:
        """Nothing to wait for."""

    def wait(self) -> None:
        """Nor here."""


class Ring:
    """Sends arrays; safe to call from many threads.

    Args:
        link: The way to the device.
        buffers: How many copies may be under way.
        nbytes: Size of one of them.
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
        """Until the device is done, so that any thread may go on, on any stream."""
        self._link.wait()


@functools.cache
def ring_to(device: torch.device) -> Ring:
    """The ring of a device, which all models on it share."""
    return Ring(CudaLink(device) if device.type == "cuda" else HostLink())
