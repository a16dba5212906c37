"""The state behind the server: repos, accounts, stored contents and the rules of committing."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import attributes
from .accounts import Account, Accounts, check_sees
from .blobs import Blob, BlobStore
from .errors import (
    ConflictError,
    HubError,
    RepoMovedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    StaleParentError,
)
from .repos import Commit, Edit, Repo, commit_sha, edited


@dataclass
class Settings:
    """What a test may tune, also while the server runs.

    Attributes:
        lfs_threshold: bytes from which every file goes under LFS.
        multipart_threshold: bytes above which LFS objects are uploaded in parts.
        part_size: bytes of one part.
        page_size: most models in one page of a listing.
        ignore_filters: listings ignore `filter`, as poor Hub clones do.
        bare_listing: models have `tags=[]` and no card data, as with poor Hub clones.
    """

    lfs_threshold: int = 10 * 1024 * 1024
    multipart_threshold: int = 64 * 1024 * 1024
    part_size: int = 16 * 1024 * 1024
    page_size: int = 1000
    ignore_filters: bool = False
    bare_listing: bool = False


@dataclass(frozen=True)
class Message:
    """What a commit says about itself.

    Attributes:
        title: first line.
        description: the rest.
        author: a user's name.
        parent: sha (or its first digits) that the branch must still be at; None: any.
    """

    title: str
    description: str = ""
    author: str = "tester"
    parent: str | None = None


class Hub:
    """All repos. Safe to use from the tests' thread and the server's at once."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.settings = settings
        self.accounts = Accounts()
        self.store = BlobStore(root)
        self.lock = threading.RLock()
        self.repos: dict[str, Repo] = {}
        self._moved: dict[str, str] = {}
        self._clock = datetime.now(UTC)
        self._attributes = self.store.add_regular(attributes.DEFAULT)

    def find(self, repo_id: str, account: Account | None) -> Repo:
        """Return a repo that the account may see.

        Raises:
            RepoNotFoundError: if there is none, or it is private to others.
            RepoMovedError: if it has another name now.
        """
        repo = self.repos.get(repo_id)
        if repo is not None:
            check_sees(account, repo)
            return repo
        if repo_id in self._moved:
            raise RepoMovedError(repo_id, self._moved[repo_id])
        raise RepoNotFoundError(anonymous=account is None)

    def create(
        self,
        repo_id: str,
        *,
        private: bool = False,
        gated: str | bool = False,
        files: Mapping[str, bytes] | None = None,
    ) -> Repo:
        """Make a repo with an initial commit that holds `.gitattributes` and the files.

        Raises:
            ConflictError: if the id is taken.
        """
        with self.lock:
            if repo_id in self.repos:
                raise ConflictError("You already created this model repo")
            repo = Repo(repo_id, private=private, gated=gated, created=self.now())
            tree = {".gitattributes": self._attributes}
            tree.update({path: self.blob(path, data) for path, data in (files or {}).items()})
            self._record(repo, "main", tree, Message("initial commit"), None)
            self.repos[repo_id] = repo
            self._moved.pop(repo_id, None)
            return repo

    def commit(self, repo: Repo, ref: str, edits: list[Edit], message: Message) -> Commit:
        """Make a commit on a branch or pull request, also one that changes nothing.

        Raises:
            RevisionNotFoundError: if the ref is no branch and no pull request.
            StaleParentError: if the branch is no longer at the parent that the message names.
            EntryNotFoundError: if something to delete is not there.
        """
        with self.lock:
            if not repo.is_writable_ref(ref):
                raise RevisionNotFoundError(ref)
            head = repo.resolve(ref)
            return self._record(repo, ref, _next_tree(head, edits, message), message, head)

    def open_pull(
        self, repo: Repo, base: str, edits: list[Edit], message: Message
    ) -> tuple[str, Commit]:
        """Start a pull request on a revision with one commit; return its number and the commit.

        Raises:
            StaleParentError: if the revision is not at the parent that the message names.
            EntryNotFoundError: if something to delete is not there.
        """
        with self.lock:
            head = repo.resolve(base)
            tree = _next_tree(head, edits, message)
            number = str(len(repo.pulls) + 1)
            return number, self._record(repo, f"refs/pr/{number}", tree, message, head)

    def rename(self, repo_id: str, new_id: str) -> None:
        """Give a repo another id; requests to the old one are redirected.

        Raises:
            ConflictError: if the new id is taken.
        """
        with self.lock:
            if new_id in self.repos:
                raise ConflictError(f"{new_id} exists already")
            repo = self.repos.pop(repo_id)
            repo.id = new_id
            self.repos[new_id] = repo
            self._moved.pop(new_id, None)
            self._moved[repo_id] = new_id

    def blob(self, path: str, data: bytes, attribute_file: Blob | None = None) -> Blob:
        """Store a file's content as the Hub would: under LFS or as a regular file."""
        if self.is_lfs(path, len(data), data[:512], attribute_file):
            return self.store.add_lfs(data)
        return self.store.add_regular(data)

    def is_lfs(self, path: str, size: int, sample: bytes, attribute_file: Blob | None) -> bool:
        """Return whether a file goes under LFS in a repo with these attributes."""
        return attributes.is_lfs(
            path,
            size,
            sample,
            attributes=(attribute_file or self._attributes).read(),
            threshold=self.settings.lfs_threshold,
        )

    def now(self) -> datetime:
        """Return a time in whole milliseconds, later than any returned before."""
        self._clock = max(datetime.now(UTC), self._clock + timedelta(milliseconds=1))
        return self._clock

    def _record(
        self,
        repo: Repo,
        ref: str,
        tree: Mapping[str, Blob],
        message: Message,
        parent: Commit | None,
    ) -> Commit:
        date = self.now()
        parent_sha = None if parent is None else parent.sha
        sha = commit_sha(tree, repo.id, parent_sha, message, date)
        commit = Commit(
            sha=sha,
            parent=parent_sha,
            tree=tree,
            title=message.title,
            description=message.description,
            author=message.author,
            date=date,
        )
        repo.commits[sha] = commit
        repo.move(ref, sha)
        return commit


def _next_tree(head: Commit, edits: list[Edit], message: Message) -> dict[str, Blob]:
    if message.parent is not None and not head.sha.startswith(message.parent):
        raise StaleParentError
    return edited(head.tree, edits)


def checked_path(path: object) -> str:
    """Return a path that may stand in a repo.

    Raises:
        HubError: if it is absolute, climbs, or enters `.git`.
    """
    parts = path.rstrip("/").split("/") if isinstance(path, str) else [""]
    if not isinstance(path, str) or {"", ".", "..", ".git"} & set(parts):
        raise HubError(f"Invalid path in repo: {path!r}")
    return path
