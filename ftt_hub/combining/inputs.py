"""The inputs of a combination: opened adapters, of which runs of Δ are read by tensor name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.combining.recipe import Ingredient
from ftt_hub.combining.statistics import Floats
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.rounding import widen


@dataclass(frozen=True, eq=False)
class Input:
    """One adapter of a combination.

    Attributes:
        ingredient: What the recipe says of it.
        adapter: It, opened.
        is_respelled: Whether its tensors have the first input's names and not its own.
    """

    ingredient: Ingredient
    adapter: Adapter
    is_respelled: bool = False

    @property
    def label(self) -> str:
        """How the user named it."""
        return self.adapter.label

    @property
    def key(self) -> str:
        """What identifies its content."""
        return self.adapter.config.content_digest

    def entry(self, name: str) -> TensorEntry | None:
        """Its index entry of a tensor."""
        return self.adapter.container.entries.get(name)

    def has(self, name: str, start: int) -> bool:
        """Whether it stores anything of a tensor from an element on."""
        entry = self.entry(name)
        return entry is not None and entry.slot is not None and start < entry.count

    def read(self, name: str, start: int, count: int) -> DeltaBlock | None:
        """Δ of a run of elements, ``None`` where it has none of them.

        Raises:
            IntegrityError: A frame is damaged.
        """
        entry = self.entry(name)
        if entry is None or entry.slot is None or start >= entry.count:
            return None
        held = min(count, entry.count - start)
        blocks = [b for _, b in self.adapter.container.decode_range(entry, start, held)]
        return joined(blocks, count)


def joined(blocks: Sequence[DeltaBlock], count: int) -> DeltaBlock:
    """Blocks back to back, filled up with "no change" to `count` elements."""
    first = blocks[0]
    if len(blocks) == 1 and first.hi.size == count:
        return first
    hi = np.full(count, first.dtype.sign_bit, first.dtype.numpy)
    lo = np.zeros_like(hi) if any(block.lo is not None for block in blocks) else None
    start = 0
    for block in blocks:
        part = np.s_[start : start + block.hi.size]
        hi[part] = block.hi
        if lo is not None and block.lo is not None:
            lo[part] = block.lo
        start += block.hi.size
    return DeltaBlock(hi, lo, first.dtype)


def values_of(block: DeltaBlock | None, part: slice) -> Floats:
    """Hi + lo of a part of a block in float64; zeros where there is no block."""
    if block is None:
        return np.zeros(part.stop - part.start)
    values = widen(block.hi[part], block.dtype).astype(np.float64)
    return values if block.lo is None else values + widen(block.lo[part], block.dtype)
