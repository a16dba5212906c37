"""The best low-rank approximation of a matrix, without a full singular value decomposition.

Where the smaller side is short, the eigenvectors of the Gram matrix ΔΔᵀ give the leading singular
vectors exactly, at a fraction of the cost of an SVD. Where it is long, a random range finder does
(Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1: power iterations with a QR after every
step, oversampling), with all the iterates kept as one block Krylov space (Musco and Musco 2015,
algorithm 2), which flat spectra such as those of Δ need. What a subspace captures is measured, not
estimated: ‖Δ‖² − ‖UᵀΔ‖² is the squared error, and ‖Δ‖² the trace of the Gram matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ftt_hub.errors import FttError

GRAM_SIDE = 1536
"""Smaller side up to which the Gram matrix is decomposed."""
SMALL = 1e-4
"""Share of ‖Δ‖² below which the residual is measured on the difference itself."""
OVERSAMPLE = 16
ITERATIONS = 4
FIRST_RANK = 32
"""First rank that the search tries, for matrices too large for the Gram matrix."""


@dataclass(frozen=True)
class Goal:
    """How good an approximation must be; exactly one of the three.

    Attributes:
        rank: This many components.
        energy: So many that they hold this share of ‖Δ‖².
        error: So many that ‖Δ − BA‖/‖Δ‖ is at most this.

    Raises:
        FttError: None or several are given, or out of range.
    """

    rank: int | None = None
    energy: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.rank, self.energy, self.error) if v is not None]
        if len(given) != 1:
            raise FttError("name one of rank, energy and max error", found=f"{len(given)} of them")
        if self.rank is not None and not 1 <= self.rank <= 65536:
            raise FttError("the rank must be between 1 and 65536", found=self.rank)
        share = self.energy if self.energy is not None else self.error
        if share is not None and not (math.isfinite(share) and 0 < share < 1):
            raise FttError("energy and max error must lie between 0 and 1", found=share)

    @property
    def share(self) -> float | None:
        """The share of ‖Δ‖² to hold, ``None`` for a fixed rank."""
        if self.error is not None:
            return 1 - self.error**2
        return self.energy


@dataclass(frozen=True)
class Factors:
    """Δ ≈ left · right.

    Attributes:
        left: Rows × rank.
        right: Rank × columns.
        square: ‖Δ‖².
        residual: ‖Δ − left · right‖².
        kept: Whether Δ was stored as these factors.
    """

    left: torch.Tensor
    right: torch.Tensor
    square: float
    residual: float
    kept: bool = False

    @property
    def rank(self) -> int:
        """Number of components."""
        return int(self.right.shape[0])

    @property
    def error(self) -> float:
        """‖Δ − left · right‖/‖Δ‖."""
        return math.sqrt(self.residual / self.square) if self.square else 0.0


@torch.no_grad()
def factorize(matrix: torch.Tensor, goal: Goal, *, seed: int = 0) -> Factors:
    """Factors of a matrix that meet a goal, with the scale shared between both.

    Args:
        matrix: 2-D, float32, on any device.
        goal: Rank, energy or error.
        seed: Seed for the random test vectors.
    """
    if matrix.shape[0] > matrix.shape[1]:
        turned = factorize(matrix.T, goal, seed=seed)
        return Factors(turned.right.T, turned.left.T, turned.square, turned.residual)
    gram = _gram(matrix) if matrix.shape[0] <= GRAM_SIDE else None
    square = float(_squares(matrix) if gram is None else gram.diagonal().double().sum())
    basis, values = _leading(matrix, gram, goal, square, seed)
    rank = _rank(values, goal, square)
    basis, values = basis[:, :rank], values[:rank]
    projected = basis.T @ matrix
    residual = square - float(_squares(projected))
    if residual < SMALL * square:  # the difference of two float32 sums would say little
        residual = float(_squares(matrix - basis @ projected))
    scale = values.clamp_min(0).sqrt().sqrt()  # the root of the singular value
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return Factors(basis * scale, projected / safe[:, None], square, residual)


@torch.no_grad()
def shortened(left: torch.Tensor, right: torch.Tensor, goal: Goal) -> Factors:
    """Factors of left · right that meet a goal; the factors themselves if the goal is their rank.

    Fewer components come from the singular values of the product, by QR of both factors: exact, and
    Δ is never made.

    Args:
        left: Rows × rank, float64.
        right: Rank × columns, float64.
        goal: Rank, energy or error.
    """
    square = float(((left.T @ left) * (right @ right.T)).sum())
    if goal.rank is not None and goal.rank >= right.shape[0]:
        return Factors(left.float(), right.float(), square, 0.0, kept=True)
    (columns, upper), (rows, lower) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    rank = _rank(values.square(), goal, square)
    root = values[:rank].sqrt()
    residual = float(values[rank:].square().sum())
    first, second = columns @ u[:, :rank] * root, (rows @ v[:rank].T * root).T
    return Factors(first.float(), second.float(), square, residual)


def _rank(values: torch.Tensor, goal: Goal, square: float) -> int:
    """Components to keep, of squared singular values in descending order."""
    if goal.share is None:
        return min(goal.rank or 1, len(values))
    sums = torch.cumsum(values.double(), 0)
    enough = torch.tensor(goal.share * square).to(sums)
    return min(len(values), 1 + int(torch.searchsorted(sums, enough)))


def _gram(matrix: torch.Tensor) -> torch.Tensor:
    """Matrix · matrixᵀ; NumPy computes one half of it only, which torch does not."""
    if matrix.device.type != "cpu":
        return matrix @ matrix.T
    values = matrix.numpy()
    return torch.from_numpy(values @ values.T)


def _squares(matrix: torch.Tensor) -> torch.Tensor:
    """‖matrix‖², row by row in float32 and over the rows in float64."""
    lengths: torch.Tensor = torch.linalg.vector_norm(matrix, dim=1)
    return lengths.double().square().sum()


def _leading(
    matrix: torch.Tensor, gram: torch.Tensor | None, goal: Goal, square: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leading left singular vectors, and squared singular values, in descending order."""
    side = matrix.shape[0]
    rank = goal.rank if goal.rank is not None else FIRST_RANK
    while gram is None and (ITERATIONS + 1) * (rank + OVERSAMPLE) < side:
        basis, values = _krylov(matrix, rank + OVERSAMPLE, seed)
        if goal.share is None:
            return basis[:, :rank], values[:rank]
        if float(values[:rank].double().sum()) >= goal.share * square:
            return basis[:, :rank], values[:rank]
        rank *= 2
    values, vectors = torch.linalg.eigh(_gram(matrix) if gram is None else gram)
    kept = side if goal.rank is None else min(goal.rank, side)
    return vectors[:, side - kept :].flip(1), values[side - kept :].flip(0)


def _krylov(matrix: torch.Tensor, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    test = torch.randn(matrix.shape[1], width, generator=generator).to(matrix)
    blocks = [torch.linalg.qr(matrix @ test)[0]]
    for _ in range(ITERATIONS):
        blocks.append(torch.linalg.qr(matrix @ (matrix.T @ blocks[-1]))[0])
    basis = torch.linalg.qr(torch.cat(blocks, 1))[0]
    values, vectors = torch.linalg.eigh((small := basis.T @ matrix) @ small.T)
    return basis @ vectors.flip(1), values.flip(0)
