"""What LoRA cannot carry, whole: the fine-tuned values of norms, embeddings and the head."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import torch

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.convert.modules import ModuleMap
from ftt_hub.errors import UnsupportedError
from ftt_hub.support.paths import PathLike
from ftt_hub.tensors.dtypes import DType
from ftt_hub.transfer.assemble import Assembler, ranges
from ftt_hub.transfer.prepare import prepared


def as_torch(bits: np.ndarray, dtype: DType, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of raw bits."""
    kind = getattr(torch, dtype.torch_name or "")
    return torch.from_numpy(bits.view(np.uint8)).view(kind).reshape(shape)


def whole_values(
    adapter: Adapter,
    model: ModuleMap,
    others: Mapping[str, str],
    base: PathLike | None,
    tensors: dict[str, torch.Tensor],
    taken: Container[str],
) -> dict[str, str]:
    """Add source base + Δ of the tensors LoRA leaves out, under PEFT's names for saved modules.

    Args:
        adapter: The transfer adapter.
        model: The modules behind its checkpoint names.
        others: Names and reasons of what is left out.
        base: The source base; default the one the adapter names.
        tensors: What the LoRA adapter stores; this function adds to it.
        taken: Modules with factors of their own, whose biases cannot be saved beside them.

    Returns:
        Checkpoint name → module, for `modules_to_save`.

    Raises:
        UnsupportedError: A changed tensor is not a parameter of a module of its own.
    """
    saved: dict[str, str] = {}
    for name, reason in others.items():
        parameter = model.parameters.get(name)
        if parameter is not None and parameter.module and parameter.module in taken:
            continue
        if (
            parameter is None
            or not parameter.module
            or adapter.container.entries[name].role != "delta"
        ):
            raise UnsupportedError(
                f"cannot be saved whole either: {reason}",
                where=name,
                hint="Use the transfer adapter itself, or leave out --modules-to-save.",
            )
        saved[name] = parameter.module
    source = adapter.config.source_base
    chosen = base or (f"{source.id}@{source.revision}" if source.revision else source.id)
    with prepared(adapter, chosen) as target:
        assembler = Assembler(target.checkpoint.read_bits, adapter.container)
        for name, parameter in model.parameters.items():
            if parameter.module not in saved.values():
                continue
            plan = target.plan.tensors[name]
            bits = [assembler.bits(plan, start, count) for start, count in ranges(plan)]
            value = as_torch(np.concatenate(bits), plan.dtype, plan.shape)
            key = f"{parameter.module}.{parameter.parameter}"
            tensors[f"base_model.model.{key}"] = value
            for alias, of in model.tied.items():  # PEFT saves and asks for both
                if of == key:
                    tensors[f"base_model.model.{alias}"] = value.clone()
    return saved
