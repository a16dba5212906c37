"""Entropy coding of one integer plane: pcodec or zstd.

An encoded plane is a coder byte and its payload; `symbols` has a third coder. Decoding writes into
a buffer of the declared size, so that a hostile payload cannot make us allocate more than was
announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, PagingSpec, standalone

from ftt_hub.errors import CodecError

PCODEC = 1
ZSTD = 2
ZSTD_LEVEL = 3
TRIAL = 1 << 12
"""Elements on which pcodec and zstd are tried."""

_PCODEC_LEVELS = ((1 << 13, 8), (1 << 17, 10), (1 << 31, 12))
"""pcodec's level for planes up to so many elements: a level doubles the bins of the one before,
and their table must pay for itself."""

_SIDE_LEVELS = ((1 << 15, 6), (1 << 31, 8))
"""The same for planes that are a few percent of a frame and took up to a third of its time."""

Plane = NDArray[np.signedinteger[Any]]
Buffer: TypeAlias = bytes | memoryview


def _pcodec(plane: Plane, levels: Sequence[tuple[int, int]] = _PCODEC_LEVELS) -> bytes:
    config = ChunkConfig(
        compression_level=next(level for size, level in levels if plane.size <= size),
        delta_spec=DeltaSpec.no_op(),
        mode_spec=ModeSpec.classic(),
        paging_spec=PagingSpec.equal_pages_up_to(1 << 18),
        enable_8_bit=plane.itemsize == 1,  # never sent to pcodec by mistake: symbols, not bytes
    )
    return bytes(standalone.simple_compress(plane, config))


def _shuffle(plane: Plane) -> bytes:
    """Little-endian bytes, all first bytes, then all second bytes and so on."""
    return plane.view(np.uint8).reshape(-1, plane.itemsize).T.tobytes()


def _zstd(plane: Plane) -> bytes:
    compressor = zstandard.ZstdCompressor(
        level=ZSTD_LEVEL, write_checksum=False, write_content_size=True
    )
    return compressor.compress(_shuffle(plane))


def sampled(plane: NDArray[Any], count: int) -> NDArray[Any]:
    """Eight evenly spaced runs, the same on every machine; all if it is short."""
    if plane.size <= count:
        return plane
    run, stride = count // 8, plane.size // 8
    return np.concatenate([plane[i * stride : i * stride + run] for i in range(8)])


def encode_plane(plane: Plane, *, side: bool = False) -> bytes:
    """Coder byte and payload of a 1-D int8, int16 or int32 plane, in the fewest bytes.

    pcodec or zstd, whichever codes a sample shorter.

    Args:
        plane: The integers.
        side: Whether it is a small part of its frame, on which little time is spent: no trial.
    """
    if side:
        return bytes([PCODEC]) + _pcodec(plane, _SIDE_LEVELS)
    sample = sampled(plane, TRIAL)
    with_pcodec, with_zstd = _pcodec(sample), _zstd(sample)
    use_pcodec = len(with_pcodec) <= len(with_zstd)
    if sample is not plane:
        if use_pcodec:
            return bytes([PCODEC]) + _pcodec(plane)
        return bytes([ZSTD]) + _zstd(plane)
    return bytes([PCODEC]) + with_pcodec if use_pcodec else bytes([ZSTD]) + with_zstd


def _decode_pcodec(payload: Buffer, plane: Plane) -> None:
    try:
        progress = standalone.simple_decompress_into(bytes(payload), plane)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CodecError(f"pcodec payload is damaged ({str(error)[:80]})") from error
    if progress.n_processed != plane.size or not progress.finished:
        raise CodecError(
            "pcodec payload has another length",
            expected=f"{plane.size} elements",
            found=f"{progress.n_processed}{'' if progress.finished else ' or more'} elements",
        )


def _decode_zstd(payload: Buffer, plane: Plane) -> None:
    try:
        declared = zstandard.frame_content_size(payload)
        if declared != plane.nbytes:
            raise CodecError(
                "zstd payload has another length",
                expected=f"{plane.nbytes} bytes",
                found=f"{declared} bytes",
            )
        raw = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(
            payload, max_output_size=plane.nbytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CodecError(f"zstd payload is damaged ({str(error)[:80]})") from error
    shuffled = np.frombuffer(raw, np.uint8).reshape(plane.itemsize, -1)
    plane.view(np.uint8).reshape(-1, plane.itemsize)[:] = shuffled.T


def decode_plane(data: Buffer, plane: Plane) -> None:
    """Fill `plane` (1-D, contiguous, of the declared size) from coder byte and payload.

    Raises:
        CodecError: Unknown coder, damaged payload, or another number of elements.
    """
    if not data:
        raise CodecError("empty plane", expected="a coder byte")
    decoders = {PCODEC: _decode_pcodec, ZSTD: _decode_zstd}
    decoder = decoders.get(data[0])
    if decoder is None:
        raise CodecError("unknown coder byte", expected="1 or 2", found=data[0])
    decoder(data[1:], plane)


def encode_places(places: NDArray[np.intp], *, side: bool = False) -> bytes:
    """A plane of the gaps before ascending places, int32; `side` as for `encode_plane`."""
    zeros = np.diff(places, prepend=-1)
    zeros -= 1
    return encode_plane(zeros.astype("<i4"), side=side)


def decode_places(data: Buffer, number: int, count: int) -> NDArray[np.intp]:
    """Inverse of `encode_places`: `number` ascending places below `count`.

    Raises:
        CodecError: Damaged, or places outside the block.
    """
    gaps: NDArray[np.int32] = np.empty(number, "<i4")
    decode_plane(data, gaps)
    places = np.cumsum(gaps, dtype=np.intp)
    places += np.arange(number)
    if number and (int(gaps.min()) < 0 or int(places[-1]) >= count):
        raise CodecError("places lie outside the block", expected=f"below {count}")
    return places


def encoder_versions() -> dict[str, str]:
    """Versions of the libraries whose output bytes depend on them."""
    from importlib.metadata import version

    return {
        "pcodec": version("pcodec"),
        "zstandard": version("zstandard"),
        "zstd": ".".join(str(n) for n in zstandard.ZSTD_VERSION),
    }
