"""A registry in a folder: no server, no account; it works on a shared or read-only disk.

Layout, for every ``namespace/name``::

    content/<digest>/      adapter folders by content digest, never changed
    refs/main, refs/v1.0.0 text files that name a digest

A folder appears by rename, then a ref by rename under a lock: readers see either nothing or all.
"""

from __future__ import annotations

import re
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ftt_hub.config import AdapterConfig, read_config
from ftt_hub.errors import FttError, IntegrityError, RefError, RegistryError, VersionExistsError
from ftt_hub.refs import Ref, is_repository_name, version_tag
from ftt_hub.registry.abc import Listing, Publication
from ftt_hub.staging import write_atomic, writing

_DIGEST = re.compile(r"^[0-9a-f]{64}$")
LOCK_SECONDS = 60


def version_key(tag: str) -> tuple[int, ...]:
    """Sorts version tags by number: v1.10.0 after v1.9.0."""
    return tuple(int(n) for n in tag.removeprefix("v").split("."))


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
        with writing(home):
            (home / "refs").mkdir(parents=True, exist_ok=True)
            lock = FileLock(home / "refs" / ".lock", timeout=LOCK_SECONDS)
            try:
                lock.acquire()
            except Timeout as error:
                raise RegistryError(
                    "another publisher holds the lock", where=home, hint="Try again in a minute."
                ) from error
        try:
            yield
        finally:
            lock.release()

    def publish(
        self, folder: Path, name: str, *, version: str | None = None, private: bool = False
    ) -> Publication:
        """See `Registry.publish`; `private` has no meaning here and is refused."""
        if private:
            raise RegistryError(
                "a folder has no private adapters",
                where=self.root,
                hint="Use the folder's permissions instead of --private.",
            )
        home, config = self._home(name), read_config(folder)
        digest = config.content_digest.removeprefix("sha256:")
        tag = None if version is None else version_tag(version)
        with self._locked(home):
            refs = self._refs(home)
            if tag is not None and refs.get(tag, digest) != digest:
                raise VersionExistsError(
                    "this version is published with other content",
                    where=f"{name}@{tag}",
                    expected=f"digest {refs[tag][:12]}",
                    found=f"digest {digest[:12]}",
                    hint="Published versions never change: choose a higher version.",
                )
            moved = [ref for ref in _refs_to_move(refs, tag) if refs.get(ref) != digest]
            if moved:
                self._store(folder, home / "content" / digest, config)
            for ref in moved:
                write_atomic(home / "refs" / ref, f"{digest}\n".encode())
        return Publication(f"{name}@{tag or digest}", bool(moved), str(home / "content" / digest))

    def _store(self, folder: Path, place: Path, config: AdapterConfig) -> None:
        if place.is_dir():
            return
        partial = place.with_name(f".{place.name[:16]}.{uuid.uuid4().hex[:8]}.partial")
        with writing(place):
            try:
                partial.mkdir(parents=True)
                for filename in (*config.files, "adapter_config.json", "README.md"):
                    if (folder / filename).is_file():
                        shutil.copyfile(folder / filename, partial / filename)
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

    def listings(self) -> Iterator[Listing]:
        """See `Registry.listings`."""
        for name in self._names():
            home = self._home(name)
            refs = self._refs(home)
            versions = sorted((r for r in refs if r != "main"), key=_safe_key, reverse=True)
            if not refs:
                continue
            revision = versions[0] if versions else "main"
            try:
                folder, _ = self.fetch(Ref(name=name, revision=revision))
                config = read_config(folder)
            except FttError as error:
                warnings.warn(f"left out {name}: {error}", stacklevel=2)
                continue
            modified = (home / "refs" / revision).stat().st_mtime
            updated = datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds")
            yield Listing(name, revision, tuple(versions), config, updated)


def _refs_to_move(refs: dict[str, str], tag: str | None) -> list[str]:
    """The version first, then main, unless a higher version holds it."""
    if tag is None:
        return ["main"]
    if tag in refs:
        return [tag]
    newest = max((_safe_key(ref) for ref in refs), default=(-1,))
    return [tag, "main"] if version_key(tag) > newest else [tag]


def _safe_key(tag: str) -> tuple[int, ...]:
    try:
        return version_key(tag)
    except ValueError:
        return (-1,)
