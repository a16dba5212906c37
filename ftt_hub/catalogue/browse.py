"""Finding adapters: filter, sort, page, and check against a target, reading as little as can be.

What a registry tells without a manifest is used first; manifests are read only of the adapters
that are shown, and of those of which nothing else is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from ftt_hub.catalogue.record import recorded
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.resolve import read_headers
from ftt_hub.errors import FttError
from ftt_hub.registry.abc import Facts, Listing, Registry, Summary, facts_of
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.open import adapter_headers, remote_headers
from ftt_hub.support.findings import CompatibilityReport, rejected
from ftt_hub.support.licences import licence_id
from ftt_hub.support.paths import PathLike
from ftt_hub.verdict.verify import verify_headers

T = TypeVar("T")
R = TypeVar("R")

SORTS = ("name", "updated", "downloads", "likes", "size")
WORKERS = 8


@dataclass(frozen=True)
class BrowseEntry:
    """A listed adapter, with its fit when a target was named.

    Attributes:
        listing: Name, versions and manifest.
        compatibility: Report for the target, ``None`` without one.
        verified: What `verify --record` left of that very commit of the target: depth, status,
            verdict and tool.
    """

    listing: Listing
    compatibility: CompatibilityReport | None = None
    verified: dict[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, as the command line prints it."""
        listing, config = self.listing, self.listing.config
        deprecated = listing.deprecated
        value: dict[str, object] = {
            "name": listing.name,
            "revision": listing.revision,
            "versions": list(listing.versions),
            "languages": config.languages,
            "source_base": config.source_base.id,
            "fine_tuned": config.fine_tuned.id,
            "datasets": config.datasets,
            "codec": config.codec.id,
            "bytes": stored_bytes(listing),
            "exact": config.fidelity.exact,
            "relative_error": config.fidelity.relative_error,
            "license": config.license,
            "updated": listing.updated,
            "downloads": listing.downloads,
            "likes": listing.likes,
            "evaluations": [result.to_json() for result in listing.evaluations],
            "deprecated": None if deprecated is None else asdict(deprecated),
        }
        if self.compatibility is not None:
            value["compatibility"] = self.compatibility.to_json()
            value["verified"] = self.verified
        return value


@dataclass(frozen=True)
class Query:
    """What to look for; every filter given must match.

    Attributes:
        language: BCP-47 tag; ``tr`` also finds ``tr-TR``.
        source_base: Id of the source base.
        dataset: Id of a training dataset.
        license: Licence id.
        search: Text in name, base, languages, datasets or licence.
        deprecated: Show adapters whose every version is deprecated, too.
    """

    language: str | None = None
    source_base: str | None = None
    dataset: str | None = None
    license: str | None = None
    search: str | None = None
    deprecated: bool = False

    def matches(self, name: str, facts: Facts) -> bool:
        """Whether an adapter is wanted."""
        texts = (name, facts.source_base, *facts.languages, *facts.datasets, facts.license or "")
        return (
            (self.language is None or _speaks(self.language, facts.languages))
            and _one_of(self.source_base, (facts.source_base,))
            and _one_of(self.dataset, facts.datasets)
            and (self.license is None or _is_licence(self.license, facts.license))
            and (self.search is None or self.search.lower() in " ".join(texts).lower())
        )


def _speaks(wanted: str, languages: Iterable[str]) -> bool:
    tag = wanted.lower()
    return any(known.lower() == tag or known.lower().startswith(f"{tag}-") for known in languages)


def _is_licence(wanted: str, held: str | None) -> bool:
    return held is not None and licence_id(wanted) == licence_id(held)


def _one_of(wanted: str | None, values: Iterable[str]) -> bool:
    return wanted is None or wanted.lower() in (value.lower() for value in values)


@dataclass(frozen=True)
class Page:
    """One page of what was found.

    Attributes:
        entries: The adapters of this page, in order.
        total: Adapters on all pages; a few may turn out to be damaged when their page is shown.
    """

    entries: tuple[BrowseEntry, ...]
    total: int


def _parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="ftt-hub") as pool:
        return list(pool.map(function, items))


@dataclass(frozen=True)
class _Candidate:
    """An adapter on its way: its manifest is read when it is needed, once."""

    summary: Summary
    listing: Listing | None = None

    @property
    def facts(self) -> Facts | None:
        return self.summary.facts if self.listing is None else facts_of(self.listing.config)

    @property
    def is_deprecated(self) -> bool:
        if self.listing is not None:
            return self.listing.deprecated is not None
        history = self.summary.history
        return history is not None and history.shown in history.deprecated


def stored_bytes(listing: Listing) -> int:
    """Bytes of an adapter's files."""
    return sum(int(facts["size"]) for facts in listing.config.files.values())


