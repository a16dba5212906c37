"""Writing an adapter folder: container, companions, card and manifest, in this order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ftt_hub.artifact import card
from ftt_hub.artifact.folder import CARD_NAME, list_files
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.journal import Span
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig
from ftt_hub.artifact.writer import write_container
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import write_atomic


def write_folder(
    folder: Path,
    work: Path,
    entries: Sequence[TensorEntry],
    payloads: Sequence[Span],
    *,
    companions: Callable[[Path], object],
    manifest: Callable[[list[TensorEntry]], AdapterConfig],
    progress: Progress,
) -> AdapterConfig:
    """Turn finished slots into an adapter folder.

    Args:
        folder: A staged folder, which nobody sees before it is complete.
        work: The folder of the slots inside it, which is deleted once they are in the container.
        entries: All index entries, in name order.
        payloads: Where the frames are of the entries that have a slot, in the same order.
        companions: Writes the small files that travel with Δ into the folder.
        manifest: Makes the manifest, without its list of files, of the numbered entries.
        progress: Receives progress events.

    Returns:
        The manifest as it was written.

    Raises:
        OutputError: The disk is full.
    """
    numbered = write_container(folder, entries, payloads, progress=progress)
    companions(folder)
    shutil.rmtree(work)
    config = manifest(numbered).with_files(list_files(folder, progress))
    (folder / CARD_NAME).write_text(card.render(config), encoding="utf-8")
    write_atomic(folder / CONFIG_NAME, config.to_bytes())
    return config
