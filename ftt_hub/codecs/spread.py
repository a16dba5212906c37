"""What a block needs to be known by before it is rotated: the spread of its runs, its components.

From these alone follow the number of components worth storing, and bits and noise at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs import components, gaussian, rotation
from ftt_hub.codecs.rotated import step_of

_GAIN_BITS = 6.0
"""Bits that the gain of a run takes, about."""

_GROUPS = 32
"""Groups of runs of similar spread that statistics are kept of."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Statistics of one block.

    Attributes:
        runs: Number of runs in each group of similar ones.
        widths: Coefficients of each group.
        spreads: Root mean square of each group.
        rest: Part of ‖Δ‖² left after 0, 1, … components; a single 1 where none were looked for.
        component_bits: Bits of one component.
    """

    runs: Numbers
    widths: Numbers
    spreads: Numbers
    rest: Numbers
    component_bits: float

    def rank(self, step: float, rms: float) -> int:
        """Components worth their bits.

        Where noise falls with the bits as 1/bits, as it does at low rates, the noise of a run at
        the best allotment of bits is worth as many bits again: a component pays if it takes less
        than twice what it saves.
        """
        bits = self._bits(step, rms, self.rest[:, None]).sum(1)
        return int(np.argmin(2 * bits + self.component_bits * np.arange(self.rest.size)))

    def predict(self, step: float, rms: float) -> tuple[float, float]:
        """Bits, and Σ (Δ̂ − Δ)², expected."""
        rank = self.rank(step, rms)
        rest = self.rest[rank : rank + 1]
        used, relative = self._relative(step, rms, rest)
        each = gaussian.noise(relative, self.widths / np.maximum(self.runs, 1.0))
        noise = self.widths * np.square(self.spreads) * rest * each
        bits = float(self._bits(step, rms, rest).sum()) + rank * self.component_bits
        return bits, float(noise[used].sum())

    def _relative(
        self, step: float, rms: float, rest: Numbers
    ) -> tuple[NDArray[np.bool_], Numbers]:
        """Which groups change at all, and each group's step over its spread."""
        spreads = self.spreads * np.sqrt(rest)
        used = spreads > 0
        relative = step_of(step, rms, spreads) / np.where(used, spreads, 1.0)
        return used, np.where(used, relative, 1.0)

    def _bits(self, step: float, rms: float, rest: Numbers) -> Numbers:
        used, relative = self._relative(step, rms, rest)
        bits = self.widths * gaussian.bits(relative) + _GAIN_BITS * self.runs
        return np.where(used, bits, 0.0)


def measure(
    values: NDArray[np.float32], columns: int
) -> tuple[Spread, components.Components | None]:
    """The statistics of a block's Δ, and its components where there may be some."""
    whole, rest = rotation.widths(values.size)
    split = whole * rotation.WIDTH
    body = values[:split].reshape(whole, rotation.WIDTH)
    squares = np.einsum("ij,ij->i", body, body, dtype=np.float64)
    widths = np.full(whole, float(rotation.WIDTH))
    if rest:
        squares = np.append(squares, np.square(values[split:], dtype=np.float64).sum())
        widths = np.append(widths, float(rest))
    found = components.find(values, columns)
    left = np.ones(1) if found is None else found.rest
    cost = 0.0 if found is None else found.cost(1)
    order = np.argsort(squares / widths, kind="stable")
    parts = np.array_split(order, max(1, min(_GROUPS, order.size)))
    runs = np.array([float(part.size) for part in parts])
    total = np.array([widths[part].sum() for part in parts])
    spreads = np.sqrt(np.array([squares[part].sum() for part in parts]) / np.maximum(total, 1.0))
    return Spread(runs, total, spreads, left, cost), found
