"""Opening an adapter: a folder, or a reference that a registry resolves and fetches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ftt_hub.artifact.adapter import Adapter, AdapterHeaders, open_folder
from ftt_hub.artifact.manifest import CONFIG_NAME
from ftt_hub.errors import RefError
from ftt_hub.registry.abc import Listing, Registry
from ftt_hub.registry.choose import choose_registry
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import Ref, parse_ref


def adapter_folder(
    text: PathLike, *, revision: str | None = None, registry: PathLike | None = None
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
    text: PathLike, *, revision: str | None = None, registry: PathLike | None = None
) -> Adapter:
    """Open an adapter by folder or reference.

    Raises:
        RefError: It names nothing.
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    folder, pinned = adapter_folder(text, revision=revision, registry=registry)
    return open_folder(str(text), folder, pinned)


class HasAdapter(Protocol):
    """Something that holds an opened adapter, such as a `TransferAdapter`."""

    @property
    def opened(self) -> Adapter:
        """The adapter."""


AdapterLike = PathLike | HasAdapter
"""An adapter as users name one: its folder, its reference, or an opened one."""


def as_opened(
    adapter: AdapterLike, *, revision: str | None = None, registry: PathLike | None = None
) -> Adapter:
    """The opened adapter; a folder or reference is opened, by `open_adapter`."""
    if isinstance(adapter, str | Path):
        return open_adapter(adapter, revision=revision, registry=registry)
    return adapter.opened


@contextmanager
def borrowed(
    adapter: AdapterLike, *, revision: str | None = None, registry: PathLike | None = None
) -> Iterator[Adapter]:
    """As `as_opened`, and closed at the end of the block, unless the caller opened it himself."""
    opened = as_opened(adapter, revision=revision, registry=registry)
    try:
        yield opened
    finally:
        if isinstance(adapter, str | Path):
            opened.close()


def adapter_headers(
    text: PathLike, *, revision: str | None = None, registry: PathLike | None = None
) -> AdapterHeaders:
    """What is known of an adapter without its frames; of one on the Hub by ranged reads alone.

    Raises:
        RefError: It names nothing.
        IntegrityError: It is damaged.
        UnsupportedError: It was made for a newer format.
    """
    ref = parse_ref(text, revision=revision)
    if ref.folder is None:
        return replace(choose_registry(registry).headers(ref), label=str(text))
    with open_adapter(text, revision=revision) as opened:
        return opened.headers


def listed_headers(registry: Registry, listing: Listing) -> AdapterHeaders:
    """What is known of a listed adapter without its frames; its manifest is not read again.

    Raises:
        IntegrityError: It is damaged.
        RegistryError: The registry refuses or does not answer.
    """
    if listing.pinned is None:
        return registry.headers(Ref(listing.name, listing.revision))
    return replace(
        registry.headers(Ref(listing.name, listing.pinned), listing.config), label=listing.ref
    )


def registered_name(text: str) -> Ref:
    """A reference to an adapter in a registry.

    Raises:
        RefError: It is a folder, or malformed.
    """
    ref = parse_ref(text)
    if ref.name is None:
        raise RefError(
            "a folder has no versions", where=text, expected="namespace/name in a registry"
        )
    return ref
