"""Rotated rounding: unbiased, exact on every machine, less noise at few bits, hostile frames."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TinyFamily, load_state

from ftt_hub.api.extract import extract
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.entropy.planes import encode_plane
from ftt_hub.codecs.lossy import components, rotated, rotation
from ftt_hub.codecs.lossy.rate import RateSurvey, Tally, choose_for_bits, step_for_bits
from ftt_hub.codecs.lossy.spread import measure
from ftt_hub.codecs.quantized import ROTATED, STOCHASTIC, QuantizedCodec, delta_values, pack
from ftt_hub.errors import CodecError
from ftt_hub.extraction.choice import Coding
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F32, DType
from ftt_hub.tensors.rounding import narrow

SCALE = 1e-3


def gaussian(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(count) * SCALE
    return values.astype(np.float32)


def block_of(values: np.ndarray, dtype: DType = F32) -> DeltaBlock:
    return DeltaBlock(narrow(values.reshape(-1).astype(np.float32), dtype), None, dtype)


def common_block(dtype: DType) -> DeltaBlock:
    """200 rows of 64 that change mostly alike, as those of a language model's head do."""
    rng = np.random.default_rng(7)
    return block_of(
        rng.standard_normal((200, 64)) * SCALE / 3 + rng.standard_normal((1, 64)) * SCALE, dtype
    )


def coded(values: np.ndarray, codec: QuantizedCodec, columns: int = 0) -> tuple[int, np.ndarray]:
    """Bytes of the frame, and Δ̂."""
    frame = codec.encode(block_of(values), BlockContext("w", columns=columns))
    return len(frame), delta_values(codec.decode(frame, values.size, F32))


@pytest.mark.parametrize("order", range(13))
def test_the_transform_undoes_itself_exactly(order: int) -> None:
    width = 1 << order
    given = np.random.default_rng(order).integers(-60, 61, (3, width)).astype(np.float32)
    np.testing.assert_array_equal(rotation.transform(rotation.transform(given)), width * given)


def test_signs_do_not_depend_on_where_reading_starts() -> None:
    whole = rotation.signs(5, 0, 10_000)
    np.testing.assert_array_equal(rotation.signs(5, 4096, 700), whole[4096:4796])
    assert set(np.unique(whole)) == {-1.0, 1.0}
    assert abs(float(whole.mean())) < 0.05
    assert whole[:16].tolist() != rotation.signs(6, 0, 16).tolist()


def test_signs_are_the_same_on_every_machine() -> None:
    """Frozen: another generator would change what every adapter decodes to."""
    bits = (rotation.signs(12345, 0, 64) < 0).astype(int)
    assert "".join(map(str, bits)) == FROZEN_SIGNS


FROZEN_SIGNS = "0000011010100101011010110111000001010000001101001001111010100101"


@pytest.mark.parametrize("count", [1, 5, 64, 4096, 5000, 12_289])
def test_every_length_comes_back_close_at_a_small_step(count: int) -> None:
    values = gaussian(count)
    _, decoded = coded(values, QuantizedCodec(0.02 * SCALE, ROTATED, rms=SCALE))
    assert np.linalg.norm(decoded - values) <= 0.05 * np.linalg.norm(values)


def test_the_mean_over_seeds_is_the_delta() -> None:
    values, seeds = gaussian(8192), 64
    found = [
        coded(values, QuantizedCodec(4 * SCALE, ROTATED, seed, SCALE))[1] for seed in range(seeds)
    ]
    one = np.square(found[0] - values).sum()
    mean = np.square(np.mean(found, 0) - values).sum()
    assert mean == pytest.approx(one / seeds, rel=0.1)


def test_the_gain_keeps_the_length_along_the_delta() -> None:
    """⟨Δ̂, Δ⟩ = ‖Δ‖² for every rotation, up to the rounding of the gains."""
    values = gaussian(1 << 18)
    _, decoded = coded(values, QuantizedCodec(5 * SCALE, ROTATED, rms=SCALE))
    assert float(decoded @ values) == pytest.approx(float(values @ values), rel=0.005)


