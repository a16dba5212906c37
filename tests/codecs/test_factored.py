"""Codec `factored`: the product of two factors, the same on every machine and in every slice."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.entropy.planes import encode_plane
from ftt_hub.codecs.factored import FactoredCodec, PlainFactors, frame, joined, unpack
from ftt_hub.codecs.lossy.factors import MAX_RIGHT, FixedFactors, fix, short_bits
from ftt_hub.errors import CodecError
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F16, F32, DType
from ftt_hub.tensors.rounding import narrow, widen

FORMS = {"bf16": BF16, "f16": F16, "fp32": F32}
Doubles = NDArray[np.float64]


def low_rank(form: str, shape: tuple[int, int], rank: int, seed: int = 0) -> tuple[Doubles, ...]:
    """Factors as a LoRA has them, in one of its usual dtypes."""
    rng = np.random.default_rng(seed)
    left = rng.standard_normal((shape[0], rank)) * 0.01
    right = rng.uniform(-0.1, 0.1, (rank, shape[1]))
    dtype = FORMS[form]

    def held(values: Doubles) -> Doubles:
        bits = narrow(values.astype(np.float32).reshape(-1), dtype)
        return widen(bits, dtype).astype(np.float64).reshape(values.shape)

    return held(left), held(right)


def decoded(factors: FixedFactors, rows: list[int], dtype: DType) -> NDArray[np.generic]:
    """All of Δ by frames of so many rows each."""
    codec, columns = FactoredCodec(), factors.shape[1]
    starts = np.cumsum([0, *rows])
    frames = [frame(factors, int(s), n) for s, n in zip(starts, rows, strict=False)]
    blocks = [
        codec.decode(f, n * columns, dtype, None, frames[0] if i else None)
        for i, (f, n) in enumerate(zip(frames, rows, strict=True))
    ]
    return np.concatenate([block.hi for block in blocks]).reshape(-1, columns)


@pytest.mark.parametrize("form", FORMS)
def test_every_element_is_the_exact_sum_of_the_integers_rounded_once(form: str) -> None:
    factors = fix(*low_rank(form, (7, 9), 5), scale=1.0)
    step = Fraction(factors.left_step) * Fraction(factors.right_step)
    hi = widen(decoded(factors, [7], F32).reshape(-1), F32)
    for place, found in zip(np.ndindex(7, 9), hi, strict=True):
        pairs = zip(factors.left[place[0]], factors.right[:, place[1]], strict=True)
        exact = sum(Fraction(int(a)) * int(b) for a, b in pairs) * step
        assert found == np.float32(float(exact))


@pytest.mark.parametrize("rows", [[64], [1] * 64, [3, 40, 21]])
@pytest.mark.parametrize("dtype", [BF16, F16, F32], ids=lambda d: d.name)
def test_slices_of_rows_decode_to_the_same_bits(rows: list[int], dtype: DType) -> None:
    factors = fix(*low_rank("fp32", (64, 50), 16), scale=0.37)
    np.testing.assert_array_equal(decoded(factors, rows, dtype), decoded(factors, [32, 32], dtype))


def test_any_number_of_threads_and_any_order_of_summation_give_the_same_bits() -> None:
    factors = fix(*low_rank("fp32", (300, 4000), 64))
    order = np.random.default_rng(0).permutation(64)
    turned = FixedFactors(
        factors.left[:, order], factors.right[order], factors.left_step, factors.right_step
    )
    expected = factors.product(BF16)
    np.testing.assert_array_equal(turned.product(BF16), expected)
    code = (
        "import sys, hashlib; sys.path[:0] = ['tests', 'tests/codecs'];"
        "from test_factored import *;"
        "print(hashlib.sha256(fix(*low_rank('fp32', (300, 4000), 64)).product(BF16)).hexdigest())"
    )
    words = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            words, cwd=root, capture_output=True, text=True, check=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": core},
        ).stdout
        for threads, core in (("1", "Nehalem"), ("2", "Haswell"))
    }  # fmt: skip
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("form", "spare", "bits"), [("bf16", 16, 11.5), ("f16", 13, 15), ("fp32", 0, 21)]
)
def test_factors_keep_their_bits_and_cost_what_they_hold(
    form: str, spare: int, bits: float
) -> None:
    left, right = low_rank(form, (500, 700), 16)
    factors = fix(left, right)
    assert short_bits(factors.left) == short_bits(factors.right) == spare
    size = len(frame(factors, 0, 500))
    assert 8 * size <= bits * (left.size + right.size) + 8 * 200
    ours = factors.values[0] @ factors.values[1]
    error = np.linalg.norm(ours - left @ right) / np.linalg.norm(left @ right)
    assert error < (3e-6 if form == "fp32" else 1e-8)
    assert error > 0 or form != "fp32"


def test_a_scale_that_is_no_power_of_two_costs_short_factors_nothing() -> None:
    left, right = low_rank("bf16", (50, 60), 4)
    factors = fix(left, right, scale=-0.3)
    assert short_bits(factors.left) == 16
    found = factors.values[0] @ factors.values[1]
    np.testing.assert_allclose(found, -0.3 * left @ right, rtol=1e-6, atol=1e-12)


def test_components_out_of_proportion_are_evened_out_and_zero_ones_dropped() -> None:
    left, right = low_rank("fp32", (50, 60), 4)
    factors = fix(left * [1, 1e-6, 1, 0], right * np.array([1, 1e6, 1, 1])[:, None])
    assert factors.rank == 3
    expected = left[:, :3] @ right[:3]
    error = np.linalg.norm(factors.values[0] @ factors.values[1] - expected)
    assert error < 3e-6 * np.linalg.norm(expected)
    with pytest.raises(CodecError, match="zero"):
        fix(left * 0, right)


@pytest.mark.parametrize("rank", [1, 300, 5000])
def test_the_sum_stays_exact_at_any_rank(rank: int) -> None:
    factors = fix(np.full((2, rank), 0.999), np.full((rank, 2), -0.999))
    expected = -rank * factors.values[0][0, 0] * -factors.values[1][0, 0]
    found = widen(factors.product(F32), F32)
    assert set(found.tolist()) == {float(np.float32(expected))}
    with pytest.raises(CodecError, match="not exact"):
        FixedFactors(factors.left * 128, factors.right * 128, 1.0, 1.0)


def test_rows_without_change_change_nothing() -> None:
    left, right = low_rank("bf16", (8, 20), 2)
    left[2:6] = 0
    factors = fix(left, right)
    assert frame(factors, 2, 4) == b""
    bits = decoded(factors, [1, 1, 4, 2], BF16)
    assert (bits[2:6] == BF16.sign_bit).all()
    frames = [frame(factors, 0, 2), frame(factors, 2, 4), frame(factors, 6, 2)]
    whole = joined(zip(frames, (40, 80, 40), strict=True), 20)
    np.testing.assert_array_equal(whole.left, factors.left)
    np.testing.assert_array_equal(whole.right, factors.right)


def test_what_is_measured_is_the_error_of_the_stored_delta() -> None:
    left, right = low_rank("fp32", (30, 40), 3)
    codec = FactoredCodec(find=lambda _: PlainFactors(left, right)).for_tensor(
        "w", (30, 40), (30, 40)
    )
    assert codec is not None
    empty = DeltaBlock(np.zeros(400, np.uint32), None, F32)
    first = codec.encode(empty, BlockContext("w", 0))
    block = codec.decode(codec.encode(empty, BlockContext("w", 400)), 400, F32, None, first)
    ideal = (left @ right)[10:20].reshape(-1)
    square, error = codec.measure(block, BlockContext("w", 400))
    assert square == pytest.approx(float(np.square(ideal).sum()))
    assert error == pytest.approx(float(np.square(ideal - widen(block.hi, F32)).sum()))


def test_factors_that_save_nothing_are_not_used() -> None:
    left, right = low_rank("fp32", (6, 40), 6)
    codec = FactoredCodec(find=lambda _: PlainFactors(left, right))
    assert codec.for_tensor("w", (6, 40), (6, 40)) is None
    assert codec.for_tensor("w", (40, 6), (40, 6)) is None
    assert FactoredCodec().for_tensor("w", (6, 40), (6, 40)) is None


HEAD = struct.Struct("<BIIddII")


def altered(data: bytes, **changes: float) -> bytes:
    """A first frame with other values in its head."""
    names = ("kind", "rank", "columns", "left_step", "right_step", "right", "left")
    values = dict(zip(names, HEAD.unpack_from(data), strict=True))
    return HEAD.pack(*{**values, **changes}.values()) + data[HEAD.size :]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 3}, {"kind": 2}, {"rank": 0}, {"rank": 4}, {"rank": 2**32 - 1},
        {"columns": 0}, {"columns": 7}, {"columns": 2**32 - 1}, {"columns": 10},
        {"left_step": float("nan")}, {"left_step": float("inf")}, {"right_step": -1.0},
        {"right_step": 0.0}, {"left_step": 1e300, "right_step": 1e300},
        {"left_step": 1e-300, "right_step": 1e-300}, {"left_step": 1e50},
        {"right": 2**32 - 1}, {"right": 0}, {"left": 0}, {"left": 2**31},
    ],
    ids=str,
)  # fmt: skip
def test_a_hostile_head_is_refused(changes: dict[str, float]) -> None:
    data = frame(fix(*low_rank("bf16", (5, 20), 3)), 0, 5)
    with pytest.raises(CodecError):
        FactoredCodec().decode(altered(data, **changes), 100, BF16)


def parts(right: bytes, left: bytes, rank: int, columns: int) -> bytes:
    return HEAD.pack(1, rank, columns, 1.0, 1.0, len(right), len(left)) + right + left


def test_hostile_factors_are_refused() -> None:
    codec, small = FactoredCodec(), b"\x00" + encode_plane(np.ones(2, np.int32))
    huge = b"\x00" + encode_plane(np.full(2, -(2**31), np.int32))
    with pytest.raises(CodecError, match="not exact"):
        codec.decode(parts(huge, huge, 1, 2), 4, F32)
    with pytest.raises(CodecError, match="form"):
        codec.decode(parts(b"\x07" + small[1:], small, 1, 2), 4, F32)
    with pytest.raises(CodecError, match="form"):
        codec.decode(parts(b"", small, 1, 2), 4, F32)
    for pattern in (0x7F80, 0x7FC0, 0x3F00, 0x7F00, -(2**15)):  # inf, NaN, 1/2, 2^127, no number
        short = b"\x10" + encode_plane(np.full(2, pattern, np.int16))
        with pytest.raises(CodecError, match="integers"):
            codec.decode(parts(short, small, 1, 2), 4, F32)
    wide = b"\x0d" + encode_plane(np.full(2, 2**30, np.int32))
    with pytest.raises(CodecError, match="integers"):
        codec.decode(parts(wide, small, 1, 2), 4, F32)
    big = b"\x00" + encode_plane(np.full(2, 2**20, np.int32))
    with pytest.raises(CodecError, match="overflows"):
        codec.decode(parts(big, big, 1, 2), 4, F16)


def test_a_right_factor_far_larger_than_its_block_is_refused_before_it_is_made() -> None:
    columns = MAX_RIGHT // 64
    bomb = b"\x00" + encode_plane(np.zeros(1000, np.int32))
    with pytest.raises(CodecError, match="too large"):
        FactoredCodec().decode(parts(bomb, bomb, 65, columns), columns, F32)


def test_a_later_frame_needs_the_first_one() -> None:
    factors = fix(*low_rank("fp32", (6, 20), 2))
    first, later = frame(factors, 0, 3), frame(factors, 3, 3)
    codec = FactoredCodec()
    assert codec.decode(later, 60, F32, None, first).hi.size == 60
    for wrong in (None, b"", later, first[:10]):
        with pytest.raises(CodecError):
            codec.decode(later, 60, F32, None, wrong)
    for damaged in (later[:4], later[:-1], later + b"\x00", later[:1]):
        with pytest.raises(CodecError):
            codec.decode(damaged, 60, F32, None, first)
    with pytest.raises(CodecError):
        joined([(later, 60), (first, 60)], 20)
    with pytest.raises(CodecError, match="width"):
        joined([(first, 60)], 10)


@given(data=st.data(), form=st.sampled_from(sorted(FORMS)), dtype=st.sampled_from([BF16, F16, F32]))
@settings(max_examples=300, deadline=None)
def test_altered_frames_never_do_worse_than_a_codec_error(
    data: st.DataObject, form: str, dtype: DType
) -> None:
    factors = fix(*low_rank(form, (6, 20), 2))
    first, later = bytearray(frame(factors, 0, 3)), bytearray(frame(factors, 3, 3))
    changed = data.draw(st.sampled_from([first, later]))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for given_frame, opening in ((first, None), (later, bytes(first))):
        with contextlib.suppress(CodecError):
            assert (
                FactoredCodec().decode(bytes(given_frame), 60, dtype, None, opening).hi.size == 60
            )


def test_impossible_factors_are_not_stored() -> None:
    left, right = low_rank("fp32", (6, 20), 2)
    for wrong in (
        (left, right.T),
        (left[0], right),
        (left * np.nan, right),
        (left, right * np.inf),
    ):
        with pytest.raises(CodecError):
            fix(*wrong)
    assert unpack(frame(fix(left, right), 0, 6), 120).rank == 2
