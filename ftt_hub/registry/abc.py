"""The contract of a registry; `tests/registry_contract.py` runs on every one.

Three small protocols: a `Store` takes and gives adapters, a `Ledger` knows their versions, a
`Catalogue` lists them. A registry is all three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from ftt_hub.artifact.card_editing import Deprecation, History
from ftt_hub.artifact.card_results import EvaluationResult
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.registry.verified import Record
from ftt_hub.support.refs import Ref


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
class PlannedFile:
    """A file that a publication would send; `stored`: the registry has its content already."""

    name: str
    size: int
    stored: bool


@dataclass(frozen=True)
class Preview:
    """What a publication would do.

    Attributes:
        ref: The reference it would get.
        changed: False when the same content is there already.
        files: What it consists of.
    """

    ref: str
    changed: bool
    files: tuple[PlannedFile, ...]

    @property
    def sent(self) -> int:
        """Bytes that would be sent."""
        return sum(file.size for file in self.files if not file.stored) if self.changed else 0


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        tag: ``v1.2.0``.
        revision: The commit or digest it is pinned to.
        published: ISO 8601, if known.
        deprecated: Why it should no longer be used, ``None`` when it may.
    """

    tag: str
    revision: str
    published: str | None
    deprecated: Deprecation | None

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, as the command line prints it."""
        return {
            "version": self.tag,
            "revision": self.revision,
            "published": self.published,
            "deprecated": None if self.deprecated is None else asdict(self.deprecated),
        }


@dataclass(frozen=True)
class Facts:
    """What adapters are searched by, from a card or a manifest."""

    languages: tuple[str, ...]
    source_base: str
    datasets: tuple[str, ...]
    license: str | None


@dataclass(frozen=True)
class Summary:
    """What a registry tells of an adapter without opening its manifest.

    Attributes:
        name: ``namespace/name``.
        revision: What `main` is pinned to, if told.
        facts: ``None`` when only the manifest tells.
        history: Versions and deprecations, ``None`` when not told.
        updated: ISO 8601, if known.
        downloads: If the registry counts them.
        likes: If the registry counts them.
        evaluations: What the card says of evaluations, ``None`` when not told.
    """

    name: str
    revision: str | None = None
    facts: Facts | None = None
    history: History | None = None
    updated: str | None = None
    downloads: int | None = None
    likes: int | None = None
    evaluations: tuple[EvaluationResult, ...] | None = None


@dataclass(frozen=True)
class Listing:
    """One adapter of a registry.

    Attributes:
        name: ``namespace/name``.
        revision: The newest version that is not deprecated, else the newest, else the branch.
        versions: All version tags, newest first.
        config: Its manifest at that revision.
        updated: When that revision was published, ISO 8601, if known.
        downloads: If the registry counts them.
        likes: If the registry counts them.
        deprecated: Why that revision should no longer be used, ``None`` when it may.
        pinned: Commit or digest of that revision.
        evaluations: What the card says of evaluations.
    """

    name: str
    revision: str
    versions: tuple[str, ...]
    config: AdapterConfig
    updated: str | None
    downloads: int | None = None
    likes: int | None = None
    deprecated: Deprecation | None = None
    pinned: str | None = None
    evaluations: tuple[EvaluationResult, ...] = ()


@dataclass(frozen=True)
class Notes:
    """What lies beside an adapter's content and may gain lines after publication.

    Attributes:
        card: The model card, ``None`` when there is none.
        verified: Target's commit → the record of a verdict; unchecked bytes, of bounded size.
    """

    card: bytes | None
    verified: Mapping[str, bytes] = field(default_factory=dict)


MAX_RECORDS = 20
"""Verdicts that are shown of one adapter."""


def facts_of(config: AdapterConfig) -> Facts:
    """What an adapter is searched by, from its manifest."""
    return Facts(
        tuple(config.languages), config.source_base.id, tuple(config.datasets), config.license
    )


class Store(Protocol):
    """Takes adapters and gives them back."""

    def publish(
        self,
        folder: Path,
        name: str,
        *,
        version: str | None = None,
        private: bool = False,
        create_pr: bool = False,
    ) -> Publication:
        """Publish a folder under a name; atomic, and immutable once versioned.

        Raises:
            VersionExistsError: The version exists with other content.
            RegistryError: The registry refuses.
            OutputError: A local folder cannot be written.
        """

    def preview(self, folder: Path, name: str, *, version: str | None = None) -> Preview:
        """What `publish` would do; changes nothing and needs no permission to write.

        Raises:
            VersionExistsError: The version exists with other content.
        """

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        """The adapter's folder, to be read only, and its pinned revision.

        Warns when the revision is deprecated.

        Raises:
            RefError: No such adapter or revision.
            RegistryError: The registry refuses.
        """


class Ledger(Protocol):
    """Knows the versions of an adapter."""

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions, newest first.

        Raises:
            RefError: No such adapter.
        """

    def deprecate(self, name: str, tag: str, deprecation: Deprecation) -> bool:
        """Mark a version; it still loads, with a warning. False: it was marked so already.

        Raises:
            RefError: No such adapter or version.
            RegistryError: The registry refuses.
        """

    def add_results(self, name: str, results: Sequence[EvaluationResult]) -> bool:
        """Add evaluation results to the card on main; False: it has them already.

        Raises:
            RefError: No such adapter.
            RegistryError: The registry refuses.
        """


class Catalogue(Protocol):
    """Lists adapters."""

    def summaries(self) -> Iterator[Summary]:
        """All adapters, as cheaply as the registry can; some may turn out to be none."""

    def listing(self, summary: Summary) -> Listing | None:
        """An adapter with its manifest.

        ``None`` when it is none; a damaged one is left out with a warning.
        """

    def notes(self, listing: Listing) -> Notes:
        """Card and verdicts of a listed adapter.

        Raises:
            HubError: The Hub does not answer.
        """


class Records(Protocol):
    """Holds verdicts beside the adapters they are about."""

    def annotate(self, ref: Ref, record: Record) -> str:
        """Add a verdict and its line in the card; returns where it lies.

        Raises:
            RefError: No such adapter or revision.
            RegistryError: The registry refuses.
        """

    def record(self, listing: Listing, key: str) -> bytes | None:
        """The verdict for a target's commit, ``None`` when there is none."""


class Registry(Store, Ledger, Catalogue, Records, Protocol):
    """A place to publish adapters, fetch them and list them."""

    def listings(self) -> Iterator[Listing]:
        """All adapters with their manifests, deprecated ones too."""
