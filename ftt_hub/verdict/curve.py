"""The loss of m_t + λΔ over λ: the best λ, the barrier, and how sure both are.

All losses are of the same windows of text, so that intervals come from one bootstrap over windows
(`ftt_hub.loss.estimates`), in which the spread of the text cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub.loss import Estimate, Loss
from ftt_hub.loss.estimates import bounds, resampled

Floats = NDArray[np.float64]

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Curve:
    """Losses along a line through weight space.

    Attributes:
        losses: Place on the line → loss; places whose loss is not a number are left out.
        broken: Those places.
    """

    losses: Mapping[float, Loss]
    broken: tuple[float, ...] = ()

    @property
    def places(self) -> list[float]:
        """Places with a loss, in order."""
        return sorted(self.losses)

    def points(self) -> list[tuple[float, Estimate]]:
        """Each place with its loss, nats per token."""
        return [(place, self.losses[place].estimate()) for place in self.places]

    def best(self) -> Estimate:
        """The place of least loss.

        Between the places measured a parabola through the least one and its neighbours tells; at
        either end of the line it is the end.
        """
        means, drawn = self._means()
        grid = np.array(self.places)
        return bounds(_lowest(grid, means), np.array([_lowest(grid, row) for row in drawn]))

    def barrier(self, start: float = 0.0, stop: float = 1.0) -> Estimate:
        """Largest rise above the straight line between the ends (Frankle et al. 2020), ≥ 0.

        They speak of the error at the midpoint of two networks of equal error; for ends of unequal
        loss the line between them takes the place of their mean.
        """
        inside = [place for place in self.places if start <= place <= stop]
        columns = [self.places.index(place) for place in inside]
        means, drawn = self._means()
        shares = (np.array(inside) - start) / (stop - start)
        return bounds(
            float(_rise(shares, means[None, columns])[0]), _rise(shares, drawn[:, columns])
        )

    def gain(self, place: float, reference: float = 0.0) -> Estimate:
        """Loss at `reference` minus loss at `place`: what moving there wins, nats per token."""
        means, drawn = self._means()
        one, other = self.places.index(place), self.places.index(reference)
        return bounds(float(means[other] - means[one]), drawn[:, other] - drawn[:, one])

    def _means(self) -> tuple[Floats, Floats]:
        """Mean loss at each place, and in each bootstrap sample, shape (draws, places)."""
        losses = [self.losses[place] for place in self.places]
        table = np.stack([*(loss.nats for loss in losses), losses[0].tokens], axis=1)
        drawn = resampled(table)
        total = table.sum(axis=0)
        return total[:-1] / total[-1], drawn[:, :-1] / drawn[:, -1:]


def _lowest(grid: Floats, losses: Floats) -> float:
    place = int(np.argmin(losses))
    if place in (0, len(grid) - 1):
        return float(grid[place])
    x, y = grid[place - 1 : place + 2], losses[place - 1 : place + 2]
    (a, b), (c, d) = np.diff(x), np.diff(y)
    left, right = c / a, d / b
    if right - left <= 0:
        return float(grid[place])
    vertex = (x[0] + x[1]) / 2 - left * (x[2] - x[0]) / (2 * (right - left))
    return float(np.clip(vertex, x[0], x[2]))


def _rise(shares: Floats, losses: Floats) -> Floats:
    straight = np.outer(losses[:, 0], 1 - shares) + np.outer(losses[:, -1], shares)
    return np.asarray((losses - straight).max(axis=1), np.float64)
