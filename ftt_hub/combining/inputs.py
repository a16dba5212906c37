"""The inputs of a combination, and which of them each tensor of the result is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import ADDED, TensorEntry
from ftt_hub.tensors.chunk_sums import Floats
from ftt_hub.tensors.delta import CHUNK
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.rounding import widen

if TYPE_CHECKING:
    from ftt_hub.combining.recipe import Ingredient


@dataclass(frozen=True, eq=False)
class Input:
    """One adapter of a combination.

    Attributes:
        ingredient: Its weight and layers, from the recipe.
        adapter: The opened adapter.
    """

    ingredient: Ingredient
    adapter: Adapter

    @property
    def label(self) -> str:
        """How the user named it."""
        return self.adapter.label

    @property
    def key(self) -> str:
        """What identifies its content."""
        return self.adapter.config.content_digest

    def entry(self, name: str) -> TensorEntry | None:
        """The index entry of a tensor, ``None`` where the adapter does not know it."""
        return self.adapter.container.entries.get(name)

    def has(self, name: str, start: int) -> bool:
        """Whether it stores anything of a tensor from an element on."""
        entry = self.entry(name)
        return entry is not None and entry.slot is not None and start < entry.count

    def read(self, name: str, start: int, count: int) -> DeltaBlock | None:
        """Δ of a run of elements, ``None`` where the adapter stores none of them.

        Raises:
            IntegrityError: A frame is damaged.
        """
        entry = self.entry(name)
        if entry is None or entry.slot is None or start >= entry.count:
            return None
        stored = min(count, entry.count - start)
        blocks = [b for _, b in self.adapter.container.decode_range(entry, start, stored)]
        return joined(blocks, count)


@dataclass(frozen=True)
class CombinedTensor:
    """One tensor of the result.

    Attributes:
        entry: As in an index; its blocks have elements but no bytes yet.
        inputs: The inputs with a weight for this tensor, also those that do not change it.
        weights: One per input.
        givers: The inputs that rows or tensors added by fine-tuning come from.
        shares: One weight per giver.
    """

    entry: TensorEntry
    inputs: tuple[Input, ...] = ()
    weights: tuple[float, ...] = ()
    givers: tuple[Input, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def changes(self) -> int:
        """How many elements are changes; the elements after them are added values."""
        if self.entry.role == ADDED:
            return 0
        if self.entry.source_rows is not None:
            return self.entry.source_rows * self.entry.row_elements
        return self.entry.count

    def chunks(self, inputs: tuple[Input, ...]) -> Iterator[list[Floats]]:
        """The changes by some inputs in float64, a chunk at a time; one block is in memory."""
        start = 0
        for block in self.entry.blocks:
            count = min(block.elements, self.changes - start)
            if count <= 0:
                return
            deltas = [i.read(self.entry.name, start, count) for i in inputs]
            for first in range(0, count, CHUNK):
                part = slice(first, min(first + CHUNK, count))
                yield [values_of(delta, part) for delta in deltas]
            start += count


@dataclass(frozen=True)
class Agreement:
    """Inputs that fit together.

    Attributes:
        inputs: In the order of the recipe.
        tensors: The tensors of the result by name, sorted.
        vocabulary: The input whose tokenizer the result has.
        notes: What a user should know.
    """

    inputs: tuple[Input, ...]
    tensors: Mapping[str, CombinedTensor]
    vocabulary: Input
    notes: tuple[str, ...]


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
