"""How much a lossy coding of Δ increases held-out loss (`--text`): the question and the answers.

At low rates codings of equal squared error differ in harm (docs/codecs.md). The harm itself is
therefore measured: m_t + Δ̂ against m_t + Δ on the same windows of text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.errors import ExtractionError

if TYPE_CHECKING:
    from ftt_hub.loss.estimates import Estimate

TOKENS = 16_384


@dataclass(frozen=True)
class TrialPoint:
    """One candidate.

    Attributes:
        rounding: ``nearest``, ``stochastic`` or ``rotated``.
        noise: ‖Δ̂ − Δ‖ / ‖m_s‖, measured.
        bits_per_weight: Measured.
        step: The quantiser's step.
        tokens: Scored tokens it was measured on: all, or a quarter of them.
        loss: Of m_t + Δ̂ on these, nats per token.
        increase: Over m_t + Δ, paired by window.
    """

    rounding: str
    noise: float
    bits_per_weight: float
    step: float
    tokens: int
    loss: Estimate
    increase: Estimate

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "rounding": self.rounding,
            "noise": self.noise,
            "step": self.step,
            "bits_per_weight": self.bits_per_weight,
            "tokens": self.tokens,
            "loss": self.loss.to_json(),
            "increase": self.increase.to_json(),
        }


@dataclass
class LossTrial:
    """What to measure and, once that is done, the measurements.

    Attributes:
        text: Held-out text (`ftt_hub.loss.read_text`).
        target: Model that Δ is added to; default the source base.
        max_increase: Largest increase of the loss accepted, nats per token; ``None``: report only.
        tokens: Scored tokens of the text that are used.
        before: Loss of m_t alone.
        exact: Loss of m_t + Δ.
        points: Every candidate in the order tried.
        chosen: The one that was taken.
        divergence: KL(m_t + Δ ‖ m_t + Δ̂), chosen one, on a quarter of the text, nats per token.
    """

    text: Path
    target: str | Path | None = None
    max_increase: float | None = None
    tokens: int = TOKENS
    before: Estimate | None = None
    exact: Estimate | None = None
    points: list[TrialPoint] = field(default_factory=list)
    chosen: TrialPoint | None = None
    divergence: float | None = None

    def __post_init__(self) -> None:
        if self.max_increase is not None and not (
            math.isfinite(self.max_increase) and self.max_increase > 0
        ):
            raise ExtractionError(
                "the largest increase of the loss must be a positive number",
                found=self.max_increase,
            )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "text": self.text.name,
            "before": None if self.before is None else self.before.to_json(),
            "exact": None if self.exact is None else self.exact.to_json(),
            "points": [point.to_json() for point in self.points],
            "chosen": None if self.chosen is None else self.chosen.to_json(),
            "divergence": self.divergence,
        }
