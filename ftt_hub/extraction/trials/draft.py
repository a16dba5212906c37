"""A diff vector in some coding, made from its two models as it is asked for; nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftt_hub.artifact.index import DELTA, RESIZED, UNCHANGED, Block, RawTensor, TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.extraction.encoding import Weights, codec_for, finite, read_block, rounded, row_length
from ftt_hub.extraction.pairs import Pair
from ftt_hub.support.parallel import map_unordered
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta import DeltaStatistics
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, whole_rows

_NO_HASH = "0" * 64


@dataclass(frozen=True)
class Cost:
    """What a coding takes and spoils, over all tensors.

    Attributes:
        bits_per_weight: As `Fidelity` has it.
        noise: Likewise.
    """

    bits_per_weight: float
    noise: float


class Draft(Container):
    """The deltas of a pair of models as they come back from a codec.

    Whoever decodes a block has it read, subtracted, encoded and decoded; `cost` does the blocks
    that nobody asked for. No frame is kept, so that memory is that of the blocks under way.

    Args:
        pairs: The tensors.
        source: The source base.
        tuned: The fine-tuned model.
        codec: The codec; ``None`` for Δ itself, which costs nothing to code.
        label: Stands for the folder in messages.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        source: Weights,
        tuned: Weights,
        codec: Codec | None,
        label: str,
    ) -> None:
        self._pairs = {pair.name: pair for pair in pairs}
        self._source, self._tuned, self._codec = source, tuned, codec
        self._measured: dict[tuple[str, int], tuple[int, DeltaStatistics]] = {}
        super().__init__(Path(label))

    def _open_all(self) -> None:
        """There are no files."""

    def _read_index(self) -> tuple[TensorEntry, ...]:
        numbered = enumerate((p for p in self._pairs.values() if p.has_frames), 1)
        slots = {pair.name: slot for slot, pair in numbered}
        return tuple(self._entry(pair, slots.get(name)) for name, pair in self._pairs.items())

    def _entry(self, pair: Pair, slot: int | None) -> TensorEntry:
        shape, infos = pair.either.shape, (pair.source, pair.tuned)
        ours, theirs = (None if i is None else RawTensor(i.dtype.name, _NO_HASH) for i in infos)
        if slot is None:
            role = UNCHANGED if pair.role == DELTA else pair.role
            return TensorEntry(pair.name, role, pair.dtype, shape, ours, theirs, of=pair.of)
        rows = min(pair.source.shape[0], shape[0]) if pair.role == RESIZED and pair.source else None
        blocks = tuple(
            Block(0, 0, count, _NO_HASH) for _, count in whole_rows(shape, BLOCK_ELEMENTS)
        )
        return TensorEntry(
            pair.name,
            pair.role,
            pair.dtype,
            shape,
            ours,
            theirs,
            slot=slot,
            codec="quantized",
            blocks=blocks,
            source_rows=rows,
        )

    def _check_slot(self, entry: TensorEntry) -> None:
        """No slot is stored that could have another size."""

    def decode(self, entry: TensorEntry, number: int) -> DeltaBlock:
        """The delta of one block as the codec gives it back.

        Raises:
            NonFiniteError: NaN or infinity on either side.
        """
        pair = self._pairs[entry.name]
        start = sum(block.elements for block in entry.blocks[:number])
        part = (start, entry.blocks[number].elements)
        base = read_block(self._source, pair.source, pair.dtype, part)
        fine = read_block(self._tuned, pair.tuned, pair.dtype, part)
        with finite(pair.name):
            block, sums = delta.compute(base, fine, pair.dtype)
        if self._codec is None:
            return block
        place = BlockContext(pair.name, start, base, fine, row_length(pair.either.shape, part[1]))
        codec = codec_for(self._codec, pair)
        frame = codec.encode(block, place)
        decoded = block
        if not codec.exact:
            decoded = codec.decode(frame, block.hi.size, block.dtype)
            sums.error_square = delta.error_square(decoded, block)
        self._measured[entry.name, number] = (len(frame), sums)
        return decoded

    def cost(self, workers: int | None = None) -> Cost:
        """Bits and noise of the whole, as an extraction with this codec would report them.

        Args:
            workers: Threads for the blocks that nobody has decoded yet.
        """
        left = [job for job in self._jobs() if (job[0].name, job[1]) not in self._measured]
        for _ in map_unordered(lambda job: self.decode(*job), left, workers):
            pass
        size, total = 0, DeltaStatistics()
        for entry in self.entries.values():  # summed in the order of an extraction
            tensor = DeltaStatistics()
            for number in range(len(entry.blocks)):
                length, sums = self._measured[entry.name, number]
                size += length
                tensor.add(sums)
            total.add(tensor)
        parameters = sum(pair.tuned.count for pair in self._pairs.values() if pair.tuned)
        noise = math.sqrt(total.error_square / total.source_square) if total.source_square else 0.0
        return Cost(rounded(8 * size / max(1, parameters)), rounded(noise))

    def _jobs(self) -> Iterator[tuple[TensorEntry, int]]:
        for entry in self.entries.values():
            for number in range(len(entry.blocks)):
                yield entry, number
