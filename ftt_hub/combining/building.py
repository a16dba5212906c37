"""The folder of a combined adapter, streamed tensor by tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ftt_hub.artifact.folder_writer import write_folder
from ftt_hub.artifact.index import ADDED, DELTA, DROPPED, RESIZED, UNCHANGED, Block, TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig, CodecSpec, Fidelity
from ftt_hub.artifact.slots import SlotStore
from ftt_hub.codecs.abc import Codec, Place
from ftt_hub.codecs.entropy.planes import encoder_versions
from ftt_hub.combining.agreement import Planned
from ftt_hub.combining.combination import Combination
from ftt_hub.combining.inputs import values_of
from ftt_hub.combining.manifest import combined_config, copy_companions
from ftt_hub.combining.opening import Opened, Settings
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


class _Nothing:
    """Stands for a source base of zeros: −0.0, so that Δ itself comes back from a subtraction."""

    def __init__(self, tensors: dict[str, TensorInfo]) -> None:
        self._tensors = tensors

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """No value."""
        dtype = self._tensors[name].dtype
        return np.full(count, dtype.sign_bit, dtype.numpy)


class _Sums:
    """The combined Δ in the place of a fine-tuned model."""

    def __init__(self, combination: Combination) -> None:
        self._combination = combination

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Its hi."""
        return self._combination.stored(name, start, count)[0].hi


def _pair(planned: Planned) -> Pair:
    """What the choice of a codec wants to know of a tensor."""
    entry = planned.entry
    nbytes = entry.count * entry.dtype.itemsize
    info = TensorInfo(entry.name, entry.dtype, entry.shape, 0, nbytes)
    return Pair(entry.name, entry.role, None if entry.role == ADDED else info, info)


@dataclass(frozen=True)
class Builder:
    """Builds one adapter folder from an opened combination.

    Attributes:
        source: The combination.
        out: The folder to make.
        name: What the manifest calls the result.
        settings: Threads and progress.
    """

    source: Opened
    out: Path
    name: str
    settings: Settings

    def build(self) -> AdapterConfig:
        """Make the folder; it appears whole or not at all.

        Raises:
            ExtractionError: The combined Δ is zero.
            OutputError: The output is not empty, or the disk is full.
        """
        with one_blas_thread(), staged_folder(self.out) as folder:
            codec = self._codec()
            results = self._encode(folder, codec)
            return self._finish(folder, results, codec)

    @property
    def _progress(self) -> Progress:
        return self.settings.progress

    def _stored(self) -> list[Planned]:
        tensors = self.source.agreement.tensors.values()
        return [planned for planned in tensors if planned.entry.slot is not None]

    def _codec(self) -> Codec:
        pairs = [_pair(planned) for planned in self._stored()]
        infos = {pair.name: pair.either for pair in pairs}
        square = sum(p.entry.norm[1] ** 2 for p in self._stored() if p.entry.norm is not None)
        return Chooser(
            pairs, _Nothing(infos), _Sums(self.source.combination), self.settings.workers,
            self._progress, square,
        ).codec(self.source.recipe.coding)  # fmt: skip

    def _encode(self, folder: Path, codec: Codec) -> dict[str, TensorResult]:
        todo = sorted(enumerate(self._stored()), key=lambda item: -item[1].entry.count)
        self._progress.start("combining", sum(p.entry.count for _, p in todo))

        def run(item: tuple[int, Planned]) -> TensorResult:
            number, planned = item
            with store.slot() as pack:
                result = self._tensor(planned, codec_for(codec, _pair(planned)), pack.write)
                store.commit(number, result.entry, result.facts(), pack)
            return result

        with SlotStore(folder / _WORK) as store:
            done = map_unordered(run, todo, self.settings.workers)
            results = {result.entry.name: result for result in done}
        self._progress.finish()
        return results

    def _tensor(
        self, planned: Planned, codec: Codec, write: Callable[[bytes], object]
    ) -> TensorResult:
        entry, statistics, blocks, end = planned.entry, DeltaStatistics(), [], 0
        start = 0
        for number in entry.blocks:
            count = number.elements
            stored, ideal = self.source.combination.stored(entry.name, start, count)
            frame = codec.encode(stored if codec.exact else ideal, Place(entry.name, start))
            statistics.add(_measured(codec, frame, stored, ideal, entry.name))
            write(frame)
            blocks.append(Block(end, len(frame), count, hashlib.sha256(frame).hexdigest()))
            end, start = end + len(frame), start + count
            self._progress.advance(count)
        source = entry.norm[1] if entry.norm is not None else 0.0
        statistics.source_square = source**2
        if entry.role == DELTA and not end:
            plain = replace(entry, role=UNCHANGED, slot=None, blocks=(), norm=None)
            return TensorResult(replace(plain, fine_tuned=entry.source), statistics)
        done = replace(
            entry, codec=codec.id, blocks=tuple(blocks),
            norm=(rounded(math.sqrt(statistics.delta_square)), source),
            error=None if codec.exact else rounded(math.sqrt(statistics.error_square)),
        )  # fmt: skip
        return TensorResult(done, statistics)

    def _finish(
        self, folder: Path, results: dict[str, TensorResult], codec: Codec
    ) -> AdapterConfig:
        agreement = self.source.agreement
        order = [planned.entry.name for planned in self._stored()]
        entries = [
            results[name].entry if name in results else planned.entry
            for name, planned in agreement.tensors.items()
        ]
        if not any(e.nbytes or e.role in (ADDED, RESIZED) for e in entries):
            raise ExtractionError(
                "the combined Δ is zero", where=self.source.recipe.where,
                hint="The adapters cancel out, or their layers leave nothing.",
            )  # fmt: skip
        store = SlotStore(folder / _WORK)
        payloads = [
            store.span(number)
            for number, name in enumerate(order)
            if results[name].entry.slot is not None
        ]
        spec = CodecSpec(codec.id, codec.parameters(), BLOCK_ELEMENTS, encoder_versions())

        def manifest(numbered: list[TensorEntry]) -> AdapterConfig:
            measured = _fidelity(folder, numbered, list(results.values()))
            recipe = self.source.recipe
            return combined_config(agreement, recipe, self.name, numbered, spec, measured)

        return write_folder(
            folder,
            folder / _WORK,
            entries,
            payloads,
            companions=lambda target: copy_companions(agreement, target),
            manifest=manifest,
            progress=self._progress,
        )


def _measured(
    codec: Codec, frame: bytes, stored: DeltaBlock, ideal: DeltaBlock, name: str
) -> DeltaStatistics:
    """Decode what was encoded and compare it with the combination before any rounding."""
    decoded = codec.decode(frame, stored.hi.size, stored.dtype)
    if codec.exact and not decoded.equals(stored):
        raise IntegrityError(
            "the encoded delta does not come back", where=name,
            hint="Please report this as a defect.",
        )  # fmt: skip
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
