"""`rank`: a registry's adapters for a target, ordered by the deepest evidence that is affordable.

Headers are read of every adapter that matches, sketches of those that fit (the likeliest first, at
most `SKETCHES`), and with a text the `RUNS` most promising ones are added to the target in memory,
one after the other, and their loss is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ftt_hub.catalogue.browse import BrowseEntry, Query, browse_page
from ftt_hub.errors import FttError
from ftt_hub.registry.open import adapter_headers, open_adapter
from ftt_hub.support.findings import DEPTHS, CompatibilityReport, Finding, Status, rejected, warned
from ftt_hub.support.paths import PathLike
from ftt_hub.verdict.options import TextOptions
from ftt_hub.verdict.report import Verdict
from ftt_hub.verdict.verify import verify_target

SKETCHES, RUNS = 16, 4
SCALES = (0.5, 1.0)
_FIT = (Status.REJECTED, Status.WARNED, Status.ACCEPTED)


@dataclass(frozen=True)
class Ranked:
    """A ranked adapter.

    Attributes:
        name: ``namespace/name@revision``.
        report: The deepest verdict there is.
        reason: Why it has this rank, in one line.
    """

    name: str
    report: CompatibilityReport
    reason: str

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {"name": self.name, "reason": self.reason, "report": self.report.to_json()}


def rank(
    target: PathLike,
    *,
    language: str | None = None,
    text: PathLike | TextOptions | None = None,
    registry: PathLike | None = None,
    limit: int = 20,
) -> tuple[Ranked, ...]:
    """The registry's adapters for a target, the most promising first.

    Args:
        target: m_t, a folder or Hub reference.
        language: BCP-47 tag that adapters must be for.
        text: Held-out text; with one, losses decide between the most promising.
        registry: ``"hf"`` or a folder.
        limit: Adapters to return at most.

    Raises:
        FttError: The registry, the target or the text cannot be read.
    """
    entries = browse_page(Query(language=language), target=target, registry=registry).entries
    reports = {_name(entry): _headers(entry) for entry in entries}
    for name in _order(reports)[:SKETCHES]:
        if reports[name].status is not Status.REJECTED:
            reports[name] = _deeper(name, reports[name], target, registry, None)
    if text is not None:
        options = text if isinstance(text, TextOptions) else TextOptions(text, scales=SCALES)
        for name in _order(reports)[:RUNS]:
            if reports[name].status is not Status.REJECTED:
                reports[name] = _deeper(name, reports[name], target, registry, options)
    return tuple(Ranked(n, reports[n], _reason(reports[n])) for n in _order(reports)[:limit])


def _name(entry: BrowseEntry) -> str:
    return entry.listing.ref


def _headers(entry: BrowseEntry) -> CompatibilityReport:
    if entry.compatibility is None:
        raise FttError("was not checked against the target", where=_name(entry))
    return entry.compatibility


def _deeper(
    name: str,
    report: CompatibilityReport,
    target: PathLike,
    registry: PathLike | None,
    text: TextOptions | None,
) -> CompatibilityReport:
    """The next depth's verdict; an adapter that cannot be read keeps what is known, and why."""
    try:
        if text is None:
            headers = adapter_headers(name, registry=registry)
            return verify_target(headers, target, depth="sketch")
        with open_adapter(name, registry=registry) as opened:
            return verify_target(opened, target, depth="loss", text=text)
    except FttError as error:
        finding = (
            rejected("adapter", f"cannot be used: {error}") if text is None else _untold(error)
        )
        return replace(report, findings=(*report.findings, finding))


def _untold(error: FttError) -> Finding:
    return warned("loss", f"could not be measured: {error}")


def _order(reports: dict[str, CompatibilityReport]) -> list[str]:
    """Names, best first; ties by name."""
    return sorted(sorted(reports), key=lambda name: _key(reports[name]), reverse=True)


def _key(report: CompatibilityReport) -> tuple[float, ...]:
    """Usable first, then deeper evidence, then more of what that depth promises."""
    usable = float(report.status is not Status.REJECTED)
    depth = float(DEPTHS.index(report.depth))
    return (usable, depth, *_promise(report), float(_FIT.index(report.status)))


def _promise(report: CompatibilityReport) -> Iterable[float]:
    """The measured gain, or the closeness of target and source base."""
    if not isinstance(report, Verdict):
        return (0.0,)
    if report.loss is not None:
        return (report.loss.best_gain.value,)
    if report.lineage is not None:
        return (-report.lineage.overall.distance.value,)
    return (0.0,)


def _reason(report: CompatibilityReport) -> str:
    if report.status is Status.REJECTED or not isinstance(report, Verdict):
        return report.verdict
    if report.loss is not None:
        best = report.loss.best_gain
        return (
            f"lowers the loss by {best:.3f} nats per token, best λ {report.loss.curve.best():.2f}"
        )
    if report.lineage is not None:
        facts = f"distance {report.lineage.overall.distance:.3g}"
        return f"{report.lineage.verdict} as its source base ({facts})"
    return f"{report.verdict} (from headers alone)"
