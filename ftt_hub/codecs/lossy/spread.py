"""Statistics of a block before it is rotated: the spread of its runs, and its components.

From these alone follow the number of components worth storing, and bits and noise at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ftt_hub.codecs.lossy import gaussian, rotation

_GAIN_BITS = 6.0
"""Approximate bits of the gain of a run."""

_GROUPS = 32
"""Groups of runs of similar spread; statistics are kept for each group."""

_TOGETHER = 1 << 10
"""Blocks that are predicted together."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class BlockStatistics:
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

    def _bits(self, step: float, rms: float, rest: Numbers) -> Numbers:
        used, relative = _relative(step, rms, self.spreads * np.sqrt(rest))
        bits = self.widths * gaussian.bits(relative) + _GAIN_BITS * self.runs
        return np.where(used, bits, 0.0)


class StackedStatistics:
    """The statistics of many blocks, side by side so that a prediction is a few array operations.

    Args:
        blocks: Statistics of each block.
    """

    def __init__(self, blocks: Sequence[BlockStatistics]) -> None:
        groups = max((block.runs.size for block in blocks), default=1)
        ranks = max((block.rest.size for block in blocks), default=1)
        self._runs, self._widths, self._spreads = np.zeros((3, len(blocks), groups))
        self._rest = np.zeros((len(blocks), ranks))
        self._component_bits = np.array([block.component_bits for block in blocks])
        self._known = np.array([block.rest.size for block in blocks], np.intp)
        for number, block in enumerate(blocks):
            self._runs[number, : block.runs.size] = block.runs
            self._widths[number, : block.widths.size] = block.widths
            self._spreads[number, : block.spreads.size] = block.spreads
            self._rest[number, : block.rest.size] = block.rest

    def predict(self, step: float, rms: float) -> tuple[float, float]:
        """Bits, and Σ (Δ̂ − Δ)², expected, of all blocks, each with the components worth it."""
        bits = error = 0.0
        for start in range(0, len(self._rest), _TOGETHER):
            more, spoilt = self._predict(slice(start, start + _TOGETHER), step, rms)
            bits, error = bits + more, error + spoilt
        return bits, error

    def _predict(self, part: slice, step: float, rms: float) -> tuple[float, float]:
        runs, widths, spreads = (a[part] for a in (self._runs, self._widths, self._spreads))
        rest, each = self._rest[part], self._component_bits[part]
        numbers = np.arange(rest.shape[1])
        used, relative = _relative(step, rms, spreads[:, None] * np.sqrt(rest)[:, :, None])
        taken = widths[:, None] * gaussian.bits(relative) + _GAIN_BITS * runs[:, None]
        bits = np.where(used, taken, 0.0).sum(2)
        whole = bits + each[:, None] * numbers
        price = np.where(numbers < self._known[part, None], bits + whole, np.inf)
        rank = price.argmin(1)  # as `BlockStatistics.rank`
        blocks = np.arange(rank.size)
        used, relative = used[blocks, rank], relative[blocks, rank]
        noise = gaussian.noise(relative, widths / np.maximum(runs, 1.0))
        error = widths * np.square(spreads) * rest[blocks, rank][:, None] * noise
        return float(whole[blocks, rank].sum()), float(error[used].sum())


def _relative(step: float, rms: float, spreads: Numbers) -> tuple[NDArray[np.bool_], Numbers]:
    """Which groups of runs change at all, and each group's step over its spread."""
    used = spreads > 0
    relative = rotation.step_of(step, rms, spreads) / np.where(used, spreads, 1.0)
    return used, np.where(used, relative, 1.0)


class LeadingComponents(Protocol):
    """What is known of a block's leading components before any is stored."""

    @property
    def rest(self) -> Numbers:
        """Part of ‖Δ‖² left after 0, 1, … of them."""

    def cost(self, rank: int) -> float:
        """Bits of so many."""


def measure(values: NDArray[np.float32], leading: LeadingComponents | None) -> BlockStatistics:
    """The statistics of a block's Δ, of which these components may be stored apart."""
    whole, rest = rotation.widths(values.size)
    split = whole * rotation.WIDTH
    body = values[:split].reshape(whole, rotation.WIDTH)
    squares = np.einsum("ij,ij->i", body, body, dtype=np.float64)
    widths = np.full(whole, float(rotation.WIDTH))
    if rest:
        squares = np.append(squares, np.square(values[split:], dtype=np.float64).sum())
        widths = np.append(widths, float(rest))
    left = np.ones(1) if leading is None else leading.rest
    cost = 0.0 if leading is None else leading.cost(1)
    order = np.argsort(squares / widths, kind="stable")
    parts = np.array_split(order, max(1, min(_GROUPS, order.size)))
    runs = np.array([float(part.size) for part in parts])
    total = np.array([widths[part].sum() for part in parts])
    spreads = np.sqrt(np.array([squares[part].sum() for part in parts]) / np.maximum(total, 1.0))
    return BlockStatistics(runs, total, spreads, left, cost)
