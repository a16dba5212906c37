"""A registry from outside the package: a class and one line in the table, and all commands know it.

This is the checklist of docs/architecture.md as a test: it fails while anything but the protocol is
asked of a registry.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from hub_fixtures import adapters, first, second
from models import TinyFamily
from registry_contract import NAME, RegistryContract

import ftt_hub
from ftt_hub.artifact.adapter import AdapterHeaders
from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    Deprecation,
    History,
    evaluated_card,
    published_card,
    sorted_versions,
    split_card,
)
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig, parse_config, read_config
from ftt_hub.artifact.reader import CONTAINER_NAME
from ftt_hub.artifact.remote import remote_entries
from ftt_hub.errors import FttError, RefError, RegistryError
from ftt_hub.registry import choose
from ftt_hub.registry.abc import (
    Listing,
    Notes,
    PlannedFile,
    Preview,
    Publication,
    Record,
    Registry,
    Summary,
    Version,
)
from ftt_hub.registry.local_rules import bare, check_version, refs_to_move
from ftt_hub.registry.open import listed_headers
from ftt_hub.registry.verified import record_path, with_line
from ftt_hub.support.refs import Ref, is_repository_name, version_tag

__all__ = ["adapters", "first", "second"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@dataclass
class Shelf:
    """All revisions of one adapter: digest → file name → bytes."""

    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    deprecated: dict[str, Deprecation] = field(default_factory=dict)


DISKS: dict[str, dict[str, Shelf]] = {}


class MemoryRegistry:
    """Adapters in memory, by the name of a disk; counts what is read of containers."""

    def __init__(self, location: str, cache: Path = Path()) -> None:
        self.shelves = DISKS.setdefault(location, {})
        self.cache = cache
        self.lock = threading.Lock()
        self.ranges: list[tuple[str, int, int]] = []

    def shelf(self, name: str | None) -> Shelf:
        if name is None or not is_repository_name(name):
            raise RefError("not an adapter name", where=name, expected="namespace/name")
        if name not in self.shelves:
            raise RefError("no such adapter", where=name)
        return self.shelves[name]

    def publish(
        self,
        folder: Path,
        name: str,
        *,
        version: str | None = None,
        private: bool = False,
        create_pr: bool = False,
    ) -> Publication:
        if private or create_pr:
            raise RegistryError("memory is public", where=name)
        if not is_repository_name(name):
            raise RefError("not an adapter name", where=name, expected="namespace/name")
        config, tag = read_config(folder), None if version is None else version_tag(version)
        digest = bare(config)
        with self.lock:
            shelf = self.shelves.setdefault(name, Shelf())
            check_version(name, tag, shelf.refs, digest)
            moved = [r for r in refs_to_move(shelf.refs, tag) if shelf.refs.get(r) != digest]
            card = folder / CARD_NAME
            files = {n: (folder / n).read_bytes() for n in (*config.files, CONFIG_NAME)}
            files[CARD_NAME] = published_card(card.read_bytes(), name, History())
            shelf.contents.setdefault(digest, files)
            shelf.refs.update(dict.fromkeys(moved, digest))
        return Publication(f"{name}@{tag or digest}", bool(moved), f"memory of {name}")

    def preview(self, folder: Path, name: str, *, version: str | None = None) -> Preview:
        config, tag = read_config(folder), None if version is None else version_tag(version)
        digest, shelf = bare(config), self.shelves.get(name, Shelf())
        check_version(name, tag, shelf.refs, digest)
        changed = any(shelf.refs.get(r) != digest for r in refs_to_move(shelf.refs, tag))
        files = tuple(
            PlannedFile(n, (folder / n).stat().st_size, digest in shelf.contents)
            for n in (*config.files, CONFIG_NAME, CARD_NAME)
        )
        return Preview(f"{name}@{tag or digest}", changed, files)

    def resolve(self, ref: Ref) -> tuple[str, dict[str, bytes]]:
        shelf, revision = self.shelf(ref.name), ref.revision or "main"
        digest = shelf.refs.get(revision, revision)
        if digest not in shelf.contents:
            raise RefError("no such revision", where=ref)
        if revision in shelf.deprecated:
            warnings.warn(shelf.deprecated[revision].notice(str(ref)), stacklevel=2)
        return digest, shelf.contents[digest]

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        digest, files = self.resolve(ref)
        folder = self.cache / digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        tagged = ref.revision in self.shelf(ref.name).refs and ref.revision != "main"
        return folder, str(ref.revision) if tagged else digest

    def headers(self, ref: Ref, config: AdapterConfig | None = None) -> AdapterHeaders:
        digest, files = self.resolve(ref)
        known = config or parse_config(files[CONFIG_NAME], str(ref))

        def read(name: str, start: int, length: int) -> bytes:
            self.ranges.append((name, start, length))
            return files[name][start : start + length]

        def file(name: str) -> Path | None:
            return self.fetch(ref)[0] / name if name in known.files else None

        return AdapterHeaders(str(ref), digest, known, remote_entries(known, read, str(ref)), file)

    def versions(self, name: str) -> tuple[Version, ...]:
        shelf = self.shelf(name)
        return tuple(
            Version(tag, shelf.refs[tag], "2026-01-01", shelf.deprecated.get(tag))
            for tag in sorted_versions(shelf.refs)
        )

    def deprecate(self, name: str, tag: str, deprecation: Deprecation) -> bool:
        shelf = self.shelf(name)
        if tag not in shelf.refs:
            raise RefError("no such version", where=f"{name}@{tag}")
        changed = shelf.deprecated.get(tag) != deprecation
        shelf.deprecated[tag] = deprecation
        return changed

    def add_results(self, name: str, results: Sequence[EvaluationResult]) -> bool:
        files = self.resolve(Ref(name))[1]
        if set(results) <= set(results_from(split_card(files[CARD_NAME])[0])):
            return False
        files[CARD_NAME] = evaluated_card(files[CARD_NAME], name, results)
        return True

    def annotate(self, ref: Ref, record: Record) -> str:
        files = self.resolve(ref)[1]
        files[record_path(record.key)] = record.data
        files[CARD_NAME] = with_line(files[CARD_NAME], record)
        return str(ref)

    def record(self, listing: Listing, key: str) -> bytes | None:
        return self.resolve(Ref(listing.name, listing.pinned))[1].get(record_path(key))

    def summaries(self) -> Iterator[Summary]:
        for name, shelf in sorted(self.shelves.items()):
            history = History(sorted_versions(shelf.refs), shelf.deprecated)
            yield Summary(name, shelf.refs["main"], None, history)

    def listing(self, summary: Summary) -> Listing | None:
        history = summary.history or History()
        revision = history.shown or "main"
        digest = self.shelf(summary.name).refs[revision]
        files = self.shelf(summary.name).contents[digest]
        try:
            config = parse_config(files[CONFIG_NAME], summary.name)
        except FttError as error:
            warnings.warn(f"left out {summary.name}: {error}", stacklevel=2)
            return None
        return Listing(
            summary.name,
            revision,
            history.versions,
            config,
            None,
            deprecated=history.deprecated.get(revision),
            pinned=digest,
        )

    def notes(self, listing: Listing) -> Notes:
        return Notes(self.resolve(Ref(listing.name, listing.pinned))[1].get(CARD_NAME))

    def listings(self) -> Iterator[Listing]:
        found = (self.listing(summary) for summary in self.summaries())
        yield from (listing for listing in found if listing is not None)


@pytest.fixture(autouse=True)
def _empty_disks() -> Iterator[None]:
    yield
    DISKS.clear()


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Registry:
        return MemoryRegistry("disk", tmp_path)

    def container_bytes_read(self, registry: Registry) -> int:
        assert isinstance(registry, MemoryRegistry)
        return sum(length for name, _, length in registry.ranges if name == CONTAINER_NAME)

    def plant_damaged(self, registry: Registry, name: str, first: Path) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.publish(first, name)
        [files] = registry.shelves[name].contents.values()
        files[CONFIG_NAME] = files[CONFIG_NAME].replace(b'"num_slots": ', b'"num_slots": 7')


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(choose.REGISTRIES, "memory", f"{__name__}:MemoryRegistry")
    monkeypatch.chdir(tmp_path)


def run(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("known")
def test_python_and_the_command_line_reach_it_by_its_scheme(
    first: Path, family: TinyFamily
) -> None:
    ftt_hub.push(first, NAME, version="1.0.0", registry="memory:a")
    assert [v.tag for v in ftt_hub.versions(NAME, registry="memory:a")] == ["v1.0.0"]
    assert run("browse", "--registry", "memory:a", "--target", family.target).count(NAME) == 1
    assert "org/base-v1-tr" in run("info", NAME, "--registry", "memory:a")
    run("verify", NAME, "--target", family.target, "--registry", "memory:a")
    run("apply", NAME, "--target", family.target, "--out", "merged", "--registry", "memory:a")
    assert Path("merged", "config.json").is_file()
    [entry] = ftt_hub.browse(target=family.target, registry="memory:a")
    assert entry.compatibility is not None
    assert not list(ftt_hub.browse(registry="memory:b"))


@pytest.mark.usefixtures("known")
def test_headers_of_a_listing_read_neither_manifest_nor_frames(first: Path) -> None:
    registry = choose.choose_registry("memory:a")
    assert isinstance(registry, MemoryRegistry)
    registry.publish(first, NAME)
    [listing] = registry.listings()
    headers = listed_headers(registry, listing)
    assert headers.label == f"{NAME}@main"
    assert {name for name, _, _ in registry.ranges} == {CONTAINER_NAME}


def test_a_text_with_another_scheme_is_a_folder(tmp_path: Path) -> None:
    assert choose.is_folder(f"{tmp_path}/hf")
    assert choose.is_folder("memory:a")
    assert not choose.is_folder("hf")


def test_the_hub_takes_no_location() -> None:
    with pytest.raises(RegistryError, match="named without a location"):
        choose.choose_registry("hf:somewhere")
