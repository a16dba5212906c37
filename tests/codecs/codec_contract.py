"""What every codec promises: inherit `CodecContract` and provide the `each` fixture.

A codec of your own::

    class TestMyCodec(CodecContract):
        @pytest.fixture
        def each(self) -> Codec:
            return MyCodec()
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.quantized import delta_values
from ftt_hub.errors import CodecError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F16, F32, DType
from ftt_hub.tensors.rounding import narrow

FLOATS = [BF16, F16, F32]
by_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)


def block(dtype: DType, count: int, *, lo: bool = False, seed: int = 0) -> DeltaBlock:
    """A block like real ones: small values, half of them unchanged, lo almost empty."""
    rng = np.random.default_rng(seed)
    hi = narrow((rng.standard_normal(count) * 1e-3).astype(np.float32), dtype)
    hi[rng.random(count) < 0.5] = dtype.sign_bit
    low = narrow((rng.standard_normal(count) * 1e-7).astype(np.float32), dtype)
    low[rng.random(count) < 0.98] = 0
    return DeltaBlock(hi, low if lo else None, dtype)


def case(
    which: Codec, dtype: DType, count: int, *, lo: bool = False, seed: int = 0
) -> tuple[DeltaBlock, BlockContext]:
    """A block and its place; codecs that need the source base get a real pair of models."""
    given_block = block(dtype, count, lo=lo, seed=seed)
    if not which.needs_source:
        return given_block, BlockContext("w")
    rng = np.random.default_rng(seed + 1)
    source = narrow((rng.standard_normal(count) * 0.05).astype(np.float32), dtype)
    tuned = source.copy()
    delta.add(tuned, given_block, dtype)
    return delta.compute(source, tuned, dtype)[0], BlockContext("w", 0, source, tuned)


class CodecContract:
    """The tests: round trip, determinism, empty blocks, damaged and arbitrary frames.

    Attributes:
        largest_error: Largest |Δ̂ − Δ| of a codec that is not exact.
    """

    largest_error: float = 2.0**-12

    @pytest.fixture
    def each(self) -> Codec:
        raise NotImplementedError

    def test_it_is_one_of_a_kind(self, each: Codec) -> None:
        assert isinstance(each, Codec)
        assert each.id == type(each)().id != ""

    @by_dtype
    @pytest.mark.parametrize("lo", [False, True])
    @pytest.mark.parametrize("count", [1, 2, 1000, 70_000])
    def test_a_block_comes_back(self, each: Codec, dtype: DType, count: int, lo: bool) -> None:
        """Bit for bit from exact codecs, within one step from the others."""
        given_block, place = case(each, dtype, count, lo=lo)
        decoded = each.decode(each.encode(given_block, place), count, dtype, place.source)
        assert decoded.hi.size == count
        if each.exact:
            assert decoded.equals(given_block)
            return
        error = delta_values(decoded) - delta_values(given_block)
        assert np.abs(error).max() <= self.largest_error

    @by_dtype
    def test_an_unchanged_block_takes_no_bytes(self, each: Codec, dtype: DType) -> None:
        identity = DeltaBlock(np.full(5000, dtype.sign_bit, dtype.numpy), None, dtype)
        assert each.encode(identity, BlockContext("w", 0, identity.hi, identity.hi)) == b""
        assert each.decode(b"", 5000, dtype).is_identity

    def test_a_strided_block_gives_the_same_frame(self, each: Codec) -> None:
        whole, place = case(each, BF16, 2000, lo=True)
        strided = whole.part(np.s_[::2])
        copied = DeltaBlock(
            strided.hi.copy(), None if strided.lo is None else strided.lo.copy(), BF16
        )
        if place.source is not None and place.tuned is not None:
            place = BlockContext("w", 0, place.source[::2], place.tuned[::2])
        assert each.encode(strided, place) == each.encode(copied, place)

    def test_encoding_is_deterministic(self, each: Codec) -> None:
        first, second = (case(each, BF16, 5000, lo=True) for _ in range(2))
        assert each.encode(*first) == each.encode(*second)

    def test_parameters_survive_json(self, each: Codec) -> None:
        assert json.loads(json.dumps(each.parameters())) == each.parameters()

    @by_dtype
    @pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "count"])
    def test_a_damaged_frame_is_refused_or_decodes_to_the_declared_size(
        self, each: Codec, dtype: DType, damage: str
    ) -> None:
        given_block, place = case(each, dtype, 3000, lo=True)
        frame, count = each.encode(given_block, place), 3000
        if damage == "cut":
            frame = frame[: len(frame) // 2]
        elif damage == "longer":
            frame += b"\x00" * 50
        elif damage == "flipped":
            frame = bytes([frame[0] ^ 0xFF]) + frame[1:]
        else:
            count = 2999
        with pytest.raises(CodecError):
            each.decode(frame, count, dtype, place.source)

    @given(data=st.binary(max_size=300), count=st.integers(0, 5000))
    @settings(
        max_examples=300,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    def test_arbitrary_bytes_never_do_worse_than_a_codec_error(
        self, each: Codec, data: bytes, count: int
    ) -> None:
        try:
            decoded = each.decode(data, count, BF16, np.zeros(count, np.uint16))
        except CodecError:
            return
        assert decoded.hi.size == count
