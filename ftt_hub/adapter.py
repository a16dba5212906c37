"""A transfer adapter opened for use: its manifest, its frames, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftt_hub import hub
from ftt_hub.closing import Closing
from ftt_hub.config import CONFIG_NAME, AdapterConfig, read_config
from ftt_hub.container.index import TensorEntry
from ftt_hub.container.reader import Container
from ftt_hub.container.remote import remote_entries
from ftt_hub.errors import RefError
from ftt_hub.refs import parse_ref


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
        from ftt_hub.registry.choose import choose_registry  # folders need no registry

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


def adapter_headers(
    text: str | Path, *, revision: str | None = None, registry: str | Path | None = None
) -> AdapterHeaders:
    """What is known of an adapter without its frames; of one on the Hub by ranged reads alone.

    Raises:
        RefError: It names nothing.
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    ref = parse_ref(text, revision=revision)
    if ref.folder is None and not hub.is_offline():
        from ftt_hub.registry.choose import choose_registry
        from ftt_hub.registry.hf import HubRegistry, read_manifest

        chosen = choose_registry(registry)
        if isinstance(chosen, HubRegistry):
            name, commit = chosen.resolve(ref)
            config = read_manifest(name, commit)
            if config is None:
                raise RefError(f"no {CONFIG_NAME} there", where=ref, expected="a transfer adapter")
            return remote_headers(str(text), name, commit, config)
    with open_adapter(text, revision=revision, registry=registry) as opened:
        return opened.headers


def remote_headers(label: str, name: str, commit: str, config: AdapterConfig) -> AdapterHeaders:
    """Headers of an adapter on the Hub whose manifest is known already.

    Raises:
        IntegrityError: Its container is damaged.
        HubError: The Hub does not answer.
    """

    def file(filename: str) -> Path | None:
        return hub.download_file(name, commit, filename) if filename in config.files else None

    def read(filename: str, start: int, length: int) -> bytes:
        return hub.read_range(name, commit, filename, start, length)

    entries = remote_entries(config, read, name)
    return AdapterHeaders(label, commit, config, entries, file)
