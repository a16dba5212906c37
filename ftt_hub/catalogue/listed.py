"""One adapter of a registry as a reader wants to see it; no weight is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ftt_hub.artifact.adapter import AdapterHeaders
from ftt_hub.artifact.card_editing import History, split_card
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.artifact.norms import NormGrid, norm_grid
from ftt_hub.checkpoint.resolve import read_headers
from ftt_hub.errors import FttError, RefError
from ftt_hub.registry.abc import Listing, Notes, Registry, Summary, Version
from ftt_hub.registry.choose import choose_registry
from ftt_hub.registry.hf import HubRegistry
from ftt_hub.registry.open import adapter_headers, remote_headers
from ftt_hub.support.findings import CompatibilityReport
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import version_tag
from ftt_hub.verdict.verify import verify_headers


@dataclass(frozen=True)
class ListedAdapter:
    """An adapter of a registry with its versions, card, norms and fit.

    Attributes:
        listing: Name, the revision described, and its manifest.
        versions: All versions, newest first.
        notes: Its card, and the verdicts for targets.
        norms: ‖Δ‖/‖m_s‖ by layer and kind, from the container's index.
        compatibility: Report for the target, ``None`` without one.
        problem: Why the norms or the report are missing, ``None`` when they are not.
    """

    listing: Listing
    versions: tuple[Version, ...]
    notes: Notes
    norms: NormGrid | None
    compatibility: CompatibilityReport | None
    problem: FttError | None

    @property
    def evaluations(self) -> tuple[EvaluationResult, ...]:
        """What the card shown says of evaluations."""
        return results_from(split_card(self.notes.card or b"")[0])


def listed_adapter(
    name: str,
    *,
    version: str | None = None,
    target: PathLike | None = None,
    registry: PathLike | None = None,
    known: Iterable[Summary] = (),
) -> ListedAdapter:
    """Describe an adapter: manifest, versions, card, norms, and its fit with a target.

    Of an adapter on the Hub the manifest, the card, and the container's header and index are read,
    by ranges.

    Args:
        name: ``namespace/name``.
        version: ``1.2.0``; default the newest that is not deprecated.
        target: A model to check it against, from headers alone. One that cannot be read is told
            in `ListedAdapter.problem`.
        registry: ``"hf"`` or a folder.
        known: Summaries that the registry gave already: downloads, likes and dates are from there.

    Raises:
        RefError: No such adapter or version.
        HubError: The Hub does not answer.
    """
    chosen = choose_registry(registry)
    versions = chosen.versions(name)
    summary = next((s for s in known if s.name == name), Summary(name))
    listing = chosen.listing(_at(summary, versions, version))
    if listing is None:
        raise RefError("no adapter there that can be read", where=name)
    listing = replace(listing, versions=tuple(v.tag for v in versions))
    norms, report, problem = None, None, None
    try:
        headers = _headers(chosen, listing, registry)
        norms = norm_grid(headers.entries.values())
        if target is not None:
            report = verify_headers(headers, read_headers(target))
    except FttError as error:
        problem = error
    return ListedAdapter(listing, versions, chosen.notes(listing), norms, report, problem)


def _at(summary: Summary, versions: tuple[Version, ...], version: str | None) -> Summary:
    """The summary of the version asked for, else of the one that is shown by default."""
    marked = {v.tag: v.deprecated for v in versions if v.deprecated is not None}
    if version is None:
        return replace(summary, history=History(tuple(v.tag for v in versions), marked))
    tag = version_tag(version)
    found = next((v for v in versions if v.tag == tag), None)
    if found is None:
        there = ", ".join(v.tag for v in versions[:8]) or "none"
        raise RefError("no such version", where=f"{summary.name}@{tag}", expected=there)
    return replace(
        summary,
        revision=found.revision,
        history=History((tag,), {tag: marked[tag]} if tag in marked else {}),
        updated=found.published or summary.updated,
    )


def _headers(chosen: Registry, listing: Listing, registry: PathLike | None) -> AdapterHeaders:
    label = f"{listing.name}@{listing.revision}"
    if isinstance(chosen, HubRegistry) and listing.pinned is not None:
        return remote_headers(label, listing.name, listing.pinned, listing.config)
    return adapter_headers(label, registry=registry)
