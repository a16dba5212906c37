"""A transfer adapter and how one is made, as a Python user meets them."""

from __future__ import annotations

from importlib import import_module

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


def __getattr__(name: str) -> object:
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ftt_hub"), name)
