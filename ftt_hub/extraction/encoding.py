"""One tensor's delta: read a block of both models, subtract, encode, decode again, compare."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ftt_hub.artifact.index import DELTA, DROPPED, UNCHANGED, Block, RawTensor, TensorEntry
from ftt_hub.artifact.journal import Pack, SlotStore
from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.errors import ExtractionError, IntegrityError, NonFiniteError, UnsupportedError
from ftt_hub.extraction.pairs import BUFFER, Pair
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta import DeltaStatistics
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import DTYPES, Bits, DType
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.tensors.rounding import convert
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, whole_rows


class Weights(Protocol):
    """A checkpoint's weights."""

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""


@dataclass
class TensorResult:
    """A finished tensor: its index entry and the sums behind the fidelity figures."""

    entry: TensorEntry
    statistics: DeltaStatistics = field(default_factory=DeltaStatistics)

    def facts(self) -> dict[str, object]:
        """The statistics, JSON-ready."""
        return asdict(self.statistics)


def result_from(entry: TensorEntry, facts: dict[str, Any]) -> TensorResult:
    """A result as it was committed by an earlier run."""
    return TensorResult(entry, DeltaStatistics(**facts))


def read_block(
    weights: Weights,
    info: TensorInfo | None,
    dtype: DType,
    part: tuple[int, int],
    watch: Callable[[memoryview], object] | None = None,
) -> Bits:
    """A run of a tensor's elements in `dtype`; zeros where the model has no such elements.

    Args:
        weights: The model.
        info: Its tensor, ``None`` when it has none.
        dtype: What to convert to, if a float.
        part: First element and count.
        watch: Shown the raw bytes.
    """
    start, count = part
    held = 0 if info is None else max(0, min(count, info.count - start))
    if info is None or held == 0:
        return np.zeros(count, dtype.numpy)
    bits = weights.read_bits(info.name, start, held)
    if watch is not None:
        watch(bits.view(np.uint8).data)
    if dtype.is_float:
        bits = convert(bits, info.dtype, dtype)
    if held == count:
        return bits
    return np.concatenate([bits, np.zeros_like(bits, shape=count - held)])


@contextmanager
def finite(name: str) -> Iterator[None]:
    """Name the tensor in which a value is not finite.

    Raises:
        NonFiniteError: NaN or infinity.
    """
    try:
        yield
    except NonFiniteError as error:
        hint = "Repair the model: no delta can be made from such values."
        raise NonFiniteError(error.what, where=name, hint=hint) from error


def row_length(shape: tuple[int, ...], count: int) -> int:
    """Elements of a row, if a block of `count` elements is whole rows of two or more dimensions."""
    return shape[-1] if len(shape) > 1 and shape[-1] and count % shape[-1] == 0 else 0


class _Reader:
    """Blocks of one model's tensor in order, hashed as they pass."""

    def __init__(self, weights: Weights, info: TensorInfo | None, dtype: DType) -> None:
        self._weights, self._info, self._dtype = weights, info, dtype
        self._hash = hashlib.sha256()

    def read(self, start: int, count: int) -> Bits:
        """The next block, in the delta's dtype; zeros where the model has no such elements."""
        return read_block(self._weights, self._info, self._dtype, (start, count), self._hash.update)

    def finish(self, start: int) -> None:
        """Hash what lies beyond the shared rows (padding that fine-tuning cut off)."""
        if self._info is not None and start < self._info.count:
            rest = self._weights.read_bits(self._info.name, start, self._info.count - start)
            self._hash.update(rest.view(np.uint8).data)

    def raw(self) -> RawTensor | None:
        """Dtype and hash of the whole tensor."""
        if self._info is None:
            return None
        return RawTensor(self._info.dtype.name, self._hash.hexdigest())


