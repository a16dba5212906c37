"""References to models and adapters: `namespace/name[@revision]` or a path, parsed once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.errors import RefError

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_REVISION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")
_VERSION = re.compile(r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})$")


@dataclass(frozen=True)
class Ref:
    """A parsed reference; exactly one of `name` and `folder` is set.

    Attributes:
        name: ``namespace/name`` in a registry.
        revision: Branch, tag or commit, if given.
        folder: A local folder.
    """

    name: str | None = None
    revision: str | None = None
    folder: Path | None = None

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        return f"{self.name}@{self.revision}" if self.revision else str(self.name)


def is_repository_name(text: str) -> bool:
    """Whether `text` is a `namespace/name` that is safe as two path components."""
    return _NAME.match(text) is not None and ".." not in text and not text.endswith(".")


def check_revision(revision: str) -> str:
    """The revision itself, when it is safe as a path component and in a URL.

    Raises:
        RefError: It is not.
    """
    if _REVISION.match(revision) is None or ".." in revision:
        raise RefError(
            "not a revision",
            where=revision[:80],
            expected="a branch, a tag such as v1.0.0, or a commit",
        )
    return revision


def version_tag(version: str) -> str:
    """The tag of a version: ``"1.2.0"`` or ``"v1.2.0"`` → ``"v1.2.0"``.

    Raises:
        RefError: Not a semantic version of three numbers.
    """
    bare = version.removeprefix("v")
    if _VERSION.match(bare) is None:
        raise RefError(
            "not a version", where=version[:80], expected="X.Y.Z with three numbers, e.g. 1.0.0"
        )
    return f"v{bare}"


def is_version_tag(text: object) -> bool:
    """Whether `text` is the tag of a version, such as ``"v1.2.0"``."""
    return isinstance(text, str) and text[:1] == "v" and _VERSION.match(text[1:]) is not None


def version_key(tag: str) -> tuple[int, ...]:
    """Sorts version tags by number: v1.10.0 after v1.9.0."""
    return tuple(int(n) for n in tag.removeprefix("v").split("."))


def parse_ref(text: str | Path, *, revision: str | None = None) -> Ref:
    """Parse a reference; an existing folder wins over a repository of the same name.

    Args:
        text: A path, or ``namespace/name`` with an optional ``@revision``.
        revision: Overrides a revision in `text`.

    Raises:
        RefError: Neither a folder nor a well-formed repository name.
    """
    path = Path(text).expanduser()
    if isinstance(text, Path) or path.is_dir():
        return Ref(folder=path)
    name, _, inline = text.partition("@")
    if not text.startswith((".", "/", "~")) and is_repository_name(name):
        chosen = revision or inline or None
        return Ref(name=name, revision=None if chosen is None else check_revision(chosen))
    raise RefError(
        "no such folder, and not a repository name",
        where=text[:200],
        expected="a folder, or namespace/name[@revision]",
        hint="Check the spelling.",
    )
