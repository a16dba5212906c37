"""A transfer adapter opened for use: its manifest, its frames, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig, read_config
from ftt_hub.artifact.reader import Container
from ftt_hub.support.closing import Closing


@dataclass(frozen=True)
class AdapterHeaders:
    """What is known of an adapter without one frame of it, local or by ranged reads.

    Attributes:
        label: How the user named it.
        revision: Tag or commit it was pinned to, ``None`` for a plain folder.
        config: Its manifest, validated.
        entries: Checkpoint name → index entry.
        file: Path of a file that the manifest lists, ``None`` when it lists no such file.
    """

    label: str
    revision: str | None
    config: AdapterConfig
    entries: Mapping[str, TensorEntry]
    file: Callable[[str], Path | None]


APPLIED_MARK = "_ftt_hub_applied"
"""Attribute of a model in memory: digests of the adapters in its weights; copies keep it."""


@dataclass(frozen=True)
class Adapter(Closing):
    """An adapter's folder, manifest and container.

    Attributes:
        label: How the user named it.
        folder: Where it lies; read only.
        revision: Tag or commit it was pinned to, ``None`` for a plain folder.
        config: Its manifest, validated.
        container: Its frames.
    """

    label: str
    folder: Path
    revision: str | None
    config: AdapterConfig
    container: Container

    @property
    def headers(self) -> AdapterHeaders:
        """What is known of it without its frames."""

        def file(name: str) -> Path | None:
            path = self.folder / name
            return path if name in self.config.files and path.is_file() else None

        return AdapterHeaders(self.label, self.revision, self.config, self.container.entries, file)

    def close(self) -> None:
        """Close the container."""
        self.container.close()


def open_folder(label: str, folder: Path, revision: str | None = None) -> Adapter:
    """Open an adapter's folder.

    Args:
        label: How the user named it.
        folder: Where it lies.
        revision: What it is pinned to in a registry.

    Raises:
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    return Adapter(label, folder, revision, read_config(folder), Container(folder))
