"""What a lossy method of `benchmarks/peers.py` makes of a matrix of Δ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """A delta as a lossy method gives it back, and the bits it took."""

    values: Matrix
    bits: float
