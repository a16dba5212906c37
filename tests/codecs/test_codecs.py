"""One suite for every codec: round trip, determinism, golden bytes, hostile frames."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from codec_contract import FLOATS, CodecContract, by_dtype

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.catalogue import CODECS, codec
from ftt_hub.codecs.entropy import symbols
from ftt_hub.codecs.entropy.ordered import from_ordered, to_ordered
from ftt_hub.codecs.entropy.planes import PCODEC, ZSTD, decode_plane, encode_plane
from ftt_hub.codecs.entropy.symbols import SYMBOLS, decode_values, encode_values
from ftt_hub.errors import CodecError, UnsupportedError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, DTYPES, F16, DType
from ftt_hub.tensors.rounding import narrow

GOLDEN = Path(__file__).parent / "golden"


class TestEveryCodec(CodecContract):
    @pytest.fixture(params=sorted(CODECS))
    def each(self, request: pytest.FixtureRequest) -> Codec:
        return codec(request.param)


@by_dtype
def test_bits_and_ordered_integers_are_a_bijection_in_value_order(dtype: DType) -> None:
    if dtype.bits == 16:
        bits = np.arange(2**16, dtype=np.uint32).astype(dtype.numpy)
    else:
        bits = np.random.default_rng(0).integers(0, 2**32, 100_000).astype(dtype.numpy)
    bits = bits[(bits & dtype.numpy.type(dtype.sign_bit - 1)) < dtype.infinity]
    ordered = to_ordered(bits, dtype)
    np.testing.assert_array_equal(from_ordered(ordered.copy(), dtype), bits)
    identity = to_ordered(np.array([dtype.sign_bit], dtype.numpy), dtype)
    assert identity[0] == 0
    as_float = (
        bits.view({2: np.float16, 4: np.float32}[dtype.itemsize])
        if dtype is not BF16
        else ((bits.astype(np.uint32) << 16).view(np.float32))
    )
    order = np.argsort(ordered, kind="stable")
    assert (np.diff(as_float[order].astype(np.float64)) >= 0).all()


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
def test_a_plane_is_stored_by_the_smaller_coder(kind: type) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(100_000) * 20).astype(kind)
    text = np.tile(rng.integers(-128, 128, 997), 200).astype(kind)  # repeats, which only zstd sees
    for plane, coder in ((noise, PCODEC), (text, ZSTD)):
        data = encode_plane(plane)
        assert data[0] == coder
        back = np.empty_like(plane)
        decode_plane(data, back)
        np.testing.assert_array_equal(back, plane)


def grid_block(dtype: DType, count: int, *, seed: int = 0) -> DeltaBlock:
    """Δ of two models on one grid, as fine-tuning at a low learning rate leaves it."""
    rng = np.random.default_rng(seed)
    source = narrow((rng.standard_normal(count) * 0.05).astype(np.float32), dtype)
    steps = np.rint(rng.standard_normal(count)).astype(np.int16).view(np.uint16)
    source[source == dtype.sign_bit] = 0
    return delta.compute(source, source + steps, dtype)[0]


@pytest.mark.parametrize("dtype", [BF16, F16], ids=lambda d: d.name)
def test_differences_on_a_grid_are_coded_as_symbols_within_a_tenth_of_pcodec(dtype: DType) -> None:
    given_block = grid_block(dtype, 300_001)
    frame = codec("exact").encode(given_block, BlockContext("w"))
    hi = frame[16:]
    assert hi[0] == SYMBOLS
    assert codec("exact").decode(frame, 300_001, dtype).equals(given_block)
    integers = to_ordered(given_block.hi, dtype)
    size = int.from_bytes(frame[4:8], "little")
    assert size <= 1.1 * len(encode_plane(integers))
    back = decode_values(hi[:size], 300_001, 2, lambda plane: plane.view(np.uint16))
    np.testing.assert_array_equal(back.view(np.int16), integers)


@by_dtype
@pytest.mark.parametrize("share", [1e-4, 0.01, 0.1])
@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_a_sparse_delta_costs_about_its_entropy_and_adds_like_a_dense_one(
    dtype: DType, share: float, scale: float
) -> None:
    rng, count = np.random.default_rng(0), 100_000
    source, target = (
        narrow((rng.standard_normal(count) * 0.05).astype(np.float32), dtype) for _ in range(2)
    )
    tuned = source.copy()
    chosen = rng.random(count) < share
    tuned[chosen] ^= 1
    given_block = delta.compute(source, tuned, dtype)[0]
    frame = codec("exact").encode(given_block, BlockContext("w"))
    decoded = codec("exact").decode(frame, count, dtype)
    assert decoded.equals(given_block)
    assert decoded.changed is not None
    np.testing.assert_array_equal(decoded.changed, np.flatnonzero(chosen))
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert 8 * len(frame) <= 1.1 * count * (entropy + share * 10) + 8 * 400
    sparse, dense = target.copy(), target.copy()
    delta.add(sparse, decoded, dtype, scale=scale)
    delta.add(dense, given_block, dtype, scale=scale)
    np.testing.assert_array_equal(sparse, dense)


@pytest.mark.parametrize("damage", ["head", "none", "many", "length"])
def test_a_hostile_sparse_plane_is_refused(damage: str) -> None:
    hi = np.full(5000, BF16.sign_bit, np.uint16)
    hi[::50] = 0x3C00
    frame = bytearray(codec("exact").encode(DeltaBlock(hi, None, BF16), BlockContext("w")))
    assert frame[16] == 4
    if damage == "head":
        frame = frame[:4] + bytes([3, 0, 0, 0]) + bytes(8) + b"\x04ab"
    elif damage in ("none", "many"):
        frame[17:21] = (0 if damage == "none" else 5001).to_bytes(4, "little")
    else:
        frame[21:25] = (1 << 31).to_bytes(4, "little")
    with pytest.raises(CodecError):
        codec("exact").decode(bytes(frame), 5000, BF16)


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_what_does_not_suit_a_table_is_not_coded_as_symbols(share: float) -> None:
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 1 << 15, 50_000).astype(np.uint16)
    assert symbols.suitable_table(dense) is None
    mostly_one = np.where(rng.random(50_000) < share, 7, rng.integers(0, 100, 50_000))
    assert symbols.suitable_table(mostly_one.astype(np.uint16)) is None


@pytest.mark.parametrize("damage", ["table", "symbol", "rest", "nested", "length", "wide"])
def test_a_hostile_symbol_payload_is_refused(damage: str) -> None:
    count = 20_000
    data = encode_values(grid_block(BF16, count).hi, lambda bits: to_ordered(bits, BF16))
    assert data[0] == SYMBOLS
    size = data[1]
    start = 2 + 2 * size
    length = int.from_bytes(data[start : start + 4], "little")
    frame, rest = data[start + 4 : start + 4 + length], data[start + 4 + length :]
    itemsize = 2
    if damage == "table":
        data = data[:1] + b"\x00" + data[2:]
    elif damage == "symbol":
        worse = symbols.compress(np.full(count, 255, np.uint8))
        data = bytes([SYMBOLS, 1, 0, 0]) + len(worse).to_bytes(4, "little") + worse
    elif damage == "rest":
        data = data[: start + 4 + length] + (b"" if rest else b"\x01junk")
    elif damage == "nested":
        missing = symbols.compress(np.ones(count, np.uint8))
        data = bytes([SYMBOLS, 1, 0, 0]) + len(missing).to_bytes(4, "little") + missing + data
    elif damage == "length":
        data = data[:start] + (1 << 31).to_bytes(4, "little") + frame + rest
    else:
        itemsize = 4
    with pytest.raises(CodecError):
        decode_values(data, count, itemsize, lambda plane: plane.view(f"<u{plane.itemsize}"))
    with pytest.raises(CodecError, match="unknown coder byte"):
        decode_plane(data, np.empty(count, np.int16))


def test_a_zstd_bomb_is_refused_before_it_expands() -> None:
    import zstandard

    bomb = bytes([ZSTD]) + zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(CodecError, match="another length"):
        decode_plane(bomb, np.empty(1000, np.int16))


def test_a_pcodec_bomb_is_refused() -> None:
    bomb = encode_plane(np.zeros(8 << 20, np.int16))
    assert len(bomb) < 1000
    with pytest.raises(CodecError, match="another length"):
        decode_plane(bomb, np.empty(1000, np.int16))


def test_an_unknown_codec_asks_for_an_upgrade() -> None:
    with pytest.raises(UnsupportedError, match="Upgrade"):
        codec("telepathy")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.frame")), ids=lambda p: p.stem)
def test_golden_frames_decode_for_ever(path: Path) -> None:
    """Files are only ever added: `<codec>-<dtype>-<name>.frame` beside a `.json` of facts."""
    facts = json.loads(path.with_suffix(".json").read_text())
    source, first = path.with_suffix(".source"), path.with_suffix(".first")
    dtype = DTYPES[facts["dtype"]]
    decoded = codec(facts["codec"]).decode(
        path.read_bytes(),
        facts["count"],
        dtype,
        np.frombuffer(source.read_bytes(), dtype.numpy) if source.is_file() else None,
        first.read_bytes() if first.is_file() else None,
    )
    lo = b"" if decoded.lo is None else decoded.lo.tobytes()
    assert hashlib.sha256(decoded.hi.tobytes()).hexdigest() == facts["hi"]
    assert hashlib.sha256(lo).hexdigest() == facts["lo"]


def test_every_codec_and_dtype_has_a_golden_frame() -> None:
    names = {"-".join(path.stem.split("-")[:2]) for path in GOLDEN.glob("*.frame")}
    assert {f"{c}-{d.name}" for c in CODECS for d in FLOATS} <= names
