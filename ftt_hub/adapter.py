"""A transfer adapter opened for use: its manifest, its frames, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ftt_hub.config import CONFIG_NAME, AdapterConfig, read_config
from ftt_hub.container.reader import Container
from ftt_hub.errors import RefError
from ftt_hub.refs import parse_ref
from ftt_hub.registry.choose import choose_registry

APPLIED_MARK = "_ftt_hub_applied"
"""Attribute of a model in memory: digests of the adapters in its weights; copies keep it."""


@dataclass(frozen=True)
class Adapter:
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

    def close(self) -> None:
        """Close the container."""
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def adapter_folder(
    text: str | Path, *, revision: str | None = None, registry: str | Path | None = None
) -> tuple[Path, str | None]:
    """Folder and pinned revision of an adapter; fetched from the registry when it is a name.

    Raises:
        RefError: It names nothing.
        RegistryError: The registry refuses or does not answer.
    """
    ref = parse_ref(text, revision=revision)
    if ref.folder is None:
        return choose_registry(registry).fetch(ref)
    if not (ref.folder / CONFIG_NAME).is_file():
        raise RefError(
            f"no {CONFIG_NAME} there",
            where=ref.folder,
            expected="a transfer adapter",
            hint="Name a folder made by ftt-hub extract, or namespace/name in a registry.",
        )
    return ref.folder, None


def open_adapter(
    text: str | Path, *, revision: str | None = None, registry: str | Path | None = None
) -> Adapter:
    """Open an adapter by folder or reference.

    Raises:
        RefError: It names nothing.
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    folder, pinned = adapter_folder(text, revision=revision, registry=registry)
    config = read_config(folder)
    return Adapter(str(text), folder, pinned, config, Container(folder))
