"""Parameters that lie in shards on several processes: gathered, resized, and agreed upon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from ftt_hub.errors import FttError, UnsupportedError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "_local_tensor")


def reshard(model: torch.nn.Module) -> None:
    """Have FSDP2 show the shards, which are the weights, and not what a forward pass gathered."""
    for module in _fsdp_modules(model):
        module.reshard()


def _fsdp_modules(model: torch.nn.Module) -> Iterator[Any]:
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        yield from (module for module in model.modules() if isinstance(module, FSDPModule))


def gather(part: torch.Tensor, like: DTensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The whole of a tensor of which every process has the part it holds of `like`.

    All processes have to call this, in the same order.
    """
    from torch.distributed.tensor import DTensor

    stride = torch.empty(shape, device="meta").stride()
    whole = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=torch.Size(shape),
        stride=stride,
    )  # fmt: skip
    return whole.full_tensor()


@contextmanager
def together(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """A section that fails on all processes that share these tensors, or on none.

    Raises:
        FttError: Another process failed.
    """
    sharded: list[Any] = [tensor for tensor in tensors if is_sharded(tensor)]
    meshes = list(dict.fromkeys(tensor.device_mesh for tensor in sharded))
    try:
        yield
    except BaseException:
        _any_failed(True, meshes)
        raise
    if _any_failed(False, meshes):
        raise FttError(
            "another process could not change its part of the model, so that none did",
            hint="The message of that process says why.",
        )


def _any_failed(failed: bool, meshes: Iterable[Any]) -> bool:
    for mesh in meshes:
        for dimension in range(mesh.ndim):
            flag = torch.tensor([int(failed)], device=mesh.device_type)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=mesh.get_group(dimension))
            failed = bool(flag.item())
    return failed


def resize(model: torch.nn.Module, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Give a parameter another number of rows, in every module that holds it; values are lost.

    Raises:
        UnsupportedError: It is sharded in a way that cannot be made anew.
    """
    with torch.no_grad():
        if is_sharded(tensor):
            _resize_shard(model, tensor, shape)  # type: ignore[arg-type]
        else:
            tensor.data = tensor.data.new_empty(shape)
    for module in model.modules():
        if any(held is tensor for held in module._parameters.values()):  # noqa: SLF001
            for name in ("num_embeddings", "out_features"):
                if hasattr(module, name):
                    setattr(module, name, shape[0])


def _resize_shard(model: torch.nn.Module, tensor: DTensor, shape: tuple[int, ...]) -> None:
    """The same for the shard of this process; the object stays the parameter it is."""
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = tensor.device_mesh, tensor.placements
    size, _ = compute_local_shape_and_global_offset(torch.Size(shape), mesh, placements)
    part = tensor._local_tensor.new_empty(size)  # noqa: SLF001
    owner = _fsdp_owner(model, tensor)
    if owner is None:
        stride = torch.empty(shape, device="meta").stride()
        fresh = DTensor.from_local(
            part, mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
        )
        _become(tensor, fresh)
        return
    if owner.is_dtensor:
        raise UnsupportedError(
            "rows cannot be added to a parameter that is sharded by FSDP and by tensor parallelism",
            hint="Apply the adapter before fully_shard, or load with ftt_hub.AutoTransferModel….",
        )
    plain = torch.nn.Parameter(
        torch.empty(shape, dtype=tensor.dtype, device="meta"), tensor.requires_grad
    )
    place = owner.fsdp_placement
    owner._init_sharded_param(plain, owner.device, lambda _: place, owner.mesh_info)  # noqa: SLF001
    _become(tensor, owner.to_sharded_dtensor(part))
    owner.sharded_param = tensor
    owner._setattr_on_modules(tensor)  # noqa: SLF001
    owner.all_gather_outputs = []
    if hasattr(owner, "_unsharded_param"):
        del owner._unsharded_param  # noqa: SLF001
    owner.reset_sharded_param()
    owner._init_extensions()  # noqa: SLF001


def _become(tensor: DTensor, fresh: DTensor) -> None:
    """Put the content of another tensor into this object, as torch's modules do on conversion."""
    parameter = torch.nn.Parameter(fresh, tensor.requires_grad)
    torch.utils.swap_tensors(tensor, parameter)  # type: ignore[no-untyped-call]


def _fsdp_owner(model: torch.nn.Module, tensor: torch.Tensor) -> Any:
    """FSDP2's own record of a parameter, ``None`` when it is not FSDP's."""
    for module in _fsdp_modules(model):
        state = module._get_fsdp_state()  # noqa: SLF001
        groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]  # noqa: SLF001
        for group in groups:
            for held in [] if group is None else group.fsdp_params:
                if held.sharded_param is tensor:
                    return held
    return None
