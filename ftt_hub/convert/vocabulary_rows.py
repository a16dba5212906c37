"""Embeddings and heads that a PEFT adapter saves whole with another number of rows: added tokens.

Who adds tokens before training resizes the embeddings, and PEFT saves them in the adapter
(`save_embedding_layers`, `modules_to_save`). The base needs the same number of rows before PEFT
can load it; the added rows start at zero, and the saved ones overwrite them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ftt_hub.tensors.header import TensorInfo

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."
_WRAPPED = re.compile(
    r"\.(token_adapter|base_layer|original_module|modules_to_save(\.default)?)(?=\.)"
)


def _saved_rows(tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Parameter → rows, of the tensors that an adapter saves under names of the base."""
    names = {_WRAPPED.sub("", name.removeprefix(_PREFIX)): i for name, i in tensors.items()}
    return {name: info.shape[0] for name, info in names.items() if info.shape}


def _vocabulary_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Input and output embeddings by path."""
    ends: list[Any] = [
        model.get_input_embeddings(),
        model.get_output_embeddings(),  # type: ignore[no-untyped-call]
    ]
    kept = [module for module in ends if module is not None]
    return {
        path: module for path, module in model.named_modules() if any(module is m for m in kept)
    }


def _resized(old: torch.Tensor, rows: int) -> torch.nn.Parameter:
    new = old.new_zeros((rows, *old.shape[1:]))
    shared = min(rows, old.shape[0])
    new[:shared] = old[:shared]
    return torch.nn.Parameter(new, requires_grad=False)


def resize_to_saved(model: PreTrainedModel, tensors: Mapping[str, TensorInfo]) -> int | None:
    """Give embeddings and head the rows that an adapter saves them with.

    Args:
        model: The base; ties between its parameters are kept.
        tensors: Names and shapes of the adapter.

    Returns:
        The rows of the input embeddings, ``None`` when nothing changed.
    """
    saved = _saved_rows(tensors)
    modules = _vocabulary_modules(model)
    made: dict[int, torch.nn.Parameter] = {}
    for path, module in modules.items():
        for name, old in module.named_parameters(recurse=False):
            rows = saved.get(f"{path}.{name}")
            if rows is not None and rows != old.shape[0]:
                made.setdefault(id(old), _resized(old.data, rows))
    if not made:
        return None
    for module in modules.values():
        for name, old in list(module.named_parameters(recurse=False)):
            if id(old) in made:
                module.register_parameter(name, made[id(old)])
                _tell_rows(module, made[id(old)].shape[0])
    rows = int(model.get_input_embeddings().get_parameter("weight").shape[0])
    model.config.get_text_config().vocab_size = rows
    return rows


def _tell_rows(module: nn.Module, rows: int) -> None:
    for attribute in ("num_embeddings", "out_features"):
        if hasattr(module, attribute):
            setattr(module, attribute, rows)
