"""Offloaded models are refused before PEFT takes their hooks off, which it does unasked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import wrapt

from ftt_hub.errors import UnsupportedError

_HUB_ARGUMENTS = ("subfolder", "revision", "cache_dir", "token")


def refuse_offloaded(transfer: str) -> None:
    """Have `PeftModel.from_pretrained` look before it changes a model; harmless when done twice."""
    from peft import PeftConfig, PeftModel

    if isinstance(vars(PeftModel)["from_pretrained"], wrapt.ObjectProxy):
        return

    def load(wrapped: Callable[..., Any], _: object, args: Any, kwargs: Any) -> Any:
        given = inspect.signature(wrapped).bind_partial(*args, **kwargs).arguments
        model: Any = given.get("model")
        config = given.get("config")
        if hasattr(model, "hf_device_map") and any(p.is_meta for p in model.parameters()):
            hub = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}
            kind = (
                config.peft_type
                if config is not None
                else PeftConfig._get_peft_type(given["model_id"], **hub)  # noqa: SLF001
            )
            if kind == transfer:
                raise UnsupportedError(
                    "the model's weights are offloaded, and a delta cannot be added to them",
                    where=given["model_id"],
                    hint="Load it with ftt_hub.AutoTransferModel…(adapter, base_model=…, "
                    "device_map=…), which adds Δ before offloading.",
                )
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(PeftModel, "from_pretrained", load)
