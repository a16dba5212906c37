"""What model runs show: losses over λ, the best λ, barriers, and the share of the gain kept.

All losses are of the same windows of text. Intervals come from one bootstrap over these windows
(`ftt_hub.loss.estimates`), so that the differences between windows cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub.loss import Estimate, HeldOutText, Loss, mean_difference, mean_ratio
from ftt_hub.loss.estimates import bounds, resampled

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Losses along a line through weight space.

    Attributes:
        losses: Position on the line → loss. Positions whose loss is not a number are left out.
        broken: Those positions.
    """

    losses: Mapping[float, Loss]
    broken: tuple[float, ...] = ()

    @property
    def positions(self) -> list[float]:
        """Positions with a loss, in order."""
        return sorted(self.losses)

    def points(self) -> list[tuple[float, Estimate]]:
        """Each position with its loss, nats per token."""
        return [(at, self.losses[at].estimate()) for at in self.positions]

    def best(self) -> Estimate:
        """The position of least loss.

        It is the vertex of the parabola through the least loss measured and its neighbours. If the
        least loss is at an end of the line, it is that end.
        """
        means, drawn = self._means()
        grid = np.array(self.positions)
        return bounds(_lowest(grid, means), np.array([_lowest(grid, row) for row in drawn]))

    def barrier(self, start: float = 0.0, stop: float = 1.0) -> Estimate:
        """Largest rise above the straight line between the ends (Frankle et al. 2020), ≥ 0.

        The paper compares the error at the midpoint with the error of two equally good networks.
        Here the ends may differ in loss, so the comparison is with the line between them.
        """
        inside = [at for at in self.positions if start <= at <= stop]
        columns = [self.positions.index(at) for at in inside]
        means, drawn = self._means()
        shares = (np.array(inside) - start) / (stop - start)
        return bounds(
            float(_rise(shares, means[None, columns])[0]), _rise(shares, drawn[:, columns])
        )

    def gain(self, position: float, reference: float = 0.0) -> Estimate:
        """Loss at `reference` minus loss at `position`: the gain of moving, nats per token."""
        means, drawn = self._means()
        one, other = self.positions.index(position), self.positions.index(reference)
        return bounds(float(means[other] - means[one]), drawn[:, other] - drawn[:, one])

    def _means(self) -> tuple[Floats, Floats]:
        """Mean loss at each position, and in each bootstrap sample, shape (draws, positions)."""
        losses = [self.losses[at] for at in self.positions]
        table = np.stack([*(loss.nats for loss in losses), losses[0].tokens], axis=1)
        drawn = resampled(table)
        total = table.sum(axis=0)
        return total[:-1] / total[-1], drawn[:, :-1] / drawn[:, -1:]


def _lowest(grid: Floats, losses: Floats) -> float:
    least = int(np.argmin(losses))
    if least in (0, len(grid) - 1):
        return float(grid[least])
    x, y = grid[least - 1 : least + 2], losses[least - 1 : least + 2]
    (a, b), (c, d) = np.diff(x), np.diff(y)
    left, right = c / a, d / b
    if right - left <= 0:
        return float(grid[least])
    vertex = (x[0] + x[1]) / 2 - left * (x[2] - x[0]) / (2 * (right - left))
    return float(np.clip(vertex, x[0], x[2]))


def _rise(shares: Floats, losses: Floats) -> Floats:
    straight = np.outer(losses[:, 0], 1 - shares) + np.outer(losses[:, -1], shares)
    return np.asarray((losses - straight).max(axis=1), np.float64)


@dataclass(frozen=True)
class LossEvidence:
    """Losses on one held-out text.

    Attributes:
        text: The text.
        curve: Loss of m_t + λΔ over λ.
        source: Losses of m_s (λ = 0) and m'_s = m_s + Δ (λ = 1), where m_s is available.
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
        return self.curve.gain(min(losses, key=lambda scale: losses[scale].mean))

    @property
    def source_gain(self) -> Estimate | None:
        """L(m_s) − L(m'_s): the gain of fine-tuning, where Δ comes from."""
        if self.source is None or 1.0 not in self.source.losses:
            return None
        return self.source.gain(1.0)

    @property
    def kept(self) -> Estimate | None:
        """(L(m_t) − L(m_t + Δ)) / (L(m_t) − L(m'_s)): the gain as a share of the possible gain.

        L(m'_s) stands for the loss of m_t fine-tuned, which is not known. ``None`` where m_s is
        not available, or m_t is already as good as m'_s.
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

        def loss(scale: float) -> dict[str, float] | None:
            measured = None if source is None else source.losses.get(scale)
            return None if measured is None else measured.estimate().to_json()

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
