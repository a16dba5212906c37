"""The Hugging Face Hub as a registry: an adapter is a model repository, a version is a tag.

A push is one commit, then the tag. `main` holds the newest version; an older line's version goes to
a branch of its own. The card on `main` records versions and deprecations (`readme`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ftt_hub import hub
from ftt_hub.artifact.adapter import AdapterHeaders, open_folder
from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    MAX_CARD_BYTES,
    Deprecation,
    History,
    history_from,
    sorted_versions,
)
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.artifact.manifest import CONFIG_NAME, AdapterConfig
from ftt_hub.artifact.remote import remote_entries
from ftt_hub.errors import FttError, HubError, RefError, RegistryError
from ftt_hub.registry.abc import (
    Listing,
    Notes,
    Preview,
    Publication,
    Record,
    Summary,
    Version,
)
from ftt_hub.registry.card_commits import commit_beside, commit_card, commit_results
from ftt_hub.registry.hub_push import Push
from ftt_hub.registry.hub_reading import (
    card_facts,
    read_front,
    read_history,
    read_manifest,
    version_dates,
)
from ftt_hub.registry.verified import FOLDER, MAX_RECORD_BYTES, MAX_RECORDS, record_path, with_line
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.refs import Ref, is_repository_name
from ftt_hub.support.warn import warn_caller

TAG = "ftt-hub"
WORKERS = 8


def _manifest(name: str, commit: str, ref: Ref) -> AdapterConfig:
    config = read_manifest(name, commit)
    if config is None:
        raise RefError(
            f"no {CONFIG_NAME} there",
            where=ref,
            expected="a transfer adapter",
            hint="Find adapters with ftt-hub browse.",
        )
    return config


def _checked(name: str | None) -> str:
    if name is None or not is_repository_name(name):
        raise RefError("not a repository name", where=str(name)[:200], expected="namespace/name")
    return name


class HubRegistry:
    """Adapters on the Hub; honours HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.

    Args:
        location: Empty: there is one Hub, that of HF_ENDPOINT.

    Raises:
        RegistryError: A location was given.
    """

    def __init__(self, location: str = "") -> None:
        if location:
            raise RegistryError(
                "the Hub is named without a location",
                where=f"hf:{location}"[:200],
                expected="hf",
                hint="Set HF_ENDPOINT to use another server.",
            )

    def publish(
        self,
        folder: Path,
        name: str,
        *,
        version: str | None = None,
        private: bool = False,
        create_pr: bool = False,
    ) -> Publication:
        """See `Store.publish`: one commit, then the tag, or one pull request and no tag."""
        push = Push(folder, _checked(name), version)
        return push.run(private=private, create_pr=create_pr)

    def preview(self, folder: Path, name: str, *, version: str | None = None) -> Preview:
        """See `Store.preview`."""
        return Push(folder, _checked(name), version).preview()

    def resolve(self, ref: Ref) -> tuple[str, str]:
        """Name and commit of a reference; warns when the revision is deprecated.

        Raises:
            RefError: No such repository or revision.
            HubError: The Hub does not answer, and the cache does not know.
        """
        name = _checked(ref.name)
        commit = hub.resolve_commit(name, ref.revision)
        if not hub.is_commit(ref.revision):
            self._warn(name, ref, commit)
        return name, commit

    def fetch(self, ref: Ref) -> tuple[Path, str]:
        """See `Store.fetch`; downloads what the manifest lists, and nothing else."""
        name, commit = self.resolve(ref)
        files = (*_manifest(name, commit, ref).files, CONFIG_NAME, CARD_NAME)
        return hub.download_adapter(name, commit, files), commit

    def headers(self, ref: Ref, config: AdapterConfig | None = None) -> AdapterHeaders:
        """See `Store.headers`; offline the cached files are read."""
        if hub.is_offline():
            with open_folder(str(ref), *self.fetch(ref)) as adapter:
                return adapter.headers
        name, commit = self.resolve(ref)
        known = config or _manifest(name, commit, ref)

        def file(filename: str) -> Path | None:
            return hub.download_file(name, commit, filename) if filename in known.files else None

        def read(filename: str, start: int, length: int) -> bytes:
            return hub.read_range(name, commit, filename, start, length)

        return AdapterHeaders(str(ref), commit, known, remote_entries(known, read, name), file)

    @staticmethod
    def _warn(name: str, ref: Ref, commit: str) -> None:
        on_main = ref.revision in (None, "main")
        try:
            history = read_history(name, commit if on_main else "main")
        except FttError:  # a notice that cannot be read is no reason not to load
            return
        tag = (history or History()).shown if on_main else ref.revision
        if history is not None and tag is not None and tag in history.deprecated:
            warn_caller(history.deprecated[tag].notice(str(ref)))

    def versions(self, name: str) -> tuple[Version, ...]:
        """See `Ledger.versions`."""
        tags = hub.version_tags(_checked(name))
        marked = (read_history(name, "main") or History()).deprecated
        dates: dict[str, str] = {}
        for tag in sorted_versions(tags):
            if tags[tag] not in dates:
                dates |= {tags[tag]: "", **version_dates(name, tag)}
        return tuple(
            Version(tag, tags[tag], dates[tags[tag]] or None, marked.get(tag))
            for tag in sorted_versions(tags)
        )

    def deprecate(self, name: str, tag: str, deprecation: Deprecation) -> bool:
        """See `Ledger.deprecate`: one commit to the card on main."""
        tags = hub.version_tags(_checked(name))
        if tag not in tags:
            raise RefError("no such version", where=f"{name}@{tag}")

        def mark(history: History) -> History:
            deprecated = {**history.deprecated, tag: deprecation}
            return History(sorted_versions(tags), deprecated)

        return commit_card(name, mark, f"Deprecate {tag}")

    def add_results(self, name: str, results: Sequence[EvaluationResult]) -> bool:
        """See `Ledger.add_results`: one commit to the card on main."""
        return commit_results(_checked(name), results)

    def annotate(self, ref: Ref, record: Record) -> str:
        """See `Records.annotate`: one commit to main."""

        def files(card: bytes | None) -> dict[str, Path | bytes]:
            return {record_path(record.key): record.data, CARD_NAME: with_line(card, record)}

        return commit_beside(_checked(ref.name), files, "Add a verdict") or ""

    def record(self, listing: Listing, key: str) -> bytes | None:
        """See `Records.record`: one request; records came after the version, so main has them."""
        return hub.read_file(listing.name, "main", record_path(key), MAX_RECORD_BYTES)

    def summaries(self) -> Iterator[Summary]:
        """See `Catalogue.summaries`: one request per thousand adapters.

        A model whose tags are told and lack ours is no adapter; servers that ignore the filter
        list those too. Where no tags are told, only the manifest can tell.
        """
        for model in hub.list_models(TAG):
            if (model.tags and TAG not in model.tags) or not is_repository_name(model.name):
                continue
            facts = None if model.card is None or not model.tags else card_facts(model.card)
            yield Summary(
                model.name,
                model.commit if hub.is_commit(model.commit) else None,
                facts,
                history_from(model.card),
                model.updated,
                model.downloads,
                model.likes,
                None if model.card is None else results_from(model.card),
            )

    def listing(self, summary: Summary) -> Listing | None:
        """See `Catalogue.listing`: one request where the card told the versions."""
        try:
            return self._listing(summary)
        except HubError:
            raise
        except FttError as error:
            warn_caller(f"left out {summary.name}: {error}")
            return None

    @staticmethod
    def _listing(summary: Summary) -> Listing | None:
        name, history = summary.name, summary.history
        head = summary.revision or hub.resolve_commit(name, None)
        commit = head
        config = read_manifest(name, head)
        if config is None:
            return None
        evaluations = summary.evaluations
        if history is None:
            front = read_front(name, head)
            marked = (history_from(front) or History()).deprecated
            history = History(sorted_versions(hub.version_tags(name)), marked)
            evaluations = results_from(front)
        revision = history.shown or "main"
        if history.versions and revision != history.versions[0]:
            commit = hub.resolve_commit(name, revision)
            config = read_manifest(name, commit) or config
        return Listing(
            name,
            revision,
            history.versions,
            config,
            summary.updated,
            summary.downloads,
            summary.likes,
            history.deprecated.get(revision),
            commit,
            evaluations or (),
        )

    def notes(self, listing: Listing) -> Notes:
        """See `Catalogue.notes`: the card of an old version is that of its tag."""
        name = listing.name
        head = hub.describe(name, "main")
        newest = listing.revision in ("main", *listing.versions[:1])
        at = head.commit if newest or listing.pinned is None else listing.pinned
        records: dict[str, bytes] = {}
        for path in sorted(head.files):
            folder, _, file = path.rpartition("/")
            if folder == FOLDER and file.endswith(".json") and len(records) < MAX_RECORDS:
                data = hub.read_file(name, head.commit, path, MAX_RECORD_BYTES) or b""
                records[file.removesuffix(".json")] = data[:MAX_RECORD_BYTES]
        return Notes(hub.read_file(name, at, CARD_NAME, MAX_CARD_BYTES), records)

    def listings(self) -> Iterator[Listing]:
        """See `Registry.listings`; reads the manifests in parallel."""
        listings = [
            x for x in map_unordered(self.listing, self.summaries(), WORKERS) if x is not None
        ]
        yield from sorted(listings, key=lambda listing: listing.name)
