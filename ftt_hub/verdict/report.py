"""The verdict: findings with the evidence they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from ftt_hub.support.findings import CompatibilityReport, Status
from ftt_hub.transfer.calibration import Prediction, from_distance, from_kept
from ftt_hub.transfer.lineage import Lineage
from ftt_hub.verdict.evidence import LossEvidence
from ftt_hub.verdict.weights import WeightsEvidence
from ftt_hub.version import __version__


@dataclass(frozen=True)
class Verdict(CompatibilityReport):
    """A report with its evidence.

    Attributes:
        commit: The target's commit on the Hub, ``None`` for a local folder.
        content_digest: Of the adapter.
        lineage: What the sketch shows.
        weights: Exact distances.
        loss: Losses on a held-out text.
    """

    commit: str | None = None
    content_digest: str | None = None
    lineage: Lineage | None = None
    weights: WeightsEvidence | None = None
    loss: LossEvidence | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The recovered share to expect, from the deepest evidence there is."""
        if self.loss is not None:
            return None if self.loss.kept is None else from_kept(self.loss.kept)
        exact = None if self.weights is None else self.weights.figures["distance"]
        if exact is not None:
            return from_distance(exact, "weights")
        if self.lineage is None or not self.lineage.is_related:
            return None
        return from_distance(self.lineage.overall.distance.value, "sketch")

    @property
    def verdict(self) -> str:
        """One line: the status, the reasons behind it, and the figure that matters most."""
        line = super().verdict
        facts = []
        if self.loss is not None:
            facts.append(_loss_fact(self.loss))
        elif self.lineage is not None and self.status is Status.ACCEPTED:
            facts.append(f"{self.lineage.verdict} as the source base")
        expected = self.prediction
        if expected is not None and self.status is not Status.REJECTED:
            share = expected.share
            interval = f"[{share.low:.0%}, {share.high:.0%}]"
            facts.append(f"expected to recover {share.value:.0%} {interval} of the gain")
        return f"{line}; {'; '.join(facts)}" if facts else line

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, as `schemas/verdict.schema.json` describes it."""
        value = super().to_json()
        prediction = self.prediction
        return value | {
            "tool": f"ftt-hub {__version__}",
            "commit": self.commit,
            "content_digest": self.content_digest,
            "sketch": None if self.lineage is None else self.lineage.to_json(),
            "weights": None if self.weights is None else self.weights.to_json(),
            "loss": None if self.loss is None else self.loss.to_json(),
            "prediction": None if prediction is None else prediction.to_json(),
        }


def _loss_fact(loss: LossEvidence) -> str:
    before = loss.curve.losses[0.0].mean
    if 1.0 not in loss.curve.losses:
        return f"loss {before:.3f} → not a number"
    after = loss.curve.losses[1.0].mean
    return f"loss {before:.3f} → {after:.3f}, best λ {loss.curve.best():.2f}"