def _opened(registry: Registry, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The candidates with their manifests; those that have none are left out."""
    missing = [c for c in candidates if c.listing is None]
    found = dict(
        zip(
            (c.summary.name for c in missing),
            _parallel(registry.listing, [c.summary for c in missing]),
            strict=True,
        )
    )
    opened = [
        c if c.listing is not None else replace(c, listing=found[c.summary.name])
        for c in candidates
    ]
    return [c for c in opened if c.listing is not None]


def _sorted(candidates: list[_Candidate], sort: str) -> list[_Candidate]:
    keys: dict[str, Callable[[_Candidate], str | int]] = {
        "updated": lambda c: c.summary.updated or "",
        "downloads": lambda c: c.summary.downloads or 0,
        "likes": lambda c: c.summary.likes or 0,
        "size": lambda c: 0 if c.listing is None else stored_bytes(c.listing),
    }
    by_name = sorted(candidates, key=lambda c: c.summary.name.lower())
    return by_name if sort == "name" else sorted(by_name, key=keys[sort], reverse=True)


def told(known: Iterable[Summary], *, registry: PathLike | None = None) -> list[Summary]:
    """The summaries with their facts; manifests are read where nothing else tells.

    Args:
        known: What the registry listed; those that turn out to be no adapters are left out.
        registry: ``"hf"`` or a folder.
    """
    chosen = choose_registry(registry)
    candidates = [_Candidate(summary) for summary in known]
    dark = _opened(chosen, [c for c in candidates if c.facts is None])
    lit = {c.summary.name: replace(c.summary, facts=c.facts) for c in dark}
    every = (c.summary if c.facts is not None else lit.get(c.summary.name) for c in candidates)
    return [summary for summary in every if summary is not None]


def _found(
    registry: Registry, query: Query, sort: str, known: Iterable[Summary] | None
) -> list[_Candidate]:
    listed = registry.summaries() if known is None else known
    candidates = [_Candidate(summary) for summary in listed]
    told = [c for c in candidates if c.facts is not None]
    dark = _opened(registry, [c for c in candidates if c.facts is None])
    wanted = [
        c
        for c in (*told, *dark)
        if c.facts is not None
        and query.matches(c.summary.name, c.facts)
        and (query.deprecated or not c.is_deprecated)
    ]
    return _sorted(_opened(registry, wanted) if sort == "size" else wanted, sort)


def browse_page(
    query: Query,
    *,
    target: PathLike | None = None,
    registry: PathLike | None = None,
    sort: str = "name",
    limit: int | None = None,
    page: int = 1,
    known: Iterable[Summary] | None = None,
) -> Page:
    """One page of the adapters that match.

    Args:
        query: What to look for.
        target: A model to check every adapter shown against, from headers alone.
        registry: ``"hf"`` or a folder.
        sort: ``name``, or one of `SORTS`, largest or newest first. ``size`` reads every manifest.
        limit: Adapters a page; ``None`` for all.
        page: Number of the page, from 1.
        known: What the registry listed a moment ago; default: ask it.

    Raises:
        FttError: Unknown sort or page, or the registry does not answer.
    """
    if sort not in SORTS or page < 1 or (limit is not None and limit < 1):
        raise FttError("no such page or order", where="browse", expected=", ".join(SORTS))
    chosen = choose_registry(registry)
    headers = None if target is None else read_headers(target)
    found = _found(chosen, query, sort, known)
    start = 0 if limit is None else (page - 1) * limit
    shown = _opened(chosen, found[start : None if limit is None else start + limit])
    listings = [c.listing for c in shown if c.listing is not None]
    if headers is None:
        return Page(tuple(map(BrowseEntry, listings)), len(found))
    model = headers

    def check(listing: Listing) -> BrowseEntry:
        held = recorded(chosen, listing, model.commit)
        return BrowseEntry(listing, _fit(chosen, listing, model, registry), held)

    return Page(tuple(_parallel(check, listings)), len(found))


def _fit(
    chosen: Registry, listing: Listing, target: ModelHeaders, registry: PathLike | None
) -> CompatibilityReport:
    """The report for a target; an adapter that cannot be read does not fit."""
    label = f"{listing.name}@{listing.revision}"
    try:
        if isinstance(chosen, HubRegistry) and listing.pinned is not None:
            adapter = remote_headers(label, listing.name, listing.pinned, listing.config)
        else:
            adapter = adapter_headers(label, registry=registry)
        return verify_headers(adapter, target)
    except FttError as error:
        finding = rejected("adapter", f"cannot be checked: {error}")
        return CompatibilityReport(label, target.label, "headers", (finding,))


def browse(
    *,
    language: str | None = None,
    source_base: str | None = None,
    dataset: str | None = None,
    license: str | None = None,  # noqa: A002 - the word of cards and manifests
    search: str | None = None,
    target: PathLike | None = None,
    registry: PathLike | None = None,
    sort: str = "name",
    limit: int | None = None,
    page: int = 1,
    deprecated: bool = False,
) -> Iterator[BrowseEntry]:
    """Adapters of a registry that match every filter given; `browse_page` also counts them.

    Args:
        language: BCP-47 tag; ``tr`` also finds ``tr-TR``.
        source_base: Id of the source base.
        dataset: Id of a training dataset.
        license: Licence id.
        search: Text in name, base, languages, datasets or licence.
        target: A model to check every match against, from headers alone.
        registry: ``"hf"`` or a folder.
        sort: ``name``, ``updated``, ``downloads``, ``likes`` or ``size``.
        limit: Adapters a page; default all.
        page: Number of the page, from 1.
        deprecated: Show deprecated adapters, too.

    Raises:
        FttError: The registry or the target cannot be read.
    """
    query = Query(language, source_base, dataset, license, search, deprecated)
    found = browse_page(query, target=target, registry=registry, sort=sort, limit=limit, page=page)
    yield from found.entries
