"""The folder of a combined adapter, streamed tensor by tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ftt_hub.artifact.folder_writer import write_folder
from ftt_hub.artifact.index import ADDED, DELTA, DROPPED, RESIZED, UNCHANGED, Block, TensorEntry
from ftt_hub.artifact.journal import SlotStore
from ftt_hub.artifact.manifest import AdapterConfig, CodecSpec, Fidelity
from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.entropy.planes import encoder_versions
from ftt_hub.combining.inputs import CombinedTensor, values_of
from ftt_hub.combining.recipe import Recipe
from ftt_hub.errors import ExtractionError, IntegrityError
from ftt_hub.extraction.choice import Chooser
from ftt_hub.extraction.encoding import TensorResult, codec_for, rounded
from ftt_hub.extraction.pairs import Pair
from ftt_hub.extraction.summary import figures
from ftt_hub.support.parallel import map_unordered, one_blas_thread
from ftt_hub.support.progress import Progress
from ftt_hub.support.staging import staged_folder
from ftt_hub.tensors.delta import CHUNK, DeltaStatistics, error_square
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import DTYPES, Bits
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS

_WORK = ".work"

Stored = Callable[[str, int, int], tuple[DeltaBlock, DeltaBlock]]
"""Tensor name, first element, count → the combined Δ as stored, and as before any rounding."""

Describe = Callable[[Sequence[TensorEntry], CodecSpec, Fidelity], AdapterConfig]
"""Index entries, codec and fidelity → the manifest without its list of files."""


class _Nothing:
    """Stands for a source base of zeros: −0.0, so that Δ itself comes back from a subtraction."""

    def __init__(self, tensors: dict[str, TensorInfo]) -> None:
        self._tensors = tensors

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """No value."""
        dtype = self._tensors[name].dtype
        return np.full(count, dtype.sign_bit, dtype.numpy)


class _Sums:
    """Stands for a fine-tuned model: its values are the combined Δ."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Its hi."""
        return self._stored(name, start, count)[0].hi


def _pair(combined: CombinedTensor) -> Pair:
    """What the choice of a codec wants to know of a tensor."""
    entry = combined.entry
    nbytes = entry.count * entry.dtype.itemsize
    info = TensorInfo(entry.name, entry.dtype, entry.shape, 0, nbytes)
    return Pair(entry.name, entry.role, None if entry.role == ADDED else info, info)


