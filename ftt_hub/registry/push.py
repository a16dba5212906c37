"""`push`: publish an adapter folder in a registry, after checking it completely."""

from __future__ import annotations

from pathlib import Path

from ftt_hub.artifact.folder import check_adapter
from ftt_hub.registry.abc import Preview, Publication
from ftt_hub.registry.choose import choose_registry
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress


def push(
    folder: PathLike,
    name: str,
    *,
    version: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish an adapter folder, after checking it completely; `publish` is its older name.

    Args:
        folder: Made by `extract`.
        name: ``namespace/name``.
        version: ``1.2.0``; a published version never changes.
        private: Make the repository private, on the Hub.
        create_pr: Open a pull request instead, on the Hub; it has no version yet.
        registry: ``"hf"`` or a folder.
        progress: Receives progress events of the check; default: none.

    Raises:
        IntegrityError: The folder is damaged; nothing was published.
        VersionExistsError: The version exists with other content.
        RegistryError: The registry refuses.
    """
    check_adapter(Path(folder), progress=progress)
    chosen = choose_registry(registry)
    return chosen.publish(Path(folder), name, version=version, private=private, create_pr=create_pr)


publish = push


def preview(
    folder: PathLike, name: str, *, version: str | None = None, registry: PathLike | None = None
) -> Preview:
    """What `push` would send, after the same checks; changes nothing.

    Raises:
        IntegrityError: The folder is damaged.
        VersionExistsError: The version exists with other content.
    """
    check_adapter(Path(folder))
    return choose_registry(registry).preview(Path(folder), name, version=version)
