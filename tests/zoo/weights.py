"""Weights of a family: source base, fine-tune and target, and what transformers loads of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]


def trainable(model: Any) -> State:
    """Parameters and float buffers that are saved, each once, as the model holds them."""
    saved = set(model.state_dict())
    buffers = {n: b for n, b in model.named_buffers() if n in saved and b.is_floating_point()}
    floats = {n: p.data for n, p in model.named_parameters() if p.is_floating_point()}
    return {**floats, **buffers}


def randomize(model: Any) -> None:
    """Make every trainable value finite, random and bf16."""
    generator = torch.Generator().manual_seed(1)
    for tensor in list(trainable(model).values()):
        start = torch.where(tensor.isfinite() & (tensor.abs() < 10), tensor.float(), 0.0)
        tensor.copy_(start + 0.02 * torch.randn(tensor.shape, generator=generator))
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name not in module._non_persistent_buffers_set and buffer.is_floating_point():
                module.register_buffer(name, buffer.to(torch.bfloat16))
    model.config.dtype = torch.bfloat16


def moved(model: Any, seed: int, size: float) -> None:
    """Add noise to every trainable value, in place."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in trainable(model).values():
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.copy_((tensor.float() + size * noise).to(tensor.dtype))


@dataclass(frozen=True)
class Loaded:
    """What `from_pretrained` makes of a folder."""

    state: State
    missing: frozenset[str]
    unexpected: frozenset[str]
    config: Any


def load(loader: Any, folder: Path) -> Loaded:
    """Load a checkpoint by an auto class of transformers; tensors are copies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, info = loader.from_pretrained(
            folder, dtype="auto", output_loading_info=True, local_files_only=True
        )
    return loaded(model, info)


def loaded(model: Any, info: dict[str, Any]) -> Loaded:
    """The same of a model that is loaded already."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return Loaded(
        state, frozenset(info["missing_keys"]), frozenset(info["unexpected_keys"]), model.config
    )
