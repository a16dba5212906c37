"""Pushing to the Hub: check, one commit, the tag; a lost race is checked and tried again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ftt_hub import hub
from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    MAX_CARD_BYTES,
    History,
    history_from,
    published_card,
    sorted_versions,
    split_card,
)
from ftt_hub.artifact.manifest import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    AdapterConfig,
    parse_config,
    read_config,
)
from ftt_hub.errors import FttError, HubError, RegistryError, VersionExistsError
from ftt_hub.registry.abc import PlannedFile, Preview, Publication
from ftt_hub.registry.card_commits import RACES, commit_card
from ftt_hub.support.refs import version_key, version_tag

_log = logging.getLogger(__name__)


def _digest_at(name: str, commit: str) -> tuple[str | None, AdapterConfig | None]:
    data = hub.read_file(name, commit, CONFIG_NAME, MAX_CONFIG_BYTES)
    if data is None:
        return None, None
    try:
        config = parse_config(data, f"{name}/{CONFIG_NAME}")
    except FttError:  # damaged or too new: other content, in any case
        return "unreadable", None
    return config.content_digest, config


def _card_history(name: str, repository: hub.Repository) -> History:
    """What the card at a commit says of versions."""
    card = None
    if CARD_NAME in repository.files:
        card = hub.read_file(name, repository.commit, CARD_NAME, MAX_CARD_BYTES)
    return history_from(split_card(card or b"")[0]) or History()


@dataclass(frozen=True)
class Published:
    """What the Hub has under the name.

    Attributes:
        head: Repository at main.
        tags: Tag → commit.
        digest: Content digest at main, if there is an adapter.
        config: Manifest at main, if there is one that can be read.
        history: The versions that have a tag, and the deprecations.
        claimed: The versions that main's card names; one without a tag is just being published.
    """

    head: hub.Repository
    tags: Mapping[str, str]
    digest: str | None
    config: AdapterConfig | None
    history: History
    claimed: tuple[str, ...]


class Push:
    """One publication.

    Args:
        folder: The adapter, checked.
        name: ``namespace/name``.
        version: ``1.2.0``, or ``None`` for main alone.

    Raises:
        IntegrityError: The folder's manifest is damaged.
        RefError: Not a version.
    """

    def __init__(self, folder: Path, name: str, version: str | None) -> None:
        self.folder, self.name = folder, name
        self.config = read_config(folder)
        self.tag = None if version is None else version_tag(version)

    def run(self, *, private: bool, create_pr: bool) -> Publication:
        """Publish.

        Raises:
            VersionExistsError: The version exists with other content.
            HubError: The Hub does not answer or refuses; nothing half-done became visible.
        """
        if create_pr and self.tag is not None:
            raise RegistryError(
                "a pull request has no version yet",
                where=self.name,
                hint="Push it without --version; tag it after it was merged.",
            )
        for _ in range(RACES):
            state = self._state() or self._created(private)
            if private and state.head.private is False:
                raise RegistryError(
                    "the repository is public already",
                    where=self.name,
                    hint="Make it private on its settings page first, or leave out --private.",
                )
            existing = self._existing(state)
            if existing is not None:
                self._list(state)
                return existing
            try:
                return self._propose(state) if create_pr else self._commit(state)
            except hub.StaleParentError:  # look again, then decide again
                _log.info("%s: somebody else published meanwhile; trying again", self.name)
        raise HubError(
            "others keep publishing to it", where=self.name, hint="Run the command again later."
        )

    def _created(self, private: bool) -> Published:
        hub.create_repository(self.name, private=private)
        state = self._state()
        if state is None:
            raise HubError("the new repository is not there", where=self.name)
        return state

    def _state(self) -> Published | None:
        head = hub.head_commit(self.name)
        if head is None:
            return None
        tags = hub.version_tags(self.name)
        digest, config = None, None
        if CONFIG_NAME in head.files:
            digest, config = _digest_at(self.name, head.commit)
        on_main = _card_history(self.name, head)
        history = History(sorted_versions(list(tags)), on_main.deprecated)
        return Published(head, tags, digest, config, history, on_main.versions)

    def _existing(self, state: Published) -> Publication | None:
        """The publication that exists already; ``None`` when there is something to do."""
        digest = self.config.content_digest
        if self.tag is None:
            pinned = state.head.commit
            return self._publication(pinned, changed=False) if state.digest == digest else None
        if self.tag not in state.tags and (state.digest == digest or self.tag not in state.claimed):
            return None
        tagged = state.tags.get(self.tag)
        if tagged is None or _digest_at(self.name, tagged)[0] != digest:
            raise _exists(self.name, self.tag)
        return self._publication(self.tag, changed=False)

    def _publication(self, pinned: str, *, changed: bool) -> Publication:
        address = hub.page_address(self.name, pinned)
        return Publication(f"{self.name}@{pinned}", changed, address)

    def _files(self, history: History) -> dict[str, Path | bytes]:
        path = self.folder / CARD_NAME
        card = published_card(path.read_bytes() if path.is_file() else None, self.name, history)
        files: dict[str, Path | bytes] = {n: self.folder / n for n in self.config.files}
        return {**files, CONFIG_NAME: self.folder / CONFIG_NAME, CARD_NAME: card}

    def _dropped(self, state: Published) -> list[str]:
        """Files of main's manifest that this adapter no longer has."""
        before = set(state.config.files) if state.config is not None else set()
        return sorted((before & state.head.files.keys()) - set(self.config.files))

    def _with_tag(self, history: History) -> History:
        tags = [*history.versions, *([] if self.tag is None else [self.tag])]
        return History(sorted_versions(tags), history.deprecated)

    def _propose(self, state: Published) -> Publication:
        done = hub.commit_files(
            self.name,
            self._files(state.history),
            "Publish a transfer adapter",
            state.head.commit,
            deleted=self._dropped(state),
            create_pr=True,
        )
        return Publication(f"{self.name}@{done.pull_request}", True, done.address)

    def _is_newest(self, state: Published) -> bool:
        newest = next(iter(state.history.versions), None)
        return self.tag is None or newest is None or version_key(self.tag) > version_key(newest)

    def _commit(self, state: Published) -> Publication:
        history = self._with_tag(state.history)
        branch, parent = "main", state.head.commit
        if not self._is_newest(state):
            branch = f"release-{self.tag}"
            hub.create_branch(self.name, branch, parent)
            branch_head = hub.describe(self.name, branch)
            listed = _card_history(self.name, branch_head).versions
            if self.tag in listed:  # committed by an earlier try
                return self._finish(branch_head.commit)
            parent = branch_head.commit
        message = f"Publish {self.tag}" if self.tag else "Publish a transfer adapter"
        done = hub.commit_files(
            self.name,
            self._files(history),
            message,
            parent,
            deleted=self._dropped(state),
            branch=branch,
        )
        if self.tag is None:
            return self._publication(done.commit, changed=True)
        self._tag(self.tag, done.commit, branch)
        if branch != "main":
            commit_card(self.name, self._with_tag, f"List {self.tag}")
        return self._publication(self.tag, changed=True)

    def _finish(self, commit: str) -> Publication:
        """Tag an older line's version whose content was committed without getting its tag."""
        tag = self.tag or ""
        if _digest_at(self.name, commit)[0] != self.config.content_digest:
            raise _exists(self.name, tag)
        self._tag(tag, commit, f"release-{tag}")
        commit_card(self.name, self._with_tag, f"List {tag}")
        return self._publication(tag, changed=True)

    def _list(self, state: Published) -> None:
        """Name a version that has its tag in main's card, where an earlier push could not."""
        if self.tag is not None and self.tag in state.tags and self.tag not in state.claimed:
            commit_card(self.name, self._with_tag, f"List {self.tag}")

    def _tag(self, tag: str, commit: str, branch: str) -> None:
        try:
            hub.create_tag(self.name, tag, commit)
        except hub.ExistsError as error:
            tagged = hub.version_tags(self.name).get(tag)
            if tagged is None or _digest_at(self.name, tagged)[0] != self.config.content_digest:
                raise VersionExistsError(
                    "somebody else published this version meanwhile, with other content",
                    where=f"{self.name}@{tag}",
                    hint=f"Your content is on {branch} without a version: push a higher one.",
                ) from error
        except HubError as error:
            raise HubError(
                f"the content is on {branch}, but the tag {tag} failed ({error.what})",
                where=self.name,
                hint="Run the same command again: only the tag is missing.",
            ) from error

    def preview(self) -> Preview:
        """What `run` would send; content that main has is not sent again."""
        state = self._state()
        existing = None if state is None else self._existing(state)
        history = self._with_tag(History() if state is None else state.history)
        remote = {} if state is None else state.head.files
        remote_contents = {f.identity for f in remote.values()} - {None}
        files = tuple(
            PlannedFile(name, _size(content), bool(remote_contents & _identities(content)))
            for name, content in self._files(history).items()
        )
        return Preview(f"{self.name}@{self.tag or 'main'}", existing is None, files)


def _exists(name: str, tag: str) -> VersionExistsError:
    return VersionExistsError(
        "this version is published with other content",
        where=f"{name}@{tag}",
        hint="Published versions never change: choose a higher version.",
    )


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _identities(content: Path | bytes) -> set[str | None]:
    """Hashes by which the Hub knows a content: LFS (sha256) and git (sha1)."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if _size(content) > 10 << 20:
            return {sha256}
        content = content.read_bytes()
    else:
        sha256 = hashlib.sha256(content).hexdigest()
    framed = b"blob %d\0" % len(content) + content
    return {sha256, hashlib.sha1(framed, usedforsecurity=False).hexdigest()}
