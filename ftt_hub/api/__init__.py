"""A transfer adapter and how one is made, as a Python user meets them."""

from __future__ import annotations

import sys
from types import ModuleType

from ftt_hub.support.moved import moved_name

_FORMER = (
    "TransferAdapter",
    "apply",
    "browse",
    "deprecate",
    "extract",
    "publish",
    "pull",
    "rank",
    "record_evaluations",
    "record_verdict",
    "verify",
    "versions",
)
"""Public names that earlier versions had in the module `ftt_hub.api`."""


class _Api(ModuleType):
    """The package; `from ftt_hub.api import extract` is the function, as it was, not the module."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _FORMER and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        return moved_name(self.__name__, name, _FORMER)


sys.modules[__name__].__class__ = _Api
