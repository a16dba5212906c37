"""`versions`: what a registry has of one adapter, newest first."""

from __future__ import annotations

from ftt_hub.registry.abc import Version
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.open import registered_name
from ftt_hub.support.paths import PathLike


def versions(name: str, *, registry: PathLike | None = None) -> tuple[Version, ...]:
    """The published versions of an adapter, newest first.

    Args:
        name: ``namespace/name``.
        registry: ``"hf"`` or a folder.

    Raises:
        RefError: No such adapter.
        RegistryError: The registry refuses.
    """
    return choose_registry(registry).versions(registered_name(name).name or "")
