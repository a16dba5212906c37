"""Which registry a user means: `hf`, or a folder; from an option or the environment."""

from __future__ import annotations

import os
from pathlib import Path

from ftt_hub.registry.abc import Registry
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.local import LocalRegistry

VARIABLE = "FTT_HUB_REGISTRY"


def choose_registry(name: str | Path | None = None) -> Registry:
    """The registry named by the caller, else by `FTT_HUB_REGISTRY`, else the Hub.

    Args:
        name: ``"hf"``, or the path of a folder.
    """
    chosen = name or os.environ.get(VARIABLE) or "hf"
    return HubRegistry() if chosen == "hf" else LocalRegistry(Path(chosen))
