"""Is the target a relative of the source base? One answer, from the sketch, for all who ask.

`verify`, `apply`, the loading classes, `apply_to`, the PEFT plug-in and `rank` all compare the
adapter's sketch with the target by `compare`, and take the judgement from what it returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ftt_hub.artifact import sketch
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.transfer.distance import Distance, distances

if TYPE_CHECKING:
    from ftt_hub.artifact.adapter import AdapterHeaders
    from ftt_hub.artifact.index import TensorEntry
    from ftt_hub.artifact.sketch import RunSums
    from ftt_hub.tensors.dtypes import Bits
    from ftt_hub.tensors.header import TensorInfo
    from ftt_hub.transfer.plan import TransferPlan

UNRELATED_BELOW = 0.25
DRIFTED_BELOW = 0.9
"""Cosines of independent models are within ±0.05, those of successive versions above 0.9."""


@dataclass(frozen=True)
class Lineage:
    """What the sketch shows about a target.

    Attributes:
        overall: Distance over all matrices of the source base.
        tensors: Distance over each tensor that has a sampled run.
        samples: Number of weights compared.
    """

    overall: Distance
    tensors: Mapping[str, Distance] = field(default_factory=dict)
    samples: int = 0

    @property
    def verdict(self) -> str:
        """``identical``, ``same lineage``, ``drifted``, ``unrelated`` or ``unknown``."""
        cosine, distance = self.overall.cosine.value, self.overall.distance.value
        if not math.isfinite(cosine) or not math.isfinite(distance):
            return "unknown"
        if distance == 0:
            return "identical"
        if cosine < UNRELATED_BELOW:
            return "unrelated"
        return "drifted" if cosine < DRIFTED_BELOW else "same lineage"

    @property
    def is_related(self) -> bool:
        """Whether the target is known to come from the source base, at whatever distance."""
        return self.verdict not in ("unknown", "unrelated")

    @property
    def finding(self) -> Finding:
        """The verdict with its figures."""
        figures = self.overall
        facts = (
            f"distance {figures.distance:.3g}, cosine {figures.cosine:.3f}, same sign "
            f"{figures.sign_agreement.value:.1%}; 95% intervals from {figures.runs} runs"
        )
        match self.verdict:
            case "unknown":
                return warned("sketch", "the sampled weights are not finite: lineage unknown")
            case "unrelated":
                return rejected("sketch", f"the weights are unrelated to the source base ({facts})")
            case "drifted":
                reason = f"the target has drifted far from the source base ({facts})"
                return warned("sketch", reason)
            case "identical":
                differing = min(1.0, 3 / figures.runs)
                reason = f"at most {differing:.1%} of the weights' runs may differ"
                return accepted(
                    "sketch",
                    f"identical to the source base at {figures.runs} runs; {reason}"
                    " (95%, rule of three)",
                )
            case verdict:
                return accepted("sketch", f"{verdict} as the source base ({facts})")

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "class": self.verdict,
            "samples": self.samples,
            "overall": self.overall.to_json(),
            "tensors": {name: one.to_json() for name, one in self.tensors.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """The sketch of an adapter against the weights of a target.

    Attributes:
        runs: Sums of the sampled runs that the target has; ``None``: the adapter has no sketch.
        lineage: The estimates; ``None`` where there are too few runs for any.
    """

    runs: tuple[RunSums, ...] | None
    lineage: Lineage | None

    @property
    def is_identical(self) -> bool:
        """Whether all sampled weights that could be compared are the source base's own."""
        return bool(self.runs) and all(run.difference == 0 for run in self.runs or ())

    @property
    def finding(self) -> Finding:
        """The judgement."""
        if self.lineage is not None:
            return self.lineage.finding
        if self.runs is None:
            reason = "the adapter has no sketch: the target's lineage is not checked"
            return warned("sketch", reason)
        reason = "too few of the sampled weights can be read from the target: lineage unknown"
        return warned("sketch", reason)


def compare(
    adapter: AdapterHeaders,
    plan: TransferPlan,
    tensors: Mapping[str, TensorInfo],
    read_bits: Callable[[str, int, int], Bits],
    holds: Callable[[str, int], bool] = lambda name, element: True,
) -> Comparison:
    """Compare the adapter's sketch with a target; reads some kilobytes of the target's weights.

    Args:
        adapter: The adapter's index and files.
        plan: The plan for the target, by which rows of another vocabulary are matched.
        tensors: The target's tensors.
        read_bits: Reads the target's weights by name, first element and count.
        holds: Whether the row of an element can be read on this process.

    Raises:
        IntegrityError: The sketch is damaged.
    """
    sample = sketch_of(adapter)
    if sample is None:
        return Comparison(None, None)

    def locate(name: str, element: int) -> tuple[str, int] | None:
        location = _location(plan, name, element)
        return location if location is not None and holds(*location) else None

    return judge(sketch.compare(sample, tensors, read_bits, locate), adapter.entries)


def sketch_of(adapter: AdapterHeaders) -> sketch.Sketch | None:
    """The adapter's sketch; ``None`` when it was made without one.

    Raises:
        IntegrityError: It is damaged.
    """
    path = adapter.file(sketch.SKETCH_NAME)
    return None if path is None else sketch.read_sketch(path.parent)


def judge(runs: Sequence[RunSums], entries: Mapping[str, TensorEntry]) -> Comparison:
    """The comparison that the sums of sampled runs make."""
    estimates = distances(runs, entries)
    if estimates is None:
        return Comparison(tuple(runs), None)
    overall, tensors = estimates
    return Comparison(tuple(runs), Lineage(overall, tensors, sum(run.count for run in runs)))


def _location(plan: TransferPlan, name: str, element: int) -> tuple[str, int] | None:
    """The target's tensor and element for the source base's; ``None`` for a row it lacks."""
    planned = plan.tensors.get(name)
    if planned is None or planned.rows is None:
        return name, element
    width = planned.row_elements
    matches = np.flatnonzero(planned.rows.delta_row == element // width)
    row = int(planned.rows.target_row[matches[0]]) if matches.size else -1
    return (name, row * width + element % width) if row >= 0 else None
