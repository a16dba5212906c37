"""The magnitude above which an input's changes are kept, over its whole diff vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ftt_hub.combining.inputs import CombinedTensor, Input
from ftt_hub.support.parallel import map_unordered
from ftt_hub.tensors.order_statistics import (
    kept,
    locate,
    lower_histogram,
    magnitude,
    upper_histogram,
)


def threshold(
    item: Input, tensors: Mapping[str, CombinedTensor], density: float, workers: int | None
) -> float:
    """The smallest of the `density` · n largest magnitudes of one input, n over all its tensors.

    Two passes that count and keep nothing; the sums are whole numbers, so that the order of the
    threads does not matter.

    Raises:
        IntegrityError: A frame is damaged.
    """
    mine = [p for p in tensors.values() if item in p.inputs and p.changes]
    total = sum(p.changes for p in mine) + _unchanged(item, tensors)
    if not total or density >= 1:
        return 0.0
    stored = [p for p in mine if item.has(p.entry.name, 0)]
    zeros = total - sum(p.changes for p in stored)

    def count(upper: int | None) -> NDArray[np.int64]:
        def one(combined: CombinedTensor) -> NDArray[np.int64]:
            sums = np.zeros(1 << 16, np.int64)
            for (values,) in combined.chunks((item,)):
                sums += upper_histogram(values) if upper is None else lower_histogram(values, upper)
            return sums

        return sum(map_unordered(one, stored, workers), np.zeros(1 << 16, np.int64))

    histogram = count(None)
    histogram[0] += zeros
    upper, rank = locate(histogram, total - kept(density, total))
    lower = count(upper)
    lower[0] += zeros if upper == 0 else 0
    return magnitude(upper, locate(lower, rank)[0])


def _unchanged(item: Input, tensors: Mapping[str, CombinedTensor]) -> int:
    """Elements of tensors that no input changes: zeros of the diff vector like any other."""

    def counts() -> Iterator[int]:
        for name, combined in tensors.items():
            plain = combined.entry.slot is None and combined.entry.of is None
            if plain and combined.entry.dtype.is_float and item.entry(name) is not None:
                yield combined.entry.count if item.ingredient.weight_of(name) else 0

    return sum(counts())