@pytest.mark.parametrize("bits", [0.03, 0.1, 0.3])
def test_at_few_bits_noise_is_less_than_half_of_stochastic_rounding(bits: float) -> None:
    values = gaussian(1 << 19)
    tally = Tally()
    tally.add(block_of(values))
    square = float(np.square(values, dtype=np.float64).sum())
    survey = RateSurvey([tally.histogram()], 1.0, square, tally.spreads)
    errors = {}
    for kind in (STOCHASTIC, ROTATED):
        step = step_for_bits(survey, bits * values.size, kind)
        size, decoded = coded(values, QuantizedCodec(step, kind, rms=survey.rms))
        assert 8 * size / values.size <= 1.09 * bits
        errors[kind] = np.square(decoded - values, dtype=np.float64).sum()
    assert errors[ROTATED] < 0.5 * errors[STOCHASTIC]
    assert choose_for_bits(survey, bits * values.size, None)[1] == ROTATED


def test_a_sparse_delta_is_not_rotated_by_rule() -> None:
    """Rotation would spread a few changes over everything; their places are cheaper."""
    values = np.zeros(1 << 18, np.float32)
    values[:: 1 << 9] = SCALE
    tally = Tally()
    tally.add(block_of(values))
    square = float(np.square(values, dtype=np.float64).sum())
    survey = RateSurvey([tally.histogram()], 1.0, square, tally.spreads)
    assert choose_for_bits(survey, 0.02 * values.size, None)[1] != ROTATED


def test_runs_share_the_bits_by_their_spread() -> None:
    values = gaussian(2 * 4096)
    values[4096:] /= 4
    codec = QuantizedCodec(4 * SCALE, ROTATED, rms=SCALE)
    levels = rotated.quantize(values, codec.step, codec.rms, 1).levels
    loud, quiet = (np.count_nonzero(part) for part in (levels[:4096], levels[4096:]))
    assert 0 < quiet < loud


def test_components_take_what_rows_change_alike() -> None:
    values = delta_values(common_block(F32))
    codec = QuantizedCodec(4 * SCALE, ROTATED, rms=float(np.sqrt(np.square(values).mean())))
    plain_size, plain = coded(values, codec)
    size, decoded = coded(values, codec, columns=64)
    assert size < plain_size
    assert np.square(decoded - values).sum() < 0.5 * np.square(plain - values).sum()


def test_a_matrix_without_components_has_none() -> None:
    values = gaussian(300 * 128)
    found = components.find(values, 128)
    assert found is not None
    assert measure(values, found).rank(4 * SCALE, SCALE) == 0


def test_a_block_that_is_not_whole_rows_has_no_components() -> None:
    assert components.find(gaussian(1000), 64) is None
    assert components.find(gaussian(1000), 0) is None


def test_an_adapter_adds_what_it_says(family: TinyFamily, tmp_path: Path) -> None:
    coding = Coding("quantized", noise=0.01, rounding=ROTATED)
    adapter = extract(family.source, family.tuned, tmp_path / "a", codec=coding)
    assert adapter.config.codec.parameters["rounding"] == ROTATED
    merged = load_state(adapter.apply(family.source, tmp_path / "m").folder)
    tuned = load_state(family.tuned)
    error = sum(float((merged[n].float() - t.float()).square().sum()) for n, t in tuned.items())
    weights = sum(float(t.float().square().sum()) for t in tuned.values())
    assert (error / weights) ** 0.5 == pytest.approx(adapter.config.fidelity.noise, rel=0.1)


def test_bytes_do_not_depend_on_the_number_of_workers(family: TinyFamily, tmp_path: Path) -> None:
    digests = {
        extract(
            family.source,
            family.tuned,
            tmp_path / str(workers),
            codec=Coding("quantized", bits=0.5, rounding=ROTATED),
            workers=workers,
        ).config.content_digest
        for workers in (1, 3)
    }
    assert len(digests) == 1


def test_what_is_computed_by_another_order_of_sums_is_the_same() -> None:
    """BLAS libraries add in their own orders: a plain float64 product must give the same bits."""
    frame = QuantizedCodec(4 * SCALE, ROTATED, rms=SCALE).encode(
        block_of(gaussian(4096)), BlockContext("w")
    )
    codes, base, key, inner = rotated.unpack(frame, 4096)
    levels = np.zeros(4096, np.float32)
    from ftt_hub.codecs.quantized import unpack

    found, places, _ = unpack(inner, 4096)
    levels[slice(None) if places is None else places] = found
    matrix = rotation.transform(np.eye(4096, dtype=np.float32)).astype(np.float64)
    exact = (matrix @ levels.astype(np.float64)).astype(np.float32)
    gain = rotated.restore(np.eye(1, 4096, dtype=np.float32)[0], codes, base, key, 4096)
    decoded = QuantizedCodec().decode(frame, 4096, F32).hi.view(np.float32)
    np.testing.assert_array_equal(decoded, exact * np.abs(gain[0]) * rotation.signs(key, 0, 4096))


