"""Module paths of earlier versions under which public names can still be imported."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from ftt_hub.support.warn import warn_caller

MOVED = {
    "browsing": ("browse",),
    "combining.verb": ("combine",),
    "converting": (
        "convert_from_peft",
        "convert_to_lora",
        "convert_to_sparse_patch",
        "export_channels",
    ),
    "evaluation.comparison": ("evaluate",),
    "exchange": ("publish", "pull"),
    "ledger": ("deprecate", "record_evaluations", "versions"),
    "loading": (
        "AutoTransferModel",
        "AutoTransferModelForCausalLM",
        "AutoTransferModelForImageTextToText",
        "AutoTransferModelForSeq2SeqLM",
        "AutoTransferModelForSequenceClassification",
    ),
    "ranking": ("rank",),
    "recording": ("record_verdict",),
    "recycling.verb": ("recycle",),
    "tuning.verb": ("tune",),
}
"""Former module → the public names it had."""


class MovedModule(ModuleType):
    """Stands for a module of an earlier version; its names come from `ftt_hub`."""

    def __getattr__(self, name: str) -> object:
        if name not in MOVED[self.__name__.removeprefix("ftt_hub.")]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        message = f"import {name} from ftt_hub instead of {self.__name__}"
        warn_caller(message, DeprecationWarning)
        return getattr(import_module("ftt_hub"), name)


def register_moved_modules() -> None:
    """Make the former module paths importable."""
    for path in MOVED:
        name = f"ftt_hub.{path}"
        sys.modules.setdefault(name, MovedModule(name))
