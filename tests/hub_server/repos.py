"""Repositories: commits, branches, tags, pull requests, and how a revision is resolved."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from . import cards
from .blobs import Blob
from .errors import EntryNotFoundError, RevisionNotFoundError

_SHA = re.compile(r"[0-9a-f]{7,40}")


class Edit(NamedTuple):
    """One change of a commit: a new content, or None to delete; a folder ends with a slash."""

    path: str
    blob: Blob | None


@dataclass(frozen=True, eq=False)
class Commit:
    """A snapshot of all files, and where it came from."""

    sha: str
    parent: str | None
    tree: Mapping[str, Blob]
    title: str
    description: str
    author: str
    date: datetime

    @cached_property
    def card(self) -> Mapping[str, object]:
        """The front matter of this commit's `README.md`."""
        readme = self.tree.get("README.md")
        return cards.read(readme.read()) if readme else {}

    @cached_property
    def tags(self) -> list[str]:
        """The tags that the Hub shows for this commit."""
        return cards.tags(self.card, self.tree)


class Repo:
    """One model repo. Its methods are called with the hub's lock held."""

    def __init__(
        self, repo_id: str, *, private: bool, gated: str | bool, created: datetime
    ) -> None:
        self.id = repo_id
        self.private = private
        self.gated = gated
        self.created = created
        self.likes = 0
        self.downloads = 0
        self.admitted: set[str] = set()
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.pulls: dict[str, str] = {}

    @property
    def namespace(self) -> str:
        """The user or organisation that owns the repo."""
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        """The newest commit of `main`."""
        return self.commits[self.branches["main"]]

    def refs(self) -> dict[str, str]:
        """Return all refs with their full names and the commits they point to."""
        return {
            **{f"refs/heads/{name}": sha for name, sha in self.branches.items()},
            **{f"refs/tags/{name}": sha for name, sha in self.tags.items()},
            **{f"refs/pr/{number}": sha for number, sha in self.pulls.items()},
        }

    def resolve(self, revision: str) -> Commit:
        """Return the commit of a branch, tag, full ref, or commit sha of 7 to 40 digits.

        Raises:
            RevisionNotFoundError: if there is no such revision.
        """
        refs = self.refs()
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in refs:
                return self.commits[refs[name]]
        if _SHA.fullmatch(revision):
            for sha, commit in self.commits.items():
                if sha.startswith(revision):
                    return commit
        raise RevisionNotFoundError(revision)

    def move(self, ref: str, sha: str) -> None:
        """Point a branch or a `refs/pr/N` to a commit."""
        if ref.startswith("refs/pr/"):
            self.pulls[ref.removeprefix("refs/pr/")] = sha
        else:
            self.branches[ref.removeprefix("refs/heads/")] = sha

    def is_writable_ref(self, ref: str) -> bool:
        """Return whether commits can be made on the ref: on branches and pull requests."""
        if ref.startswith("refs/pr/"):
            return ref.removeprefix("refs/pr/") in self.pulls
        return ref.removeprefix("refs/heads/") in self.branches

    def history(self, commit: Commit) -> Iterator[Commit]:
        """Yield the commit and its ancestors, newest first."""
        yield commit
        while commit.parent is not None:
            commit = self.commits[commit.parent]
            yield commit

    def last_change(self, commit: Commit, path: str) -> Commit:
        """Return the newest ancestor in which the file or folder got its present content."""
        now = entry_oid(commit.tree, path)
        last = commit
        for ancestor in self.history(commit):
            if entry_oid(ancestor.tree, path) != now:
                break
            last = ancestor
        return last


def entry_oid(tree: Mapping[str, Blob], path: str) -> str | None:
    """Return a file's git id, or for a folder a hash over all it holds; None if absent."""
    if path in tree:
        return tree[path].oid
    inside = [f"{name} {blob.oid}" for name, blob in sorted(tree.items()) if _in(name, path)]
    return _sha1("\n".join(inside)) if inside else None


def edited(tree: Mapping[str, Blob], edits: list[Edit]) -> dict[str, Blob]:
    """Return a copy of the tree with the edits made in their order.

    Raises:
        EntryNotFoundError: if a file or folder to delete is not there.
    """
    result = dict(tree)
    for path, blob in edits:
        if blob is not None:
            result[path] = blob
            continue
        gone = [name for name in result if name == path or (path[-1:] == "/" and _in(name, path))]
        if not gone:
            raise EntryNotFoundError(f"A file with this name doesn't exist: {path}")
        for name in gone:
            del result[name]
    return result


def commit_sha(tree: Mapping[str, Blob], *identity: object) -> str:
    """Return a commit id over the tree and whatever else tells commits apart."""
    lines = [f"{name} {blob.oid}" for name, blob in sorted(tree.items())]
    return _sha1("\n".join([*lines, *map(repr, identity)]))


def _in(name: str, folder: str) -> bool:
    return name.startswith(folder.rstrip("/") + "/")


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
