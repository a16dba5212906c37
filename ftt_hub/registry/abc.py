"""The contract of a registry; `tests/registry_contract.py` runs on every one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ftt_hub.config import AdapterConfig
from ftt_hub.refs import Ref


@dataclass(frozen=True)
class Publication:
    """What a publication came to.

    Attributes:
        ref: The pinned reference, ``namespace/name@v1.0.0`` or ``…@<commit>``.
        changed: False when the same content was there already.
        location: Where a person can look at it: an address or a folder.
    """

    ref: str
    changed: bool
    location: str


@dataclass(frozen=True)
class Listing:
    """One adapter of a registry.

    Attributes:
        name: ``namespace/name``.
        revision: The latest version's tag, else the branch.
        versions: All version tags, newest first.
        config: Its manifest at that revision.
        updated: When that revision was published, ISO 8601, if known.
    """

    name: str
    revision: str
    versions: tuple[str, ...]
    config: AdapterConfig
    updated: str | None


class Registry(Protocol):
    """A place to publish adapters, fetch them and list them."""

    def publish(
        self, folder: Path, name: str, *, version: str | None, private: bool
    ) -> Publication:
        """Publish a folder under a name; atomic, and immutable once versioned.

        Raises:
            VersionExistsError: The version exists with other content.
            RegistryError: The registry refuses.
            OutputError: A local folder cannot be written.
        """

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        """The adapter's folder, to be read only, and its pinned revision.

        Raises:
            RefError: No such adapter or revision.
            RegistryError: The registry refuses.
        """

    def listings(self) -> Iterator[Listing]:
        """All adapters at their latest version; damaged ones are left out with a warning."""
