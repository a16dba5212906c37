"""Lazy tensors for transformers' own loader: a slice of the target with λΔ added when it is read.

The loader takes any mapping of names to objects with `[...]`, slicing, `get_shape()` and
`get_dtype()`, as safetensors' own lazy slices have. Because Δ is added as the bytes come in,
dtype, device_map, offload, quantisation, tensor parallelism and expert fusing keep working.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import EllipsisType
from typing import TypeAlias

import numpy as np
import torch

from ftt_hub.errors import FttError
from ftt_hub.support.parallel import map_unordered
from ftt_hub.transfer.assemble import Assembler, ranges
from ftt_hub.transfer.plan import TensorPlan

Index: TypeAlias = EllipsisType | slice | int | tuple[EllipsisType | slice | int, ...]
PARALLEL_FROM = 64 << 20
"""Elements from which one tensor's blocks are worth spreading over threads.

Transformers asks for several tensors at a time anyway, and every block under way takes memory.
"""


class Failures:
    """The first error met while transformers was loading, which it may have swallowed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: FttError | None = None

    def record(self, error: FttError) -> None:
        """Keep the error, if it is the first."""
        with self._lock:
            self._first = self._first or error

    def raise_first(self) -> None:
        """Raise what was recorded.

        Raises:
            FttError: An error was recorded.
        """
        if self._first is not None:
            raise self._first


class DeltaSlice:
    """One tensor of m_t + λΔ, made when it is indexed.

    Args:
        plan: What the tensor is made of.
        assembler: Makes its bits.
        failures: Where errors are recorded.
    """

    def __init__(self, plan: TensorPlan, assembler: Assembler, failures: Failures) -> None:
        self._plan, self._assembler, self._failures = plan, assembler, failures

    def get_shape(self) -> list[int]:
        """Shape in the result."""
        return list(self._plan.shape)

    def get_dtype(self) -> str:
        """Dtype by its safetensors name."""
        return self._plan.dtype.name

    @property
    def dtype(self) -> torch.dtype:
        """Dtype as torch knows it."""
        found = getattr(torch, self._plan.dtype.torch_name or "", None)
        if not isinstance(found, torch.dtype):
            raise FttError("torch has no such dtype", where=self._plan.name, found=self.get_dtype())
        return found

    def is_floating_point(self) -> bool:
        """As torch tensors answer it."""
        return self.dtype.is_floating_point

    @property
    def shape(self) -> torch.Size:
        """Shape in the result."""
        return torch.Size(self._plan.shape)

    def __getitem__(self, index: Index) -> torch.Tensor:
        rows, rest = self._split(index)
        try:
            part = self._rows(rows) if isinstance(rows, range) else self._rows(range(0))
        except FttError as error:
            self._failures.record(error)
            raise
        return part if rest is None else part[rest]

    def _split(self, index: Index) -> tuple[range, Index | None]:
        """The rows an index needs, and what is left to do on them."""
        count = self._plan.shape[0] if self._plan.shape else 1
        whole = range(count)
        first = index[0] if isinstance(index, tuple) and index else index
        if not self._plan.shape or not isinstance(first, slice):
            return whole, None if index is Ellipsis else index
        rows = whole[first]
        if rows.step != 1:
            return whole, index
        left: Sequence[EllipsisType | slice | int] = index[1:] if isinstance(index, tuple) else ()
        return rows, (slice(None), *left) if left else None

    def _rows(self, rows: range) -> torch.Tensor:
        """Rows as a new tensor; only the blocks that hold them are read and decoded."""
        plan = self._plan
        shape = (len(rows), *plan.shape[1:]) if plan.shape else ()
        width = plan.row_elements
        low, high = rows.start * width, rows.stop * width
        if low >= high:
            return torch.empty(shape, dtype=self.dtype)
        parts = [p for p in ranges(plan) if p[0] < high and p[0] + p[1] > low]
        if len(parts) == 1:  # the usual case: nothing to put together
            bits = self._assembler.bits(plan, low, high - low)
            return torch.from_numpy(bits.view(np.uint8)).view(self.dtype).view(shape)
        out = torch.empty(shape, dtype=self.dtype)
        flat = out.view(-1).view(torch.uint8).numpy().view(plan.dtype.numpy)

        def fill(part: tuple[int, int]) -> None:
            start, stop = max(low, part[0]), min(high, part[0] + part[1])
            self._assembler.fill(plan, start, flat[start - low : stop - low])

        workers = None if high - low >= PARALLEL_FROM else 1
        for _ in map_unordered(fill, parts, workers):
            pass
        return out
