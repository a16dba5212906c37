"""Which registry a user means: `hf`, the path of a folder, or another one by its scheme."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftt_hub.registry.abc import Registry

VARIABLE = "FTT_HUB_REGISTRY"
DEFAULT = "hf"
FOLDERS = "ftt_hub.registry.local:LocalRegistry"

REGISTRIES: dict[str, str] = {DEFAULT: "ftt_hub.registry.hf:HubRegistry"}
"""Scheme → ``module:class``, imported when it is chosen.

Users write ``scheme`` or ``scheme:location``; the class is called with the location, which is
``""`` where there is none. Every other text is the path of a folder."""


def choose_registry(name: str | Path | None = None) -> Registry:
    """The registry named by the caller, else by `FTT_HUB_REGISTRY`, else the Hub.

    Args:
        name: ``"hf"``, the path of a folder, or ``scheme:location``.

    Raises:
        RegistryError: The scheme has no such location.
    """
    chosen = name or os.environ.get(VARIABLE) or DEFAULT
    if is_folder(chosen):
        return _load(FOLDERS, str(chosen))
    scheme, _, location = str(chosen).partition(":")
    return _load(REGISTRIES[scheme], location)


def is_folder(name: str | Path) -> bool:
    """Whether a registry's name is the path of a folder and not a scheme."""
    return isinstance(name, Path) or name.partition(":")[0] not in REGISTRIES


def _load(path: str, location: str) -> Registry:
    module, _, kind = path.partition(":")
    registry: Registry = getattr(import_module(module), kind)(location)
    return registry