def whole_frame() -> bytes:
    return QuantizedCodec(4 * SCALE, ROTATED, rms=SCALE).encode(
        common_block(F32), BlockContext("w", columns=64)
    )


def test_a_frame_cut_anywhere_is_refused() -> None:
    frame = whole_frame()
    assert frame[0] == components.KIND
    for length in [*range(1, 60), *range(60, len(frame), 97)]:
        with pytest.raises(CodecError):
            QuantizedCodec().decode(frame[:length], 12_800, F32)


@pytest.mark.parametrize("count", [12_799, 12_801, 6400, 64])
def test_a_frame_of_another_number_of_elements_is_refused(count: int) -> None:
    with pytest.raises(CodecError):
        QuantizedCodec().decode(whole_frame(), count, F32)


def components_frame(scale: float, rank: int, columns: int, inner: bytes = b"") -> bytes:
    left = encode_plane(np.ones(max(1, rank) * 10, np.int8))
    right = encode_plane(np.ones(max(1, rank) * 64, np.int8))
    head = components.HEAD.pack(components.KIND, scale, rank, columns, len(left), len(right))
    return head + left + right + inner


def rotated_frame(base: float, levels: np.ndarray, codes: np.ndarray | None = None) -> bytes:
    given = np.zeros(1, np.uint8) if codes is None else codes
    return rotated.Levels(levels, given, base, 1).pack(pack(levels, 1.0))


@pytest.mark.parametrize(
    "frame",
    [
        components_frame(float("nan"), 1, 64),
        components_frame(-1.0, 1, 64),
        components_frame(1.0, 0, 64),
        components_frame(1.0, 1, 0),
        components_frame(1.0, 1, 63),
        components_frame(1.0, 2, 64)[:-1],
        components_frame(1.0, 1, 64, components_frame(1.0, 1, 64)),
        components_frame(1.0, 1, 64, pack(np.ones(640, np.int8), 1.0)),
        components_frame(3e38, 2, 64, b""),
        rotated_frame(float("inf"), np.ones(640 + 384, np.int8)),
        rotated_frame(0.0, np.ones(640 + 384, np.int8)),
        rotated_frame(1.0, np.full(640 + 384, 1 << 20, np.int32)),
        rotated_frame(1.0, np.ones(640, np.int8)),
        rotated_frame(1.0, np.ones(640 + 384, np.int8), np.zeros(2, np.uint8)),
        rotated_frame(3e38, np.ones(640 + 384, np.int8)),
        b"\xff" + bytes(40),
    ],
    ids=["nan", "negative", "rank-0", "no-columns", "columns", "short", "nested", "plain-inside",
         "overflow", "gain", "no-gain", "sums", "length", "runs", "large", "kind"],
)  # fmt: skip
def test_a_hostile_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(CodecError), np.errstate(over="ignore"):
        QuantizedCodec().decode(frame, 640, BF16)


def test_gains_span_sixteen_octaves_and_no_more() -> None:
    values = np.concatenate([gaussian(4096), gaussian(4096) * 2.0**-10, gaussian(4096) * 2.0**-40])
    levels = rotated.quantize(values, 0.5 * SCALE, SCALE, 3)
    assert levels.codes[0] <= 16 * 4
    assert 100 < levels.codes[1] < 255
    assert levels.codes[2] == 255
    assert struct.unpack_from("<Bf", levels.pack(b""))[0] == rotated.KIND


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-36])
def test_changes_too_small_for_float32_arithmetic_are_none(size: float) -> None:
    """Beside a run of usual size they are dropped; alone they take no bytes."""
    tiny = (np.random.default_rng(0).standard_normal(4096) * size).astype(np.float32)
    codec = QuantizedCodec(4 * SCALE, ROTATED, rms=SCALE)
    assert coded(tiny, codec, columns=64) == (0, pytest.approx(np.zeros(4096)))
    _, decoded = coded(np.concatenate([gaussian(4096), tiny]), codec)
    assert decoded[:4096].any()
    assert not decoded[4096:].any()


def test_torch_state_is_untouched() -> None:
    state = torch.random.get_rng_state()
    whole_frame()
    assert torch.equal(torch.random.get_rng_state(), state)
