"""The checks of a transfer: one list, whose findings `verify`, `apply` and every loader share.

A new check is a function in `CHECKS`. It then counts for `verify`, `apply`, the loading classes,
`apply_to`, the PEFT plug-in, `rank` and `browse`, in their reports, JSON and exit codes alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.support.findings import CompatibilityReport, Finding, accepted, warned
from ftt_hub.transfer import checks
from ftt_hub.transfer.calibration import far_above

if TYPE_CHECKING:
    from ftt_hub.artifact.adapter import AdapterHeaders
    from ftt_hub.checkpoint.headers import ModelHeaders
    from ftt_hub.transfer.lineage import Comparison
    from ftt_hub.transfer.plan import TransferPlan


@dataclass(frozen=True)
class Transfer:
    """What is known about adding an adapter to a target; all that a check can look at.

    Attributes:
        adapter: The adapter's manifest and index.
        target: The target's config, tensors and small files.
        plan: What every tensor of the result is made of.
        comparison: The sketch against the target's weights; ``None`` at depth ``headers``, where
            no weight is read.
    """

    adapter: AdapterHeaders
    target: ModelHeaders
    plan: TransferPlan
    comparison: Comparison | None = None

    @property
    def source_config(self) -> Mapping[str, Any]:
        """What the manifest records of the source base's `config.json`."""
        return self.adapter.config.source_base.config


Check = Callable[[Transfer], Iterable[Finding]]
"""Looks at a transfer; no findings: the check does not apply."""


def _architecture(transfer: Transfer) -> list[Finding]:
    return [checks.check_architecture(transfer.source_config, transfer.target.config)]


def _quantization(transfer: Transfer) -> list[Finding]:
    return checks.check_quantization(transfer.target)


def _names(transfer: Transfer) -> list[Finding]:
    return checks.check_names(transfer.adapter.entries, transfer.target)


def _shapes(transfer: Transfer) -> list[Finding]:
    entries, vocabulary = transfer.adapter.entries, transfer.plan.vocabulary
    return checks.check_shapes(entries, transfer.target, vocabulary)


def _dtypes(transfer: Transfer) -> list[Finding]:
    return [checks.check_dtypes(transfer.adapter.entries, transfer.target)]


def _planned(transfer: Transfer) -> Iterable[Finding]:
    """Tied embeddings and the rows of the vocabulary, which planning looks at."""
    return transfer.plan.findings


def _config(transfer: Transfer) -> list[Finding]:
    return checks.check_config(transfer.source_config, transfer.target.config)


def _licence(transfer: Transfer) -> list[Finding]:
    return [checks.check_licence(transfer.adapter.config)]


def _lineage(transfer: Transfer) -> list[Finding]:
    return [] if transfer.comparison is None else [transfer.comparison.finding]


def _distance(transfer: Transfer) -> list[Finding]:
    """Is a related target near enough that the transfers of the calibration worked?"""
    lineage = None if transfer.comparison is None else transfer.comparison.lineage
    if lineage is None or not lineage.is_related:
        return []
    distance, limit = lineage.overall.distance.value, far_above()
    facts = f"distance {distance:.3g}, calibrated limit {limit:.3g}"
    if distance <= limit:
        return [accepted("distance", f"transfers over such a distance worked ({facts})")]
    reason = f"transfers over such a distance lost most of the gain ({facts})"
    return [warned("distance", f"{reason}: measure with --depth loss")]


CHECKS: list[Check] = [
    _architecture,
    _quantization,
    _names,
    _shapes,
    _dtypes,
    _planned,
    _config,
    _licence,
    _lineage,
    _distance,
]
"""Every check, in the order in which findings are reported."""


def find(transfer: Transfer) -> tuple[Finding, ...]:
    """The findings of all checks."""
    return tuple(finding for check in CHECKS for finding in check(transfer))


def report(transfer: Transfer) -> CompatibilityReport:
    """Whether the adapter fits the target, and why."""
    return CompatibilityReport(
        adapter=transfer.adapter.label,
        target=transfer.target.label,
        depth="headers" if transfer.comparison is None else "sketch",
        findings=find(transfer),
        estimate=checks.estimate(transfer.adapter.config, transfer.target),
    )
