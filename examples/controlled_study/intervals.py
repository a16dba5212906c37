"""Means over seeds with Student's 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_T = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5% points of Student's t for 0 (nothing can be said) to 10 degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and where it lies with 95% confidence.

    Attributes:
        mean: Of the values.
        half: Half the interval's width; infinite for a single value.
    """

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of independent values, taken as normally distributed.

        Raises:
            ValueError: There are none.
        """
        count = len(values)
        if not count:
            raise ValueError("no values")
        mean = math.fsum(values) / count
        if count == 1:
            return cls(mean, math.inf)
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1))
        return cls(mean, _T[min(count - 1, len(_T) - 1)] * spread / math.sqrt(count))

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half
