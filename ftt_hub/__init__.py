"""ftt-hub: diff vectors as versioned transfer adapters.

Importing this package is light: torch, transformers, peft and click load when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import wrapt

from ftt_hub.version import __version__

if TYPE_CHECKING:
    from ftt_hub.api import (
        TransferAdapter,
        apply,
        browse,
        deprecate,
        extract,
        publish,
        pull,
        verify,
        versions,
    )
    from ftt_hub.errors import FttError
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.loading import (
        AutoTransferModel,
        AutoTransferModelForCausalLM,
        AutoTransferModelForImageTextToText,
        AutoTransferModelForSeq2SeqLM,
        AutoTransferModelForSequenceClassification,
    )
    from ftt_hub.recycling.verb import recycle

_HOMES = {
    "AutoTransferModel": "ftt_hub.loading",
    "AutoTransferModelForCausalLM": "ftt_hub.loading",
    "AutoTransferModelForImageTextToText": "ftt_hub.loading",
    "AutoTransferModelForSeq2SeqLM": "ftt_hub.loading",
    "AutoTransferModelForSequenceClassification": "ftt_hub.loading",
    "Coding": "ftt_hub.extraction.choice",
    "FttError": "ftt_hub.errors",
    "TransferAdapter": "ftt_hub.api",
    "apply": "ftt_hub.api",
    "browse": "ftt_hub.api",
    "deprecate": "ftt_hub.api",
    "extract": "ftt_hub.api",
    "publish": "ftt_hub.api",
    "pull": "ftt_hub.api",
    "recycle": "ftt_hub.recycling.verb",
    "verify": "ftt_hub.api",
    "versions": "ftt_hub.api",
}

__all__ = [
    "AutoTransferModel",
    "AutoTransferModelForCausalLM",
    "AutoTransferModelForImageTextToText",
    "AutoTransferModelForSeq2SeqLM",
    "AutoTransferModelForSequenceClassification",
    "Coding",
    "FttError",
    "TransferAdapter",
    "__version__",
    "apply",
    "browse",
    "deprecate",
    "extract",
    "publish",
    "pull",
    "recycle",
    "verify",
    "versions",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_with_peft(_peft: object) -> None:
    """Make the Hugging Face loaders know transfer adapters as soon as PEFT is there."""
    import_module("ftt_hub.peft_plugin").register()


wrapt.register_post_import_hook(_register_with_peft, "peft")
