"""Entropy coding of values, those of 16 bits by symbols: a byte for each, Huffman-coded.

The differences of two BF16 or F16 models lie on a coarse grid: the 255 commonest values cover
about 99% of them. A table gives each a byte, zstd codes the bytes (with next to no match search,
that is Huffman coding), and what is not in the table follows apart. On Δ this costs within a few
percent of its order-0 entropy and is several times as fast as general entropy coding of integers.

A payload is::

    u8                       k, number of values in the table, 1 to 255
    k × i16 little-endian    the table
    u32 little-endian        bytes of the zstd frame
    zstd frame               a byte an element: its place in the table, or k for "not there"
    the rest                 a plane of the values that are not there; absent if there are none
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from ftt_hub import kernels
from ftt_hub.codecs.entropy.planes import Buffer, Plane, decode_plane, encode_plane, sampled
from ftt_hub.errors import CodecError
from ftt_hub.tensors.dtypes import Bits

SYMBOLS = 3
"""The coder byte before a payload; `planes` has the others."""
SAMPLE = 1 << 14
"""Elements from which a table is made; fewer values get none."""
TABLE = 255
MAX_MISSING = 0.04
MAX_SHARE = 0.6
_CHUNK = 1 << 14  # elements whose indices stay in the processor's cache
_PAIRS_FROM = 1 << 18
_LENGTH = struct.Struct("<I")

Map = Callable[[NDArray[Any]], NDArray[Any]]
"""Elementwise, between the values of an array and the integers that are stored."""


class _Coders(threading.local):
    """Zstd's contexts, which are costly to make and serve one thread at a time."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            1, min_match=7, hash_log=6, write_checksum=False, write_content_size=True
        )
        self.compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)


_CODERS = _Coders()


def suitable_table(sample: Bits) -> Bits | None:
    """A table for values of which a sample (uint16) is given; ``None`` where symbols do not suit.

    They do where at most 4% of the values are missing from the table, and where no value is so
    common (above 60%) that Huffman's one bit for it is a waste.

    Returns:
        The commonest values (ties: the smaller bits), ascending.
    """
    kinds, counts = _counted(sample)
    common = np.argsort(-counts, kind="stable")[:TABLE]
    missing = sample.size - int(counts[common].sum())
    if missing > MAX_MISSING * sample.size or counts[common[0]] > MAX_SHARE * sample.size:
        return None
    return np.sort(kinds[common])


def _counted(sample: Bits) -> tuple[Bits, NDArray[np.intp]]:
    """The values of a sample, ascending, and how often each occurs."""
    ordered = np.sort(sample)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(starts, append=ordered.size)


def to_symbols(values: Bits, table: Bits) -> tuple[NDArray[np.uint8], Bits]:
    """For each uint16 its place in the table, or the table's length; and the values not in it."""
    places = np.full(1 << 16, table.size, np.uint8)
    places[table] = np.arange(table.size, dtype=np.uint8)
    if not kernels.usable(values):
        symbols = _looked_up(values, places)
        return symbols, values[np.flatnonzero(symbols == table.size)]
    symbols, rest = np.empty(values.size, np.uint8), np.empty(values.size, np.uint16)
    number = kernels.COMPILED.to_symbols(values, places, table.size, symbols, rest)
    return symbols, rest[:number]


def _looked_up(index: Bits | NDArray[np.uint8], table: NDArray[Any]) -> NDArray[Any]:
    """``table[index]``, no index being beyond it.

    The wide indices that NumPy needs are made a chunk at a time.
    """
    result = np.empty(index.size, table.dtype)
    wide = np.empty(min(_CHUNK, index.size), np.intp)
    for start in range(0, index.size, _CHUNK):
        part = index[start : start + _CHUNK]
        wide[: part.size] = part
        out = result[start : start + _CHUNK]
        table.take(wide[: part.size], None, out, "wrap")  # "raise" would buffer `out`
    return result


def _expanded(symbols: NDArray[np.uint8], table: Bits, others: Bits) -> Bits:
    """``table[symbols]``, but the others, in order, for the symbol that is not in the table.

    Two symbols at a time where the table of pairs pays for itself.
    """
    full = np.zeros(1 << 8, np.uint16)
    full[: table.size] = table
    pairs = np.zeros(0, np.uint32)
    if symbols.size >= _PAIRS_FROM:
        wide = full.astype(np.uint32)
        pairs = (wide[None, :] | wide[:, None] << np.uint32(16)).reshape(-1)
    values: Bits
    if kernels.usable(symbols):
        values = np.empty(symbols.size, np.uint16)
        rest = np.append(others, np.uint16(0))
        kernels.COMPILED.from_symbols(symbols, full, pairs, table.size, rest, values)
        return values
    if pairs.size and symbols.size % 2 == 0:
        values = _looked_up(symbols.view("<u2"), pairs).view("<u2")
    else:
        values = _looked_up(symbols, full)
    if others.size:
        values[np.flatnonzero(symbols == table.size)] = others
    return values


