"""ftt-hub: diff vectors as versioned transfer adapters.

Importing this package is light: torch, transformers, peft and click load when first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ftt_hub.version import __version__

if TYPE_CHECKING:
    from ftt_hub.api import TransferAdapter, apply, browse, extract, publish, pull, verify
    from ftt_hub.errors import FttError
    from ftt_hub.extraction.choice import Coding
    from ftt_hub.loading import AutoTransferModelForCausalLM

_HOMES = {
    "AutoTransferModelForCausalLM": "ftt_hub.loading",
    "Coding": "ftt_hub.extraction.choice",
    "FttError": "ftt_hub.errors",
    "TransferAdapter": "ftt_hub.api",
    "apply": "ftt_hub.api",
    "browse": "ftt_hub.api",
    "extract": "ftt_hub.api",
    "publish": "ftt_hub.api",
    "pull": "ftt_hub.api",
    "verify": "ftt_hub.api",
}

__all__ = [
    "AutoTransferModelForCausalLM",
    "Coding",
    "FttError",
    "TransferAdapter",
    "__version__",
    "apply",
    "browse",
    "extract",
    "publish",
    "pull",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
