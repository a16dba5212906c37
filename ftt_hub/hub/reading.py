"""Reading from the Hub: commits, tags, file lists, and downloads into the Hub cache."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.errors import RefError
from ftt_hub.hub.client import api
from ftt_hub.hub.failures import answered

MAIN = "main"
SECONDS = 30.0
_SHA = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        size: Bytes, if told.
        oid: Git's hash of it (of the pointer, under LFS), if told.
        sha256: Hash of the content, for files under LFS.
    """

    size: int | None
    oid: str | None
    sha256: str | None

    @property
    def identity(self) -> str | None:
        """Equal for files of equal content, ``None`` when the server tells no hash."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        name: ``namespace/name``, the present one of a renamed repository.
        commit: The commit.
        files: Path → what is known of it.
        private: Whether others cannot see it, if told.
    """

    name: str
    commit: str
    files: Mapping[str, RemoteFile]
    private: bool | None = None


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit sha, which nothing can move."""
    return revision is not None and _SHA.match(revision) is not None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids requests."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def resolve_commit(name: str, revision: str | None) -> str:
    """Commit sha of a branch, tag or commit; a sha is returned as it is.

    Raises:
        RefError: No such repository or revision.
        HubError: The Hub does not answer, and the cache does not know.
    """
    if revision is not None and is_commit(revision):
        return revision
    ref = name if revision is None else f"{name}@{revision}"
    asked = revision or MAIN  # some servers answer only where a revision is named
    return answered(ref, lambda: str(api().resolve_revision(name, revision=asked).resolved))


def describe(name: str, revision: str | None = None) -> Repository:
    """Commit and files of a repository, in one request that never asks the cache.

    Raises:
        RefError: No such repository or revision.
        HubError: The Hub does not answer.
    """
    ref = name if revision is None else f"{name}@{revision}"
    info = answered(
        ref,
        lambda: api().model_info(
            name, revision=revision or MAIN, files_metadata=True, timeout=SECONDS
        ),
    )
    files = {}
    for sibling in info.siblings or ():
        lfs = sibling.lfs
        digest = None if lfs is None else str(lfs.sha256)
        files[str(sibling.rfilename)] = RemoteFile(sibling.size, sibling.blob_id, digest)
    return Repository(str(info.id), str(info.sha), files, info.private)


def head_commit(name: str) -> Repository | None:
    """A repository at its main branch; ``None`` when it does not exist."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return describe(name, "main")
    except RefError as error:
        cause = error.__cause__
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            return None
        raise


def download_adapter(name: str, commit: str, files: Iterable[str]) -> Path:
    """The named files of a repository in the Hub cache, and nothing else of it."""
    patterns = list(files)
    return Path(
        answered(
            name, lambda: api().snapshot_download(name, revision=commit, allow_patterns=patterns)
        )
    )


def download_file(name: str, commit: str, filename: str) -> Path | None:
    """One file in the Hub cache, ``None`` when the repository has none."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(answered(name, lambda: api().hf_hub_download(name, filename, revision=commit)))
    except RefError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            return None
        raise


def version_tags(name: str) -> dict[str, str]:
    """Tag name → commit sha of a repository."""
    refs = answered(name, lambda: api().list_repo_refs(name))
    return {tag.name: tag.target_commit for tag in refs.tags}


def tag_dates(name: str, revision: str) -> dict[str, str]:
    """Commit sha → date (ISO 8601) of a revision's history, as far as the Hub tells."""
    commits = answered(name, lambda: api().list_repo_commits(name, revision=revision))
    return {commit.commit_id: commit.created_at.isoformat(timespec="seconds") for commit in commits}


def page_address(name: str, revision: str) -> str:
    """Address of a repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}/tree/{revision}"
