"""A registry in a folder: no server, no account; it works on a shared or read-only disk.

Layout, for every ``namespace/name``::

    content/<digest>/      adapter folders by content digest; only the card in it may gain results
    refs/main, refs/v1.0.0 text files that name a digest
    deprecated.json        versions that should no longer be used, and why

A folder appears by rename, then a ref by rename under a lock: readers see either nothing or all.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    MAX_CARD_BYTES,
    Deprecation,
    History,
    deprecations_from,
    evaluated_card,
    published_card,
    sorted_versions,
    split_card,
)
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig, read_config
from ftt_hub.errors import FttError, IntegrityError, RefError, RegistryError
from ftt_hub.registry.abc import (
    MAX_RECORDS,
    Listing,
    Notes,
    PlannedFile,
    Preview,
    Publication,
    Summary,
    Version,
)
from ftt_hub.registry.local_rules import (
    bare,
    bytes_of,
    check_version,
    modified,
    refs_to_move,
)
from ftt_hub.registry.verified import (
    FOLDER,
    MAX_RECORD_BYTES,
    Record,
    add_to_folder,
    read_from_folder,
)
from ftt_hub.support.refs import Ref, is_repository_name, version_tag
from ftt_hub.support.staging import locked, write_atomic, writing

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
LOCK_SECONDS = 60
DEPRECATED_NAME = "deprecated.json"


class LocalRegistry:
    """Adapters in a local folder.

    Args:
        root: The registry's folder; made on the first publication.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()

    def _home(self, name: str) -> Path:
        if not is_repository_name(name):
            raise RefError("not an adapter name", where=name[:200], expected="namespace/name")
        return self.root.joinpath(*name.split("/"))

    @contextmanager
    def _locked(self, home: Path) -> Iterator[None]:
        busy = RegistryError(
            "another publisher holds the lock", where=home, hint="Try again in a minute."
        )
        with locked(home / "refs" / ".lock", busy, seconds=LOCK_SECONDS):
            yield

    def publish(
        self,
        folder: Path,
        name: str,
        *,
        version: str | None = None,
        private: bool = False,
        create_pr: bool = False,
    ) -> Publication:
        """See `Store.publish`; `private` and `create_pr` have no meaning here and are refused."""
        if private or create_pr:
            raise RegistryError(
                "a folder has no private adapters and no pull requests",
                where=self.root,
                hint="Use the folder's permissions instead of --private; leave out --create-pr.",
            )
        home, config = self._home(name), read_config(folder)
        digest = bare(config)
        tag = None if version is None else version_tag(version)
        with self._locked(home):
            refs = self._refs(home)
            check_version(name, tag, refs, digest)
            moved = [ref for ref in refs_to_move(refs, tag) if refs.get(ref) != digest]
            if moved:
                self._store(folder, home / "content" / digest, config, name)
            for ref in moved:
                write_atomic(home / "refs" / ref, f"{digest}\n".encode())
        return Publication(f"{name}@{tag or digest}", bool(moved), str(home / "content" / digest))

    def preview(self, folder: Path, name: str, *, version: str | None = None) -> Preview:
        """See `Store.preview`."""
        home, config = self._home(name), read_config(folder)
        digest, refs = bare(config), self._refs(home)
        tag = None if version is None else version_tag(version)
        check_version(name, tag, refs, digest)
        changed = any(refs.get(ref) != digest for ref in refs_to_move(refs, tag))
        stored = (home / "content" / digest).is_dir()
        files = tuple(
            PlannedFile(n, (folder / n).stat().st_size, stored)
            for n in (*config.files, CONFIG_NAME, CARD_NAME)
            if (folder / n).is_file()
        )
        return Preview(f"{name}@{tag or digest}", changed, files)

    def _store(self, folder: Path, place: Path, config: AdapterConfig, name: str) -> None:
        if place.is_dir():
            return
        partial = place.with_name(f".{place.name[:16]}.{uuid.uuid4().hex[:8]}.partial")
        with writing(place):
            try:
                partial.mkdir(parents=True)
                for filename in (*config.files, CONFIG_NAME):
                    shutil.copyfile(folder / filename, partial / filename)
                card = folder / CARD_NAME
                data = card.read_bytes() if card.is_file() else None
                (partial / CARD_NAME).write_bytes(published_card(data, name, History()))
                partial.replace(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def _refs(self, home: Path) -> dict[str, str]:
        """Ref → digest; files that are not refs are left out."""
        try:
            paths = [p for p in (home / "refs").iterdir() if not p.name.startswith(".")]
            texts = {p.name: p.read_text(encoding="ascii", errors="replace").strip() for p in paths}
        except OSError:
            return {}
        return {ref: text for ref, text in texts.items() if _DIGEST.match(text)}

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        """See `Registry.fetch`; a revision is a version, ``main``, or a digest's beginning."""
        home = self._home(ref.name or "")
        refs = self._refs(home)
        if not refs:
            raise RefError(
                "no such adapter",
                where=ref,
                found=f"nothing of that name in {self.root}",
                hint="List what there is with ftt-hub browse.",
            )
        revision = ref.revision or "main"
        digest = refs.get(revision) or self._by_digest(refs, revision)
        if digest is None:
            raise RefError(
                "no such revision", where=ref, expected=", ".join(sorted(refs)), found=revision
            )
        place = home / "content" / digest
        if not place.is_dir():
            raise IntegrityError("the registry lost this content", where=place)
        self._warn(home, ref, revision, refs)
        return place, revision if revision in refs and revision != "main" else digest

    @staticmethod
    def _by_digest(refs: dict[str, str], revision: str) -> str | None:
        if len(revision) < 8:
            return None
        found = {digest for digest in refs.values() if digest.startswith(revision)}
        return found.pop() if len(found) == 1 else None

    def _names(self) -> Iterator[str]:
        if not self.root.is_dir():
            return
        for refs in sorted(self.root.glob("*/*/refs")):
            name = f"{refs.parent.parent.name}/{refs.parent.name}"
            if is_repository_name(name):
                yield name

    def _warn(self, home: Path, ref: Ref, revision: str, refs: dict[str, str]) -> None:
        tags = sorted_versions(tuple(t for t, d in refs.items() if d == refs.get(revision)))
        marked = self._deprecations(home)
        tag = revision if revision in tags else next(iter(tags), None)
        if tag in marked:
            warnings.warn(marked[tag].notice(str(ref)), stacklevel=4)

    @staticmethod
    def _deprecations(home: Path) -> dict[str, Deprecation]:
        try:
            return deprecations_from(json.loads((home / DEPRECATED_NAME).read_bytes()))
        except (OSError, ValueError, RecursionError):
            return {}

    def versions(self, name: str) -> tuple[Version, ...]:
        """See `Ledger.versions`."""
        home = self._home(name)
        refs, marked = self._refs(home), self._deprecations(home)
        if not refs:
            raise RefError("no such adapter", where=name, found=f"nothing of it in {self.root}")
        return tuple(
            Version(tag, refs[tag], modified(home / "refs" / tag), marked.get(tag))
            for tag in sorted_versions(refs)
        )

    def deprecate(self, name: str, tag: str, deprecation: Deprecation) -> bool:
        """See `Ledger.deprecate`."""
        home = self._home(name)
        if tag not in {version.tag for version in self.versions(name)}:
            raise RefError("no such version", where=f"{name}@{tag}")
        with self._locked(home):
            marked = self._deprecations(home)
            if marked.get(tag) == deprecation:
                return False
            value = History((), {**marked, tag: deprecation}).to_json()["deprecated"]
            text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
            write_atomic(home / DEPRECATED_NAME, f"{text}\n".encode())
        return True

    def add_results(self, name: str, results: Sequence[EvaluationResult]) -> bool:
        """See `Ledger.add_results`."""
        home = self._home(name)
        if not self._refs(home):
            raise RefError("no such adapter", where=name, found=f"nothing of it in {self.root}")
        with self._locked(home):
            card = home / "content" / self._refs(home).get("main", "") / CARD_NAME
            data = bytes_of(card, MAX_CARD_BYTES)
            if set(results) <= set(results_from(split_card(data or b"")[0])):
                return False
            write_atomic(card, evaluated_card(data, name, results))
        return True

    def annotate(self, ref: Ref, record: Record) -> str:
        """See `Records.annotate`."""
        place, _ = self.fetch(ref)
        with self._locked(self._home(ref.name or "")):
            return add_to_folder(place, record)

    def record(self, listing: Listing, key: str) -> bytes | None:
        """See `Records.record`."""
        place = self._home(listing.name) / "content" / (listing.pinned or "")
        return read_from_folder(place, key)

    def summaries(self) -> Iterator[Summary]:
        """See `Catalogue.summaries`."""
        for name in self._names():
            home = self._home(name)
            refs = self._refs(home)
            if refs:
                history = History(sorted_versions(refs), self._deprecations(home))
                updated = modified(home / "refs" / (history.shown or "main"))
                yield Summary(name, refs.get("main"), None, history, updated)

    def listing(self, summary: Summary) -> Listing | None:
        """See `Catalogue.listing`."""
        history = summary.history or History()
        revision = history.shown or "main"
        home = self._home(summary.name)
        digest = self._refs(home).get(revision, "")
        try:
            config = read_config(home / "content" / digest)
        except FttError as error:
            warnings.warn(f"left out {summary.name}: {error}", stacklevel=2)
            return None
        card = bytes_of(home / "content" / digest / CARD_NAME, MAX_CARD_BYTES)
        return Listing(
            summary.name, revision, history.versions, config, summary.updated,
            deprecated=history.deprecated.get(revision), pinned=digest,
            evaluations=results_from(split_card(card or b"")[0]),
        )  # fmt: skip

    def notes(self, listing: Listing) -> Notes:
        """See `Catalogue.notes`."""
        place = self._home(listing.name) / "content" / (listing.pinned or "")
        records = sorted((place / FOLDER).glob("*.json"))[:MAX_RECORDS]
        verified = {path.stem: bytes_of(path, MAX_RECORD_BYTES) or b"" for path in records}
        return Notes(bytes_of(place / CARD_NAME, MAX_CARD_BYTES), verified)

    def listings(self) -> Iterator[Listing]:
        """See `Registry.listings`."""
        found = (self.listing(summary) for summary in self.summaries())
        yield from (listing for listing in found if listing is not None)
