"""Module paths of earlier versions under which public names can still be imported."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

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


def moved_name(module: str, name: str, known: Sequence[str]) -> object:
    """A public name that `module` had in an earlier version; warns its importer.

    Raises:
        AttributeError: It is not among the names known.
    """
    if name not in known:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    message = f"import {name} from ftt_hub instead of {module}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    value: object = getattr(import_module("ftt_hub"), name)
    return value


class MovedModule(ModuleType):
    """Stands for a module of an earlier version; its names come from `ftt_hub`."""

    def __getattr__(self, name: str) -> object:
        return moved_name(self.__name__, name, MOVED[self.__name__.removeprefix("ftt_hub.")])


class MovedModules(MetaPathFinder, Loader):
    """Finds modules of earlier versions; Python asks it last, when no such file exists."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a former module."""
        package, _, former = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "ftt_hub" and former in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that stands for it."""
        return MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def register_moved_modules() -> None:
    """Make the former module paths importable."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