@dataclass(frozen=True)
class Builder:
    """Builds one adapter folder from a combination.

    Attributes:
        tensors: The tensors of the result by name, sorted.
        stored: Computes runs of the combined Δ.
        recipe: What is combined, and how the result is stored.
        describe: Makes the manifest.
        companions: Copies the tokenizer and other small files into a folder.
        workers: Number of threads.
        progress: Receives progress events.
    """

    tensors: Mapping[str, CombinedTensor]
    stored: Stored
    recipe: Recipe
    describe: Describe
    companions: Callable[[Path], None]
    workers: int | None
    progress: Progress

    def build(self, out: Path) -> AdapterConfig:
        """Make the folder; it appears whole or not at all.

        Raises:
            ExtractionError: The combined Δ is zero.
            OutputError: The output is not empty, or the disk is full.
        """
        with one_blas_thread(), staged_folder(out) as folder:
            codec = self._codec()
            results = self._encode(folder, codec)
            return self._finish(folder, results, codec)

    def _changed(self) -> list[CombinedTensor]:
        return [item for item in self.tensors.values() if item.entry.slot is not None]

    def _codec(self) -> Codec:
        pairs = [_pair(combined) for combined in self._changed()]
        infos = {pair.name: pair.either for pair in pairs}
        square = sum(p.entry.norm[1] ** 2 for p in self._changed() if p.entry.norm is not None)
        return Chooser(
            pairs,
            _Nothing(infos),
            _Sums(self.stored),
            self.workers,
            self.progress,
            square,
        ).codec(self.recipe.coding)

    def _encode(self, folder: Path, codec: Codec) -> dict[str, TensorResult]:
        todo = sorted(enumerate(self._changed()), key=lambda item: -item[1].entry.count)
        self.progress.start("combining", sum(p.entry.count for _, p in todo), "weights")

        def run(item: tuple[int, CombinedTensor]) -> TensorResult:
            number, combined = item
            with store.slot() as pack:
                result = self._tensor(combined, codec_for(codec, _pair(combined)), pack.write)
                store.commit(number, result.entry, result.facts(), pack)
            return result

        with SlotStore(folder / _WORK) as store:
            done = map_unordered(run, todo, self.workers)
            results = {result.entry.name: result for result in done}
        self.progress.finish()
        return results

    def _tensor(
        self, combined: CombinedTensor, codec: Codec, write: Callable[[bytes], object]
    ) -> TensorResult:
        entry, statistics, blocks, end = combined.entry, DeltaStatistics(), [], 0
        start = 0
        for number in entry.blocks:
            count = number.elements
            stored, ideal = self.stored(entry.name, start, count)
            frame = codec.encode(stored if codec.exact else ideal, BlockContext(entry.name, start))
            statistics.add(_measured(codec, frame, stored, ideal, entry.name))
            write(frame)
            blocks.append(Block(end, len(frame), count, hashlib.sha256(frame).hexdigest()))
            end, start = end + len(frame), start + count
            self.progress.advance(count)
        source = entry.norm[1] if entry.norm is not None else 0.0
        statistics.source_square = source**2
        if entry.role == DELTA and not end:
            plain = replace(entry, role=UNCHANGED, slot=None, blocks=(), norm=None)
            return TensorResult(replace(plain, fine_tuned=entry.source), statistics)
        done = replace(
            entry,
            codec=codec.id,
            blocks=tuple(blocks),
            norm=(rounded(math.sqrt(statistics.delta_square)), source),
            error=None if codec.exact else rounded(math.sqrt(statistics.error_square)),
        )
        return TensorResult(done, statistics)

    def _finish(
        self, folder: Path, results: dict[str, TensorResult], codec: Codec
    ) -> AdapterConfig:
        order = [combined.entry.name for combined in self._changed()]
        entries = [
            results[name].entry if name in results else combined.entry
            for name, combined in self.tensors.items()
        ]
        if not any(e.nbytes or e.role in (ADDED, RESIZED) for e in entries):
            raise ExtractionError(
                "the combined Δ is zero",
                where=self.recipe.where,
                hint="The adapters cancel out, or their layers leave nothing.",
            )
        store = SlotStore(folder / _WORK)
        payloads = [
            store.span(number)
            for number, name in enumerate(order)
            if results[name].entry.slot is not None
        ]
        spec = CodecSpec(codec.id, codec.parameters(), BLOCK_ELEMENTS, encoder_versions())
        return write_folder(
            folder,
            folder / _WORK,
            entries,
            payloads,
            companions=self.companions,
            manifest=lambda numbered: self.describe(
                numbered, spec, _fidelity(folder, numbered, list(results.values()))
            ),
            progress=self.progress,
        )


def _measured(
    codec: Codec, frame: bytes, stored: DeltaBlock, ideal: DeltaBlock, name: str
) -> DeltaStatistics:
    """Decode what was encoded and compare it with the combination before any rounding."""
    decoded = codec.decode(frame, stored.hi.size, stored.dtype)
    if codec.exact and not decoded.equals(stored):
        raise IntegrityError(
            "the encoded delta does not come back",
            where=name,
            hint="Please report this as a defect.",
        )
    changed = decoded.hi != decoded.dtype.sign_bit
    if decoded.lo is not None:
        changed |= decoded.lo != 0
    square = 0.0
    for start in range(0, ideal.hi.size, CHUNK):
        part = slice(start, min(start + CHUNK, ideal.hi.size))
        square += float(np.square(values_of(ideal, part)).sum())
    return DeltaStatistics(
        stored.hi.size, int(np.count_nonzero(changed)), square, 0.0, error_square(decoded, ideal)
    )


def _fidelity(
    folder: Path, entries: Sequence[TensorEntry], results: Sequence[TensorResult]
) -> Fidelity:
    """Figures of a combined adapter; there is no fine-tuned model for it to be exact about."""
    alive = [e for e in entries if e.role != DROPPED]
    return figures(
        folder,
        sorted(results, key=lambda result: result.entry.name),
        exact=False,
        parameters=sum(e.count for e in alive),
        nbytes=sum(e.count * DTYPES[e.source.dtype].itemsize if e.source else 0 for e in alive),
    )
