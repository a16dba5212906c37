"""The matrices that `benchmarks/codecs.py` stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock

Block = tuple[str, tuple[int, ...], DeltaBlock, BlockContext]


class Pair:
    """The matrices of two checkpoints, in bf16."""

    def __init__(self, source: Path, tuned: Path, every: int) -> None:
        self.source, self.tuned = Checkpoint(source), Checkpoint(tuned)
        matrices = [t for t in self.tuned.tensors.values() if len(t.shape) == 2]
        self.tensors = matrices[::every]
        self.count = sum(t.count for t in self.tensors)

    def blocks(self) -> Iterator[Block]:
        """Each matrix as one block of Δ."""
        for info in self.tensors:
            before = self.source.read_bits(info.name, 0, info.count)
            after = self.tuned.read_bits(info.name, 0, info.count)
            block, _ = delta.compute(before, after, info.dtype)
            place = BlockContext(info.name, 0, before, after, info.shape[-1])
            yield info.name, info.shape, block, place
