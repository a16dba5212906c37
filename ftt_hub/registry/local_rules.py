"""The files and rules of a registry in a folder: refs, digests, and what a publication moves."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from ftt_hub.artifact.card_editing import Deprecation, deprecations_from, sorted_versions
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.errors import VersionExistsError
from ftt_hub.support.refs import version_key

DEPRECATED_NAME = "deprecated.json"
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def bytes_of(path: Path, limit: int) -> bytes | None:
    """The beginning of a small file, ``None`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return None


def bare(config: AdapterConfig) -> str:
    """The digest's hex digits, which name the folder of a content."""
    return config.content_digest.removeprefix("sha256:")


def modified(path: Path) -> str | None:
    """When a file was written, ISO 8601."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except OSError:
        return None


def check_version(name: str, tag: str | None, refs: dict[str, str], digest: str) -> None:
    """Refuse a version that is published with other content.

    Raises:
        VersionExistsError: It is.
    """
    if tag is not None and refs.get(tag, digest) != digest:
        raise VersionExistsError(
            "this version is published with other content",
            where=f"{name}@{tag}",
            expected=f"digest {refs[tag][:12]}",
            found=f"digest {digest[:12]}",
            hint="Published versions never change: choose a higher version.",
        )


def refs_to_move(refs: dict[str, str], tag: str | None) -> list[str]:
    """The version first, then main, unless a higher version holds it."""
    if tag is None:
        return ["main"]
    if tag in refs:
        return [tag]
    newest = next(iter(sorted_versions(refs)), None)
    return [tag, "main"] if newest is None or version_key(tag) > version_key(newest) else [tag]


def refs_at(home: Path) -> dict[str, str]:
    """Ref → digest; files that are not refs are left out."""
    try:
        paths = [p for p in (home / "refs").iterdir() if not p.name.startswith(".")]
        texts = {p.name: p.read_text(encoding="ascii", errors="replace").strip() for p in paths}
    except OSError:
        return {}
    return {ref: text for ref, text in texts.items() if _DIGEST.match(text)}


def by_digest(refs: dict[str, str], revision: str) -> str | None:
    """The one digest that begins so; a beginning has at least eight digits."""
    if len(revision) < 8:
        return None
    digests = {digest for digest in refs.values() if digest.startswith(revision)}
    return digests.pop() if len(digests) == 1 else None


def deprecations_at(home: Path) -> dict[str, Deprecation]:
    """Version → why it should no longer be used; empty where that is damaged or absent."""
    try:
        return deprecations_from(json.loads((home / DEPRECATED_NAME).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