def compress(symbols: NDArray[np.uint8]) -> bytes:
    """A zstd frame of symbols, found matches being rare and not worth the search."""
    return _CODERS.compressor.compress(symbols.data)


def encode_values(values: NDArray[Any], to_integers: Map) -> bytes:
    """Coder byte and payload of the plane that `to_integers` makes of unsigned 1-D values.

    16-bit values that suit a table (`suitable_table`) are coded as symbols: a few percent larger
    than by pcodec, several times as fast.

    Args:
        values: Of 1, 2 or 4 bytes.
        to_integers: Elementwise and one to one, to signed integers of the same width whose order
            and nearness mean something to an entropy coder.
    """
    if values.itemsize == 2 and values.size > SAMPLE:
        table = suitable_table(sampled(values, SAMPLE))
        if table is not None:
            return bytes([SYMBOLS]) + _encode(values, table, to_integers)
    return encode_plane(to_integers(values))


def decode_values(data: Buffer, count: int, itemsize: int, from_integers: Map) -> Bits:
    """Inverse of `encode_values`: unsigned values, by the inverse of its `to_integers`.

    `from_integers` may overwrite its argument.

    Raises:
        CodecError: As `decode_plane`.
    """
    if itemsize == 2 and bytes(data[:1]) == bytes([SYMBOLS]):
        return _decode(data[1:], count, from_integers)
    return from_integers(_plane(data, count, itemsize))


def _plane(data: Buffer, count: int, itemsize: int) -> Plane:
    plane: Plane = np.empty(count, np.dtype(f"<i{itemsize}"))
    decode_plane(data, plane)
    return plane


def _encode(values: Bits, table: Bits, to_integers: Map) -> bytes:
    """The payload of uint16 values, with a table of 1 to 255 of them."""
    symbols, rest = to_symbols(values, table)
    frame = compress(symbols)
    head = bytes([table.size]) + to_integers(table).astype("<i2").tobytes()
    coded_rest = encode_plane(to_integers(rest).astype("<i2"), side=True) if rest.size else b""
    return head + _LENGTH.pack(len(frame)) + frame + coded_rest


def _decode(payload: Buffer, count: int, from_integers: Map) -> Bits:
    """Inverse of `_encode`, of an untrusted payload.

    Raises:
        CodecError: Malformed, or of another number of elements.
    """
    size = payload[0] if payload else 0
    start = 1 + 2 * size
    end = start + _LENGTH.size
    length = _LENGTH.unpack_from(payload, start)[0] if end <= len(payload) else 0
    if not size or not length or end + length > len(payload):
        raise CodecError("symbol payload is cut short")
    symbols = _decompressed(payload[end : end + length], count)
    if size < TABLE and int(symbols.max(initial=0)) > size:
        raise CodecError("a symbol lies outside its table", expected=f"at most {size}")
    stored = np.frombuffer(payload, "<i2", size, 1).astype(np.int16)
    rest, apart = payload[end + length :], _count(symbols, size)
    if bool(rest) != bool(apart):
        raise CodecError("symbol payload does not match its rest", expected=f"{apart} values")
    others = from_integers(_plane(rest, apart, 2)) if apart else np.zeros(0, np.uint16)
    return _expanded(symbols, from_integers(stored), others)


def _count(symbols: NDArray[np.uint8], symbol: int) -> int:
    if kernels.usable(symbols):
        return int(kernels.COMPILED.count(symbols, symbol))
    return int(np.count_nonzero(symbols == symbol))


def _decompressed(frame: Buffer, count: int) -> NDArray[np.uint8]:
    try:
        declared = zstandard.frame_content_size(frame)
        if declared != count:
            raise CodecError(
                "zstd payload has another length", expected=f"{count} bytes", found=declared
            )
        raw = _CODERS.decompressor.decompress(frame, max_output_size=count, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(f"zstd payload is damaged ({str(error)[:80]})") from error
    return np.frombuffer(raw, np.uint8)
