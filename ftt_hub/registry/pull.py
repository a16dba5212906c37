"""`pull`: fetch an adapter from a registry and check it completely."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.artifact.folder import CARD_NAME, check_adapter
from ftt_hub.artifact.manifest import CONFIG_NAME
from ftt_hub.registry.open import adapter_folder
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import staged_folder


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
        progress: Receives progress events; default: none.

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
