"""Writing to the Hub: repositories, commits, branches and tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.errors import HubError
from ftt_hub.hub.client import api
from ftt_hub.hub.failures import translated


@dataclass(frozen=True)
class Committed:
    """A commit that was made.

    Attributes:
        commit: Its sha.
        pull_request: ``refs/pr/N`` when it opened one.
        address: The page to look at.
    """

    commit: str
    pull_request: str | None
    address: str


def create_repository(name: str, *, private: bool) -> None:
    """Create a model repository unless it exists."""
    with translated(name):
        api().create_repo(name, private=private, exist_ok=True)


def commit_files(
    name: str,
    files: Mapping[str, Path | bytes],
    message: str,
    parent: str,
    *,
    deleted: Iterable[str] = (),
    branch: str = "main",
    create_pr: bool = False,
) -> Committed:
    """Put files into a repository in one commit on top of `parent`.

    Content that the Hub has stored already, also from an interrupted upload, is not sent again.

    Raises:
        StaleParentError: The branch moved on meanwhile; nothing became visible.
        HubError: The upload failed; nothing became visible.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with translated(name):
        adds = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=file)
            for path, file in sorted(files.items())
        ]
        gone = [CommitOperationDelete(path_in_repo=path) for path in sorted(deleted)]
        info = api().create_commit(
            name,
            [*adds, *gone],
            commit_message=message,
            parent_commit=parent,
            revision=branch,
            create_pr=create_pr,
        )
    if create_pr and info.pr_revision is None:
        raise HubError("the Hub opened no pull request", where=name, hint="Push without it.")
    address = info.pr_url if create_pr else info.commit_url
    return Committed(str(info.oid), info.pr_revision if create_pr else None, str(address))


def create_branch(name: str, branch: str, commit: str) -> None:
    """Start a branch at a commit; one that exists is left as it is."""
    with translated(name):
        api().create_branch(name, branch=branch, revision=commit, exist_ok=True)


def create_tag(name: str, tag: str, commit: str) -> None:
    """Tag a commit.

    Raises:
        ExistsError: There is such a tag.
    """
    with translated(f"{name}@{tag}"):
        api().create_tag(name, tag=tag, revision=commit)
