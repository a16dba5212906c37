"""Tensors that record how elements are moved: transformers' own conversions run on them unchanged.

A `TracedTensor` has a shape and an `Arrangement` and no values. Operations that only move elements
give another one; everything else is refused, because Δ could not follow it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ftt_hub.checkpoint.arrangement import Arrangement, concatenated

aten = torch.ops.aten


class NotMovedError(Exception):
    """An operation does more than move elements."""


class TracedTensor(torch.Tensor):
    """A tensor that knows what it is made of, and has no values."""

    arrangement: Arrangement

    @staticmethod
    def __new__(cls, arrangement: Arrangement, dtype: torch.dtype) -> TracedTensor:  # noqa: D102, PYI034
        tensor: TracedTensor = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001
            cls, arrangement.shape, dtype=dtype, device=torch.device("meta")
        )
        tensor.arrangement = arrangement
        return tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operation = _OPERATIONS.get(func.overloadpacket)
        if operation is None:
            raise NotMovedError(str(func))
        dtype = _dtype(args[0])
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, list):
            return [TracedTensor(part, dtype) for part in result]
        return TracedTensor(result, dtype)


def _dtype(argument: Any) -> torch.dtype:
    """The dtype of the operands, which has to be one."""
    tensors = argument if isinstance(argument, list | tuple) else [argument]
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) != 1:
        raise NotMovedError("dtypes are mixed")
    dtype: torch.dtype = dtypes.pop()
    return dtype


def _of(tensor: Any) -> Arrangement:
    if not isinstance(tensor, TracedTensor):
        raise NotMovedError("values that are no weights")
    return tensor.arrangement


def _same(tensor: Any, dtype: torch.dtype | None = None, **_: Any) -> Arrangement:
    if dtype is not None and dtype != tensor.dtype:
        raise NotMovedError("a change of dtype")
    return _of(tensor)


def _view(tensor: Any, shape: Sequence[int], **_: Any) -> Arrangement:
    meta = torch.empty(tensor.shape, device="meta").view(shape)
    return _of(tensor).view(tuple(meta.shape))


def _permute(tensor: Any, order: Sequence[int]) -> Arrangement:
    return _of(tensor).permute([d % tensor.ndim for d in order])


def _transpose(tensor: Any, first: int = 0, second: int = 1) -> Arrangement:
    order = list(range(tensor.ndim))
    if order:
        order[first], order[second] = order[second], order[first]
    return _of(tensor).permute(order)


def _slice(
    tensor: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Arrangement:
    dim %= tensor.ndim
    picked = range(tensor.shape[dim])[slice(start, end)]
    part = _of(tensor).narrow(dim, picked.start, len(picked))
    return part if step == 1 else part.every(dim, step)


def _select(tensor: Any, dim: int, index: int) -> Arrangement:
    dim %= tensor.ndim
    shape = tuple(tensor.shape)
    part = _of(tensor).narrow(dim, index % shape[dim], 1)
    return part.view((*shape[:dim], *shape[dim + 1 :]))


def _unsqueeze(tensor: Any, dim: int) -> Arrangement:
    return _view(tensor, torch.empty(tensor.shape, device="meta").unsqueeze(dim).shape)


def _squeeze(tensor: Any, *dims: Any) -> Arrangement:
    return _view(tensor, torch.empty(tensor.shape, device="meta").squeeze(*dims).shape)


def _cat(tensors: Sequence[Any], dim: int = 0) -> Arrangement:
    return concatenated([_of(tensor) for tensor in tensors], dim % tensors[0].ndim)


def _stack(tensors: Sequence[Any], dim: int = 0) -> Arrangement:
    dim %= tensors[0].ndim + 1
    shape = tuple(tensors[0].shape)
    row = (*shape[:dim], 1, *shape[dim:])
    return concatenated([_of(tensor).view(row) for tensor in tensors], dim)


def _split_with_sizes(tensor: Any, sizes: Sequence[int], dim: int = 0) -> list[Arrangement]:
    parts, start = [], 0
    for size in sizes:
        parts.append(_of(tensor).narrow(dim % tensor.ndim, start, size))
        start += size
    return parts


def _split(tensor: Any, size: int, dim: int = 0) -> list[Arrangement]:
    total = tensor.shape[dim % tensor.ndim]
    return _split_with_sizes(tensor, [min(size, total - i) for i in range(0, total, size)], dim)


def _unbind(tensor: Any, dim: int = 0) -> list[Arrangement]:
    return [_select(tensor, dim, index) for index in range(tensor.shape[dim])]


_OPERATIONS: dict[Any, Callable[..., Arrangement | list[Arrangement]]] = {
    aten.alias: _same,
    aten.detach: _same,
    aten.clone: _same,
    aten.contiguous: _same,
    aten._to_copy: _same,  # noqa: SLF001
    aten.view: _view,
    aten._unsafe_view: _view,  # noqa: SLF001
    aten.reshape: _view,
    aten.permute: _permute,
    aten.transpose: _transpose,
    aten.t: _transpose,
    aten.slice: _slice,
    aten.select: _select,
    aten.unsqueeze: _unsqueeze,
    aten.squeeze: _squeeze,
    aten.cat: _cat,
    aten.stack: _stack,
    aten.split: _split,
    aten.split_with_sizes: _split_with_sizes,
    aten.unbind: _unbind,
}
