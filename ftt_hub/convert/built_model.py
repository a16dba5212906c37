"""The modules behind checkpoint names, from the model that transformers builds without weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ftt_hub.convert.modules import (
    EMBEDDING,
    LINEAR,
    OTHER,
    TRANSPOSED,
    ModuleMap,
    ModuleParameter,
)
from ftt_hub.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _model(config: Mapping[str, Any]) -> PreTrainedModel:
    import torch
    import transformers
    from transformers import AutoConfig

    kind, names = config.get("model_type"), config.get("architectures") or []
    cls = getattr(transformers, str(names[0]), None) if names else None
    if not isinstance(kind, str) or cls is None:
        raise UnsupportedError(
            f"transformers knows no model of type {kind!r:.60} with architecture {names!r:.80}",
            expected="a model that needs no code of its own",
        )
    values = {key: value for key, value in config.items() if key != "model_type"}
    try:
        made = AutoConfig.for_model(kind, **values)
        with torch.device("meta"):
            model: PreTrainedModel = cls(made)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UnsupportedError(
            f"transformers cannot build this model ({str(error).splitlines()[0][:120]})",
            where=kind,
        ) from error
    return model


def describe_built(config: Mapping[str, Any], names: Iterable[str]) -> ModuleMap:
    """Look up checkpoint names in the model that transformers builds on the meta device.

    Args:
        config: The model's `config.json`.
        names: Checkpoint names.

    Raises:
        UnsupportedError: transformers has no such model.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    from ftt_hub.transfer.live.names import map_names

    model = _model(config)
    modules = dict(model.named_modules())

    def kind_of(module: nn.Module | None) -> str:
        if isinstance(module, nn.Linear):
            return LINEAR
        if isinstance(module, Conv1D):
            return TRANSPOSED
        return EMBEDDING if isinstance(module, nn.Embedding) else OTHER

    parameters = {}
    for group in map_names(model, names).groups:
        for name in group.names:
            path, _, parameter = group.key.rpartition(".")
            fused = group.converter is not None
            parameters[name] = (
                ModuleParameter("", parameter, OTHER)
                if fused
                else ModuleParameter(path, parameter, kind_of(modules.get(path)))
            )
    linear = tuple(n for n, m in modules.items() if kind_of(m) in (LINEAR, TRANSPOSED))
    return ModuleMap(parameters, linear, dict(getattr(model, "all_tied_weights_keys", None) or {}))
