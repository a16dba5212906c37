"""The spectrum of a delta: its effective rank, and the directions it brings in.

*Effective rank*: exp of the Shannon entropy of σ²/Σσ² (Roy and Vetterli 2007 take σ; squares weigh
directions by their share of ‖Δ‖²). *Intruder dimensions*: among the `TOP` leading singular vectors
of W + Δ those whose largest |cosine| with any singular vector of W is below `SIMILARITY`
(Shuttleworth et al. 2024, "LoRA vs Full Fine-tuning: An Illusion of Equivalence", section 3).
Theirs are left singular vectors; here those on the matrix's shorter side, which a Gram matrix
gives in a fraction of the time, and W is the target, since that is what Δ is added to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOP = 10
SIMILARITY = 0.5
_FLOOR = 1e-12
"""Squares below this share of the largest are rounding of the Gram matrix, and count as zero."""


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
