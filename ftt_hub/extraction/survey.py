"""One streaming pass over both models for the statistics that a step is chosen by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ftt_hub.artifact.index import Block, RawTensor, TensorEntry, encode_index
from ftt_hub.artifact.reader import slot_key
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.lossy.rate import RateSurvey, Tally
from ftt_hub.codecs.quantized import ROTATED, QuantizedCodec
from ftt_hub.extraction.encoding import Weights, codec_for, finite, read_block, row_length
from ftt_hub.extraction.pairs import Pair
from ftt_hub.support.canonical import digest_of
from ftt_hub.support.parallel import map_unordered
from ftt_hub.support.progress import Progress
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta import DeltaStatistics
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.header import build_header
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, whole_rows

_SAMPLED_BLOCKS, _SAMPLED_ELEMENTS = 12, 1 << 20


@dataclass
class SurveyResult:
    """What a pass over both models showed.

    Attributes:
        total: Statistics of the tensors that will be quantised.
        parameters: Elements of the fine-tuned model.
        exact_bytes: Frames of the tensors that stay exact.
        index_bytes: Estimate of the container's index and header.
    """

    total: RateSurvey = field(default_factory=RateSurvey)
    parameters: int = 0
    exact_bytes: int = 0
    index_bytes: int = 0


def _is_quantised(pair: Pair) -> bool:
    return pair.has_frames and not codec_for(QuantizedCodec(), pair).exact


def _blocks(
    pair: Pair, source: Weights, tuned: Weights, limit: int | None = None
) -> Iterator[tuple[BlockContext, DeltaBlock, DeltaStatistics]]:
    for start, whole in whole_rows(pair.either.shape, BLOCK_ELEMENTS):
        columns = row_length(pair.either.shape, whole)
        rows = max(1, columns)
        part = (start, whole if limit is None else min(whole, max(rows, limit // rows * rows)))
        with finite(pair.name):
            base = read_block(source, pair.source, pair.dtype, part)
            fine = read_block(tuned, pair.tuned, pair.dtype, part)
            block, sums = delta.compute(base, fine, pair.dtype)
        yield BlockContext(pair.name, start, base, fine, columns), block, sums


def _index_bytes(pairs: Sequence[Pair]) -> int:
    """Size of the container's header and index, from an index with invented hashes."""
    entries: list[TensorEntry] = []
    header = {slot_key(0): ("U8", (10**6,), 10**6)}
    for pair in pairs:
        name, shape = pair.name, pair.either.shape
        raw = RawTensor(pair.dtype.name, digest_of([name, "source"])[7:])
        other = replace(raw, sha256=digest_of([name, "tuned"])[7:])
        entry = TensorEntry(name, pair.role, pair.dtype, shape, raw, other)
        if pair.has_frames:
            length, elements = 123_456, [n for _, n in whole_rows(shape, BLOCK_ELEMENTS)]
            entry = replace(
                entry,
                slot=len(header),
                codec=codec_for(QuantizedCodec(), pair).id,
                norm=(1.23456, 12.3456),
                error=0.123456,
                blocks=tuple(
                    Block(i * length, length, n, digest_of([name, i])[7:])
                    for i, n in enumerate(elements)
                ),
            )
            header[slot_key(len(header))] = ("U8", (length,), length)
        entries.append(entry)
    return len(encode_index(entries)) + len(build_header(header, {"format": "pt"}))


def survey(
    pairs: Sequence[Pair],
    source: Weights,
    tuned: Weights,
    workers: int | None,
    progress: Progress,
    *,
    turned: bool,
) -> SurveyResult:
    """Read both models once; memory is one small histogram a tensor.

    Args:
        pairs: The tensors.
        source: The source base.
        tuned: The fine-tuned model.
        workers: Threads.
        progress: Watches.
        turned: Whether rotated rounding may be chosen, and must be predicted.

    Raises:
        NonFiniteError: NaN or infinity on either side.
    """
    held = [pair for pair in pairs if pair.has_frames]
    progress.start("surveying", sum(pair.nbytes for pair in held))

    def look(item: tuple[int, Pair]) -> tuple[int, SurveyResult]:
        number, pair = item
        result = SurveyResult(parameters=pair.either.count)
        quantised = _is_quantised(pair)
        tally = Tally(turned=turned)
        for place, block, sums in _blocks(pair, source, tuned):
            result.total.source_square += sums.source_square
            if quantised:
                result.total.delta_square += sums.delta_square
                tally.add(block, place.columns)
            else:
                result.exact_bytes += len(ExactCodec().encode(block, place))
            progress.advance(block.hi.size * pair.nbytes // max(1, pair.either.count))
        if quantised:
            result.total.histograms.append(tally.histogram())
            result.total.spreads += tally.spreads
        return number, result

    total = SurveyResult(index_bytes=_index_bytes(pairs))
    # in a fixed order, so that sums of floats do not depend on the threads
    for _, seen in sorted(map_unordered(look, enumerate(held), workers), key=lambda item: item[0]):
        total.total.histograms += seen.total.histograms
        total.total.spreads += seen.total.spreads
        total.total.source_square += seen.total.source_square
        total.total.delta_square += seen.total.delta_square
        total.parameters += seen.parameters
        total.exact_bytes += seen.exact_bytes
    progress.finish()
    return total


def coded_share(
    codec: QuantizedCodec, pairs: Sequence[Pair], source: Weights, tuned: Weights
) -> float:
    """Bits that encoding really takes over those predicted, on blocks spread over the model."""
    held = sorted(filter(_is_quantised, pairs), key=lambda pair: (-pair.either.count, pair.name))
    sample = held[:: max(1, len(held) // _SAMPLED_BLOCKS)]
    taken = predicted = 0.0
    for pair in sample:
        place, block, sums = next(_blocks(pair, source, tuned, _SAMPLED_ELEMENTS))
        tally = Tally(turned=codec.rounding == ROTATED)
        tally.add(block, place.columns)
        seen = RateSurvey([tally.histogram()], sums.source_square, sums.delta_square, tally.spreads)
        taken += 8 * len(codec.encode(block, place))
        predicted += seen.predict(codec.step, codec.rounding, codec.rms).bits
    return taken / predicted if taken and predicted else 1.0
