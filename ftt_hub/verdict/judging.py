"""The checks of the deeper depths of `verify`: what exact distances and losses say.

Checks that need headers or the sketch only are in `ftt_hub.transfer.findings`, for all to share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ftt_hub.loss import Estimate
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.verdict.evidence import LossEvidence
from ftt_hub.verdict.weights import WeightsEvidence

MATTERS = 0.01
"""Nats per token: a smaller rise in loss, 1% of the perplexity, counts as no harm."""
FEW_WINDOWS = 8
"""A bootstrap over fewer windows says little about how much they differ."""


def _zero_delta(weights: WeightsEvidence) -> list[Finding]:
    if weights.total.delta:
        return []
    return [warned("delta", "Δ is zero: adding it changes nothing")]


def _large_delta(weights: WeightsEvidence) -> list[Finding]:
    size = weights.figures["delta_to_target"]
    if size is None or size <= 1:
        return []
    reason = f"Δ is larger than the target itself (‖Δ‖/‖m_t‖ = {size:.2g})"
    return [warned("delta", f"{reason}: the result is hardly the target any more")]


def _overlap(weights: WeightsEvidence) -> list[Finding]:
    overlap = weights.figures["overlap"]
    if overlap is None:
        return []
    facts = f"cos(Δ, m_t − m_s) = {overlap:.3f}"
    if overlap > 0.5:
        return [warned("overlap", f"much of Δ is in the target already ({facts})")]
    return [accepted("overlap", f"Δ is new to the target ({facts})")]


def _interference(weights: WeightsEvidence) -> list[Finding]:
    conflicts = weights.figures["sign_conflicts"]
    if conflicts is None:
        return []
    cosine = weights.figures["other_cosine"] or 0
    facts = f"{conflicts:.1%} sign conflicts, cosine {cosine:.3f}"
    return [accepted("interference", f"with the other adapter: {facts}")]


def _gain(loss: LossEvidence) -> list[Finding]:
    """Harm is a rejection, doubt a warning."""
    gain, best = loss.gain, loss.curve.best()
    if gain is None:
        return [rejected("loss", "m_t + Δ does not compute: its weights or loss are not finite")]
    facts = f"gain {gain:.3f} nats per token on {loss.text.label}, best λ {best:.2f}"
    if gain.low > 0:
        return [accepted("loss", f"Δ lowers the loss ({facts})")]
    if gain.high >= -MATTERS:
        return [warned("loss", f"Δ makes no difference that this text can show ({facts})")]
    if loss.best_gain.high <= 0:
        return [rejected("loss", f"Δ raises the loss at every scale ({facts})")]
    return [warned("loss", f"Δ raises the loss at λ = 1 and not at a smaller one ({facts})")]


def _short_text(loss: LossEvidence) -> list[Finding]:
    if loss.gain is None or len(loss.text.windows) >= FEW_WINDOWS:
        return []
    reason = f"{loss.text.tokens} tokens in {len(loss.text.windows)} windows"
    return [warned("text", f"{reason}: too few for intervals to be trusted")]


def _barriers(loss: LossEvidence) -> list[Finding]:
    if loss.gain is None:
        return []
    paths = {"m_t to m_t + Δ": loss.barrier, "m_s + Δ to m_t + Δ": loss.version_barrier}
    return [
        _barrier(path, barrier, loss.gain) for path, barrier in paths.items() if barrier is not None
    ]


def _barrier(path: str, barrier: Estimate, gain: Estimate) -> Finding:
    facts = f"barrier from {path}: {barrier:.4f} nats per token"
    if barrier.low > max(0.1 * abs(gain.value), 1e-3):
        return warned("barrier", f"{facts}: they are not linearly connected")
    return accepted("barrier", facts)


WEIGHTS_CHECKS: list[Callable[[WeightsEvidence], Iterable[Finding]]] = [
    _zero_delta,
    _large_delta,
    _overlap,
    _interference,
]
"""Checks of depth `weights`, in the order in which findings are reported."""

LOSS_CHECKS: list[Callable[[LossEvidence], Iterable[Finding]]] = [_gain, _short_text, _barriers]
"""Checks of depth `loss`, likewise."""


def judge_weights(weights: WeightsEvidence) -> tuple[Finding, ...]:
    """What exact distances say for or against the transfer."""
    return tuple(finding for check in WEIGHTS_CHECKS for finding in check(weights))


def judge_loss(loss: LossEvidence) -> tuple[Finding, ...]:
    """What the losses say for or against the transfer."""
    return tuple(finding for check in LOSS_CHECKS for finding in check(loss))
