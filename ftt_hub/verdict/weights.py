"""Exact figures of a transfer's weights: distances, cosines, and the spectra of some matrices.

*Effective rank*: exp of the Shannon entropy of σ²/Σσ² (Roy and Vetterli 2007 take σ; squares weigh
directions by their share of ‖Δ‖²). *Intruder dimensions*: among the `TOP` leading singular vectors
of W + Δ those whose largest |cosine| with any singular vector of W is below `SIMILARITY`
(Shuttleworth et al. 2024, "LoRA vs Full Fine-tuning: An Illusion of Equivalence", section 3).
Theirs are left singular vectors; here those on the matrix's shorter side, which a Gram matrix
gives in a fraction of the time, and W is the target, since that is what Δ is added to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|block)\.(\d+)\.")
"""Finds the layer's number in a tensor's name."""
TOP = 10
SIMILARITY = 0.5
_FLOOR = 1e-12
"""Squares below this share of the largest are rounding of the Gram matrix, and count as zero."""


@dataclass
class Sums:
    """Sums over elements of one tensor or of several, in float64.

    Attributes:
        count: Elements compared.
        source: Σ m_s².
        target: Σ m_t².
        delta: Σ Δ².
        moved: Σ (m_t − m_s)².
        source_target: Σ m_s·m_t.
        delta_moved: Σ Δ·(m_t − m_s).
        delta_target: Σ Δ·m_t.
        other: Σ of the squares of the other adapter's Δ.
        delta_other: Σ Δ·Δ_other.
        both: Elements that both adapters change.
        conflicts: Of these, those they push in opposite directions (Yadav et al. 2023, TIES).
    """

    count: int = 0
    source: float = 0.0
    target: float = 0.0
    delta: float = 0.0
    moved: float = 0.0
    source_target: float = 0.0
    delta_moved: float = 0.0
    delta_target: float = 0.0
    other: float = 0.0
    delta_other: float = 0.0
    both: int = 0
    conflicts: int = 0

    def add(self, more: Sums) -> None:
        """Merge the sums of another part into these."""
        for name, value in asdict(more).items():
            setattr(self, name, getattr(self, name) + value)

    def figures(self, *, based: bool, compared: bool) -> dict[str, float | None]:
        """Distances and cosines; ``None`` where they are not known."""
        return {
            "delta_to_target": _ratio(self.delta, self.target),
            "distance": _ratio(self.moved, self.source) if based else None,
            "cosine": _cosine(self.source_target, self.source, self.target) if based else None,
            "overlap": _cosine(self.delta_moved, self.delta, self.moved) if based else None,
            "other_cosine": _cosine(self.delta_other, self.delta, self.other) if compared else None,
            "sign_conflicts": self.conflicts / self.both if compared and self.both else None,
        }


def _ratio(part: float, whole: float) -> float | None:
    return math.sqrt(part / whole) if whole > 0 else None


def _cosine(dot: float, first: float, second: float) -> float | None:
    product = math.sqrt(first) * math.sqrt(second)
    return dot / product if product > 0 else None


@dataclass(frozen=True)
class WeightsEvidence:
    """Exact figures of a transfer's weights.

    Attributes:
        total: Over all matrices. Norms and biases are left out: they are few and large.
        tensors: Over each tensor.
        spectra: Of some matrices that Δ changes.
        based: Whether the source base was available.
        compared: Whether another adapter was given.
    """

    total: Sums
    tensors: Mapping[str, Sums]
    spectra: Mapping[str, Spectrum] = field(default_factory=dict)
    based: bool = False
    compared: bool = False

    @property
    def layers(self) -> dict[str, Sums]:
        """Sums by layer number; what lies outside the layers counts as ``other``."""
        layers: dict[str, Sums] = {}
        for name, sums in self.tensors.items():
            match = LAYER.search(name)
            layers.setdefault(match[1] if match else "other", Sums()).add(sums)
        return dict(sorted(layers.items(), key=lambda i: (not i[0].isdigit(), i[0].zfill(6))))

    @property
    def figures(self) -> dict[str, float | None]:
        """Distances and cosines over all matrices."""
        return self.total.figures(based=self.based, compared=self.compared)

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        options = {"based": self.based, "compared": self.compared}
        whole = sum(sums.delta for sums in self.tensors.values()) or 1.0
        return {
            "overall": self.figures,
            "tensors": {n: s.figures(**options) for n, s in self.tensors.items()},
            "layers": {
                layer: {**s.figures(**options), "share_of_delta": s.delta / whole}
                for layer, s in self.layers.items()
            },
            "spectra": {name: s.to_json() for name, s in self.spectra.items()},
        }


@dataclass(frozen=True)
class Spectrum:
    """Spectrum of one matrix of Δ.

    Attributes:
        shape: Of the matrix.
        norm: ‖Δ‖.
        effective_rank: exp(entropy of σ²); 0 for Δ = 0, at most the shorter side.
        rank_90: Directions that hold 90% of ‖Δ‖².
        top_ratio: σ₁(Δ) / σ₁(W): above 1 Δ is stronger than anything in W.
        intruders: Of the leading singular vectors of W + Δ, those unlike any of W.
    """

    shape: tuple[int, ...]
    norm: float
    effective_rank: float
    rank_90: int
    top_ratio: float
    intruders: int

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "shape": list(self.shape),
            "norm": self.norm,
            "effective_rank": self.effective_rank,
            "rank_90": self.rank_90,
            "top_ratio": self.top_ratio,
            "intruders": self.intruders,
        }


def spectrum_of(weights: Floats, delta: Floats) -> Spectrum:
    """Spectrum of a delta against the matrix it is added to; both float64, of one 2-D shape."""
    if weights.shape[0] > weights.shape[1]:
        weights, delta = weights.T, delta.T
    squares = _clean(np.asarray(np.linalg.eigvalsh(delta @ delta.T), np.float64))
    before, base = np.linalg.eigh(weights @ weights.T)
    total = float(squares.sum())
    shape = (int(weights.shape[0]), int(weights.shape[1]))
    if total == 0:
        return Spectrum(shape, 0.0, 0.0, 0, 0.0, 0)
    shares = squares[squares > 0] / total
    entropy = float(-(shares * np.log(shares)).sum())
    descending = np.sort(shares)[::-1]
    needed = int(np.searchsorted(np.cumsum(descending), 0.9) + 1)
    strongest = float(before[-1])
    return Spectrum(
        shape,
        float(np.sqrt(total)),
        float(np.exp(entropy)),
        min(needed, shares.size),
        float(np.sqrt(squares.max() / strongest)) if strongest > 0 else 0.0,
        intruders(base, weights + delta),
    )


def intruders(base: Floats, tuned: Floats) -> int:
    """Leading singular vectors of `tuned` (rows shorter) unlike any column of `base`."""
    _, vectors = np.linalg.eigh(tuned @ tuned.T)
    leading = vectors[:, -TOP:]
    return int(np.count_nonzero(np.abs(base.T @ leading).max(axis=0) < SIMILARITY))


def _clean(squares: Floats) -> Floats:
    largest = float(squares.max(initial=0.0))
    return np.asarray(np.where(squares > largest * _FLOOR, squares, 0.0))
