"""What a model run showed: losses, best λ, barriers, and the gain that transfer keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftt_hub.loss import Estimate, HeldOutText, mean_difference, mean_ratio
from ftt_hub.verdict.curve import Curve


@dataclass(frozen=True)
class LossEvidence:
    """Losses on one held-out text.

    Attributes:
        text: The text.
        curve: Loss of m_t + λΔ over λ.
        source: Losses of m_s (λ = 0) and m'_s = m_s + Δ (λ = 1), where m_s is at hand.
        path: Losses from m_s + Δ (α = 0) to m_t + Δ (α = 1), likewise.
    """

    text: HeldOutText
    curve: Curve
    source: Curve | None = None
    path: Curve | None = None

    @property
    def gain(self) -> Estimate | None:
        """L(m_t) − L(m_t + Δ), nats per token; ``None`` when m_t + Δ has no loss."""
        return self.curve.gain(1.0) if 1.0 in self.curve.losses else None

    @property
    def best_gain(self) -> Estimate:
        """L(m_t) − L(m_t + λΔ) at the λ of least loss among those measured."""
        losses = self.curve.losses
        place = min(losses, key=lambda place: losses[place].mean)
        return self.curve.gain(place)

    @property
    def source_gain(self) -> Estimate | None:
        """L(m_s) − L(m'_s): what fine-tuning won where Δ comes from."""
        if self.source is None or 1.0 not in self.source.losses:
            return None
        return self.source.gain(1.0)

    @property
    def kept(self) -> Estimate | None:
        """(L(m_t) − L(m_t + Δ)) / (L(m_t) − L(m'_s)): the gain here over the gain to be had.

        L(m'_s) stands in for the loss of m_t fine-tuned, which nobody has. ``None`` where m_s is
        not at hand, or m_t is as good as m'_s already.
        """
        if self.gain is None or self.source is None or 1.0 not in self.source.losses:
            return None
        here = self.curve.losses
        part = here[0.0].nats - here[1.0].nats
        whole = here[0.0].nats - self.source.losses[1.0].nats
        if mean_difference(whole, np.zeros_like(whole), here[0.0].tokens).low <= 0:
            return None  # a gain that may be none is no measure of another
        return mean_ratio(part, whole)

    @property
    def barrier(self) -> Estimate | None:
        """Loss barrier along m_t → m_t + Δ."""
        return self.curve.barrier() if 1.0 in self.curve.losses else None

    @property
    def version_barrier(self) -> Estimate | None:
        """Loss barrier between m_s + Δ and m_t + Δ."""
        return None if self.path is None else self.path.barrier()

    def to_json(self) -> dict[str, object]:
        """JSON-ready form; losses in nats per token."""
        source = self.source

        def estimate(value: Estimate | None) -> dict[str, float] | None:
            return None if value is None else value.to_json()

        def loss(place: float) -> dict[str, float] | None:
            held = None if source is None else source.losses.get(place)
            return None if held is None else held.estimate().to_json()

        return {
            "text": {
                "name": self.text.label,
                "windows": len(self.text.windows),
                "tokens": self.text.tokens,
            },
            "curve": [{"scale": s, "loss": e.to_json()} for s, e in self.curve.points()],
            "broken_scales": list(self.curve.broken),
            "best_scale": self.curve.best().to_json(),
            "gain": estimate(self.gain),
            "best_gain": self.best_gain.to_json(),
            "source_gain": estimate(self.source_gain),
            "barrier": estimate(self.barrier),
            "source_loss": loss(0.0),
            "source_tuned_loss": loss(1.0),
            "kept": estimate(self.kept),
            "version_path": None
            if self.path is None
            else [{"place": p, "loss": e.to_json()} for p, e in self.path.points()],
            "version_barrier": estimate(self.version_barrier),
        }
