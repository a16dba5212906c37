"""Adapters to a registry and from it: `publish` and `pull`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.adapter import adapter_folder
from ftt_hub.config import CONFIG_NAME
from ftt_hub.container.folder import CARD_NAME, check_adapter
from ftt_hub.progress import Progress
from ftt_hub.registry.abc import Publication
from ftt_hub.registry.choose import choose_registry
from ftt_hub.staging import staged_folder

PathLike = str | Path


def publish(
    folder: PathLike,
    name: str,
    *,
    version: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> Publication:
    """Publish an adapter folder, after checking it completely.

    Args:
        folder: Made by `extract`.
        name: ``namespace/name``.
        version: ``1.2.0``; a published version never changes.
        private: Make the repository private, on the Hub.
        create_pr: Open a pull request instead, on the Hub; it has no version yet.
        registry: ``"hf"`` or a folder.
        progress: Watches the check.

    Raises:
        IntegrityError: The folder is damaged; nothing was published.
        VersionExistsError: The version exists with other content.
        RegistryError: The registry refuses.
    """
    check_adapter(Path(folder), progress=progress)
    chosen = choose_registry(registry)
    return chosen.publish(Path(folder), name, version=version, private=private, create_pr=create_pr)


@dataclass(frozen=True)
class Pulled:
    """A fetched adapter.

    Attributes:
        folder: Where it lies.
        revision: The tag or commit it was pinned to.
    """

    folder: Path
    revision: str | None


def pull(
    adapter: str,
    out_dir: PathLike | None = None,
    *,
    revision: str | None = None,
    registry: PathLike | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch an adapter from a registry and check it completely.

    Args:
        adapter: ``namespace/name[@revision]``.
        out_dir: Copy it into this folder; default where the registry or its cache has it.
        revision: Overrides the one in `adapter`.
        registry: ``"hf"`` or a folder.
        progress: Watches.

    Raises:
        RefError: It names nothing.
        IntegrityError: What arrived is damaged.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    folder, pinned = adapter_folder(adapter, revision=revision, registry=registry)
    config = check_adapter(folder, progress=progress)
    if out_dir is None:
        return Pulled(folder, pinned)
    with staged_folder(Path(out_dir)) as partial:
        for name in (*config.files, CONFIG_NAME, CARD_NAME):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, partial / name)
    return Pulled(Path(out_dir), pinned)
