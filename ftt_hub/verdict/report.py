"""The verdict: findings with the evidence they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from ftt_hub.loss import Estimate
from ftt_hub.support.findings import (
    CompatibilityReport,
    Finding,
    Status,
    accepted,
    rejected,
    warned,
)
from ftt_hub.transfer.calibration import Prediction, from_distance, from_kept
from ftt_hub.transfer.lineage import Lineage
from ftt_hub.verdict.evidence import LossEvidence
from ftt_hub.verdict.weights import WeightsEvidence
from ftt_hub.version import __version__

MATTERS = 0.01
"""Nats per token: a rise in loss below this, 1% of the perplexity, is no harm."""
FEW_WINDOWS = 8
"""A bootstrap over fewer windows than this tells little of their spread."""


@dataclass(frozen=True)
class Verdict(CompatibilityReport):
    """A report with its evidence.

    Attributes:
        commit: The target's commit on the Hub, ``None`` for a local folder.
        content_digest: Of the adapter.
        lineage: What the sketch told.
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
            facts.append(f"expected to recover {share.value:.0%} "
                         f"[{share.low:.0%}, {share.high:.0%}] of the gain")  # fmt: skip
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


def judge_weights(weights: WeightsEvidence) -> list[Finding]:
    """What exact distances say for or against the transfer."""
    figures, found = weights.figures, []
    if weights.total.delta == 0:
        found.append(warned("delta", "Δ is zero: adding it changes nothing"))
    size = figures["delta_to_target"]
    if size is not None and size > 1:
        reason = f"Δ is larger than the target itself (‖Δ‖/‖m_t‖ = {size:.2g})"
        found.append(warned("delta", f"{reason}: the result is hardly the target any more"))
    overlap = figures["overlap"]
    if overlap is not None:
        held = f"cos(Δ, m_t − m_s) = {overlap:.3f}"
        if overlap > 0.5:
            found.append(warned("overlap", f"much of Δ is in the target already ({held})"))
        else:
            found.append(accepted("overlap", f"Δ is new to the target ({held})"))
    conflicts = figures["sign_conflicts"]
    if conflicts is not None:
        facts = f"{conflicts:.1%} sign conflicts, cosine {figures['other_cosine'] or 0:.3f}"
        found.append(accepted("interference", f"with the other adapter: {facts}"))
    return found


def judge_loss(loss: LossEvidence) -> list[Finding]:
    """What the losses say: harm is a rejection, doubt a warning."""
    gain, best = loss.gain, loss.curve.best()
    if gain is None:
        return [rejected("loss", "m_t + Δ does not compute: its weights or loss are not finite")]
    facts = f"gain {gain:.3f} nats per token on {loss.text.label}, best λ {best:.2f}"
    found = []
    if gain.low > 0:
        found.append(accepted("loss", f"Δ lowers the loss ({facts})"))
    elif gain.high < -MATTERS and loss.best_gain.high <= 0:
        found.append(rejected("loss", f"Δ raises the loss at every scale ({facts})"))
    elif gain.high < -MATTERS:
        found.append(
            warned("loss", f"Δ raises the loss at λ = 1 and not at a smaller one ({facts})")
        )
    else:
        found.append(warned("loss", f"Δ makes no difference that this text can show ({facts})"))
    if len(loss.text.windows) < FEW_WINDOWS:
        reason = f"{loss.text.tokens} tokens in {len(loss.text.windows)} windows"
        found.append(warned("text", f"{reason}: too few for intervals to be trusted"))
    for name, barrier in (("m_t to m_t + Δ", loss.barrier),
                          ("m_s + Δ to m_t + Δ", loss.version_barrier)):  # fmt: skip
        if barrier is not None:
            found.append(_judge_barrier(name, barrier, gain))
    return found


def _judge_barrier(name: str, barrier: Estimate, gain: Estimate) -> Finding:
    facts = f"barrier from {name}: {barrier:.4f} nats per token"
    if barrier.low > max(0.1 * abs(gain.value), 1e-3):
        return warned("barrier", f"{facts}: they are not linearly connected")
    return accepted("barrier", facts)