@dataclass(frozen=True)
class Encoder:
    """Turns pairs into slots.

    Attributes:
        source: Weights of the source base.
        tuned: Weights of the fine-tuned model.
        codec: How blocks are stored.
        store: Where finished slots go.
        advance: Told the bytes that were read.
    """

    source: Weights
    tuned: Weights
    codec: Codec
    store: SlotStore
    advance: Callable[[int], None]

    def run(self, number: int, pair: Pair) -> TensorResult:
        """Encode one pair and commit it; safe to call from many threads for different pairs.

        Raises:
            NonFiniteError: NaN or infinity on either side.
            ExtractionError: An integer tensor changed.
            UnsupportedError: An FP8 or narrower tensor changed.
            IntegrityError: A frame does not give the delta back (a defect of the codec).
        """
        with finite(pair.name):
            if not pair.has_frames:
                result = self._only_hash(pair)
                self.store.commit(number, result.entry, result.facts())
            else:
                with self.store.slot() as pack:
                    result = self._encode(pair, pack)
                    self.store.commit(number, result.entry, result.facts(), pack)
        return result

    def _blocks(self, pair: Pair) -> Iterator[tuple[int, int]]:
        shape = pair.either.shape
        for start, count in whole_rows(shape, BLOCK_ELEMENTS):
            yield start, count
            self.advance(count * pair.nbytes // max(1, pair.either.count))

    def _only_hash(self, pair: Pair) -> TensorResult:
        source = _Reader(self.source, pair.source, DTYPES["U8"])  # as they are, not converted
        tuned = _Reader(self.tuned, pair.tuned, DTYPES["U8"])
        for start, count in self._blocks(pair):
            source.read(start, count)
            tuned.read(start, count)
        source.finish(pair.either.count)
        role, ours, theirs = pair.role, source.raw(), tuned.raw()
        if role == BUFFER:
            role = UNCHANGED if pair.tuned is not None else DROPPED
        if role == DELTA:
            if ours != theirs:
                if pair.either.dtype.name.startswith("F"):
                    raise UnsupportedError(
                        f"the weights are stored as {pair.either.dtype.name}",
                        where=pair.name,
                        expected="BF16, F16 or F32",
                        hint="Such values mean nothing without their block scales: dequantise both "
                        "models first.",
                    )
                raise ExtractionError(
                    f"an integer tensor ({pair.either.dtype.name}) changed",
                    where=pair.name,
                    expected="the same values in both models",
                    hint="Δ is defined on floating-point weights only.",
                )
            role = UNCHANGED
        entry = TensorEntry(
            pair.name, role, pair.dtype, pair.either.shape, ours, theirs, of=pair.of
        )
        return TensorResult(entry, DeltaStatistics(count=pair.either.count))

    def _encode(self, pair: Pair, pack: Pack) -> TensorResult:
        codec = codec_for(self.codec, pair)
        dtype = codec.delta_dtype or pair.dtype
        source = _Reader(self.source, pair.source, dtype)
        tuned = _Reader(self.tuned, pair.tuned, dtype)
        statistics, blocks, end, first = DeltaStatistics(), [], 0, None
        for start, count in self._blocks(pair):
            base, fine = source.read(start, count), tuned.read(start, count)
            block, sums = delta.compute(base, fine, dtype)
            place = BlockContext(pair.name, start, base, fine, row_length(pair.either.shape, count))
            frame = codec.encode(block, place)
            first = first if start else frame
            _check(codec, frame, block, place, first, sums)
            pack.write(frame)
            blocks.append(Block(end, len(frame), count, hashlib.sha256(frame).hexdigest()))
            end += len(frame)
            statistics.add(sums)
        source.finish(pair.either.count)
        entry = _entry(pair, source, tuned, blocks, statistics, codec)
        return TensorResult(replace(entry, dtype=dtype) if entry.blocks else entry, statistics)


def codec_for(codec: Codec, pair: Pair) -> Codec:
    """The codec of one tensor: the chosen one or, where that does not suit the tensor, `exact`."""
    if codec.needs_source and not pair.stores_source:  # its source bits have another name
        return ExactCodec()
    source_shape = None if pair.source is None else pair.source.shape
    suited = codec.for_tensor(pair.name, pair.either.shape, source_shape)
    return suited or ExactCodec()


def _check(
    codec: Codec,
    frame: bytes,
    block: DeltaBlock,
    place: BlockContext,
    first: bytes | None,
    sums: DeltaStatistics,
) -> None:
    """Decode what was just encoded: an exact Δ must come back and rebuild the fine-tuned model.

    Adds Σ (Δ̂ − Δ)² to the sums. Of factors, Δ is their own product: the fine-tuned model holds it
    rounded to its weights.
    """
    decoded = codec.decode(frame, block.hi.size, block.dtype, place.source, first)
    measured = codec.measure(decoded, place)
    if measured is not None:
        sums.delta_square, sums.error_square = measured
    elif not codec.exact:
        sums.error_square = delta.error_square(decoded, block)
    elif not (
        decoded.equals(block)
        and place.source is not None
        and place.tuned is not None
        and delta.rebuilds(place.source, decoded, place.tuned)
    ):
        raise IntegrityError(
            "the encoded delta does not give the fine-tuned tensor back",
            where=place.name,
            hint="Please report this as a defect.",
        )


def _entry(
    pair: Pair,
    source: _Reader,
    tuned: _Reader,
    blocks: list[Block],
    statistics: DeltaStatistics,
    codec: Codec,
) -> TensorEntry:
    ours = source.raw() if pair.stores_source else None
    theirs = tuned.raw() if pair.stores_tuned else None
    role = pair.role
    norm = (
        rounded(math.sqrt(statistics.delta_square)),
        rounded(math.sqrt(statistics.source_square)),
    )
    shape = pair.either.shape
    if role == DELTA and ours == theirs and not any(block.length for block in blocks):
        return TensorEntry(pair.name, UNCHANGED, pair.dtype, shape, ours, theirs)
    error = None if codec.exact else rounded(math.sqrt(statistics.error_square))
    rows = pair.shared_tokens
    return TensorEntry(
        pair.name, role, pair.dtype, shape, ours, theirs, slot=1, codec=codec.id,
        blocks=tuple(blocks), source_rows=rows, of=pair.of, norm=norm, error=error,
    )  # fmt: skip


def rounded(value: float) -> float:
    """Six significant digits, so that the bytes of an index do not hang on the last bit."""
    return float(f"{value:.6g}")
