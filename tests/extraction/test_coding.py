"""Limits, lossy fidelity and anchored adapters, from two model folders to a merged one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from models import TinyFamily, load_state, random_state, same_bits, save_model
from safetensors.torch import save_file
from threadpoolctl import threadpool_info, threadpool_limits

import ftt_hub
from ftt_hub.api.extract import extract
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.lossy.dither import uniforms
from ftt_hub.codecs.lossy.rate import HARM, RateSurvey, Tally, step_for_bits, step_for_error
from ftt_hub.codecs.quantized import (
    NEAREST,
    ROTATED,
    STOCHASTIC,
    QuantizedCodec,
    delta_values,
    round_step,
)
from ftt_hub.errors import CodecError, ExtractionError, IncompatibleError, UnsupportedError
from ftt_hub.extraction.choice import Coding
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F32
from ftt_hub.tensors.rounding import narrow


def gaussian(count: int, scale: float = 1e-3, seed: int = 0) -> DeltaBlock:
    values = np.random.default_rng(seed).standard_normal(count).astype(np.float32) * scale
    return DeltaBlock(narrow(values.astype(np.float32), F32), None, F32)


def survey_of(block: DeltaBlock) -> RateSurvey:
    square = float(np.square(delta_values(block), dtype=np.float64).sum())
    tally = Tally()
    tally.add(block)
    return RateSurvey([tally.histogram()], 1.0, square, tally.spreads)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_matrix_products_have_one_thread_while_an_adapter_is_made(
    family: TinyFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components are sums of floats: threads would add them up in another order."""
    seen: set[int] = set()
    encode = QuantizedCodec.encode

    def watched(self: QuantizedCodec, block: DeltaBlock, place: BlockContext) -> bytes:
        seen.update(blas_threads())
        return encode(self, block, place)

    monkeypatch.setattr(QuantizedCodec, "encode", watched)
    with threadpool_limits(2, "blas"):
        assert blas_threads() == {2}
        extract(family.source, family.tuned, tmp_path / "a", codec=Coding("quantized", bits=1))
        assert blas_threads() == {2}
    assert seen == {1}


def test_the_dither_of_an_element_does_not_depend_on_the_block_it_is_in() -> None:
    whole = uniforms(3, "w", 0, 1000)
    for start, count in ((0, 10), (7, 33), (160, 840), (999, 1)):
        np.testing.assert_array_equal(uniforms(3, "w", start, count), whole[start : start + count])
    assert not np.array_equal(uniforms(4, "w", 0, 1000), whole)
    assert not np.array_equal(uniforms(3, "v", 0, 1000), whole)
    assert 0 < whole.min() < whole.max() < 1


def test_the_dither_is_the_same_on_every_machine() -> None:
    """Philox4x64-10, frozen: a changed generator would change the bytes of every adapter."""
    assert (uniforms(0, "w", 5, 4) * 65536 - 0.5).astype(int).tolist() == [
        40411,
        23475,
        3897,
        16106,
    ]


def test_stochastic_rounding_is_unbiased() -> None:
    block = DeltaBlock(narrow(np.full(200_000, 0.01, np.float32), F32), None, F32)
    codec = QuantizedCodec(step=0.25)
    mean = delta_values(codec.decode(codec.encode(block, BlockContext("w")), 200_000, F32)).mean()
    assert mean == pytest.approx(0.01, abs=5 * 0.05 / 200_000**0.5)


def test_nearest_rounding_errs_by_half_a_step_at_most() -> None:
    block, codec = gaussian(50_000), QuantizedCodec(step=2.0**-11, rounding=NEAREST)
    decoded = codec.decode(codec.encode(block, BlockContext("w")), 50_000, F32)
    error = delta_values(decoded) - delta_values(block)
    assert np.abs(error).max() <= 2.0**-12 * (1 + 1e-6)


@pytest.mark.parametrize("rounding", [NEAREST, STOCHASTIC, ROTATED])
@pytest.mark.parametrize("bits", [0.05, 0.3, 1.0, 3.0])
def test_predicted_bits_and_errors_are_those_of_the_coder(rounding: str, bits: float) -> None:
    block = gaussian(1 << 20)
    survey = survey_of(block)
    step = step_for_bits(survey, bits * block.hi.size, rounding)
    codec = QuantizedCodec(round_step(step, rounding), rounding, rms=survey.rms)
    frame = codec.encode(block, BlockContext("w"))
    # at a few hundredths of a bit the gains and the coder's own tables are seen
    slack = 0.06 if rounding == ROTATED and bits < 0.1 else 0.035
    assert 8 * len(frame) / block.hi.size == pytest.approx(bits, rel=slack)
    error = delta_values(codec.decode(frame, block.hi.size, F32)) - delta_values(block)
    measured = float(np.square(error, dtype=np.float64).sum())
    assert survey.predict(step, rounding).error_square == pytest.approx(measured, rel=0.02)


def test_a_nearest_step_is_within_0_3_bits_of_the_rate_distortion_bound() -> None:
    block = gaussian(1 << 19)
    survey = survey_of(block)
    for error in (0.2, 0.1, 0.05, 0.03, 0.01):
        step = step_for_error(survey, error**2 * survey.delta_square, NEAREST)
        frame = QuantizedCodec(step, NEAREST).encode(block, BlockContext("w"))
        assert 8 * len(frame) / block.hi.size - np.log2(1 / error) <= 0.3


def wide_family(root: Path, seed: int = 0, size: float = 0.004) -> tuple[Path, Path]:
    """A pair with matrices large enough for limits to mean something."""
    source = random_state(seed)
    generator = torch.Generator().manual_seed(5)
    source["model.wide.weight"] = torch.randn(1500, 400, generator=generator) * 0.05
    tuned = {
        n: t + size * t.std() * torch.randn(t.shape, generator=generator) for n, t in source.items()
    }
    return save_model(root / "s", source), save_model(root / "t", tuned)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return wide_family(tmp_path_factory.mktemp("wide"))


@pytest.mark.parametrize("size", [30_000, 60_000, 200_000])
def test_a_target_size_is_hit_within_3_percent(
    wide: tuple[Path, Path], tmp_path: Path, size: int
) -> None:
    extract(*wide, tmp_path / "a", codec=Coding("quantized", target_size=size))
    found = (tmp_path / "a/adapter_model.safetensors").stat().st_size
    assert found == pytest.approx(size, rel=0.03)


def test_bits_and_errors_are_kept_and_measured(wide: tuple[Path, Path], tmp_path: Path) -> None:
    bits = extract(*wide, tmp_path / "a", codec=Coding("quantized", bits=0.5)).config
    assert bits.fidelity.bits_per_weight == pytest.approx(0.5, rel=0.03)
    assert bits.codec.parameters["rounding"] == ROTATED
    assert not bits.fidelity.exact
    error = extract(*wide, tmp_path / "b", codec=Coding("quantized", max_error=0.1)).config
    assert 0.09 < error.fidelity.relative_error <= 0.1
    assert error.codec.parameters["rounding"] == NEAREST
    ratio = error.fidelity.noise / error.fidelity.relative_error
    assert ratio == pytest.approx(error.fidelity.relative_norm, rel=0.01)


@pytest.mark.parametrize("size", [0.002, 0.1])
def test_the_default_adds_noise_of_one_percent_of_the_weights_at_most(
    tmp_path: Path, size: float
) -> None:
    pair = wide_family(tmp_path, size=size)
    config = extract(*pair, tmp_path / "a", codec="quantized").config
    assert 0.008 / HARM[ROTATED] ** 0.5 < config.fidelity.noise <= 0.0103
    assert config.codec.parameters["rounding"] == (NEAREST if size > 0.01 else ROTATED)


def test_a_merged_model_has_the_stored_delta_and_exact_norms(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = extract(family.source, family.tuned, tmp_path / "a", codec="quantized")
    result = adapter.apply(family.source, tmp_path / "m")
    merged, tuned = load_state(result.folder), load_state(family.tuned)
    error = weights = 0.0
    for name, tensor in tuned.items():
        if tensor.dim() < 2:
            assert same_bits(merged[name], tensor)
        error += float((merged[name].float() - tensor.float()).square().sum())
        weights += float(tensor.float().square().sum())
    assert (error / weights) ** 0.5 == pytest.approx(adapter.config.fidelity.noise, rel=0.1)


@pytest.mark.parametrize("codec", ["quantized", "anchored"])
def test_bytes_do_not_depend_on_the_number_of_threads(
    family: TinyFamily, tmp_path: Path, codec: str
) -> None:
    digests = {
        extract(
            family.source, family.tuned, tmp_path / str(n), codec=codec, workers=n
        ).config.content_digest
        for n in (1, 3)
    }
    assert len(digests) == 1


def test_another_seed_gives_another_adapter(family: TinyFamily, tmp_path: Path) -> None:
    digests = {
        extract(
            family.source, family.tuned, tmp_path / str(n), codec=Coding("quantized", seed=n)
        ).config.content_digest
        for n in (0, 1)
    }
    assert len(digests) == 2


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(ExtractionError, match="more than one limit"):
        Coding("quantized", bits=1, max_error=0.1)
    with pytest.raises(ExtractionError, match="lossless"):
        Coding("exact", bits=1)
    with pytest.raises(ExtractionError, match="positive"):
        Coding("quantized", bits=0)


def test_a_limit_that_leaves_nothing_says_what_is_needed(
    wide: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExtractionError, match="leaves nothing"):
        extract(*wide, tmp_path / "a", codec=Coding("quantized", target_size=2000))


def test_anchored_rebuilds_the_fine_tuned_model_on_its_source_base(
    family: TinyFamily, tmp_path: Path
) -> None:
    adapter = extract(family.source, family.tuned, tmp_path / "a", codec="anchored")
    assert adapter.config.fidelity.exact
    ftt_hub.verify(tmp_path / "a")
    merged = load_state(adapter.apply(family.source, tmp_path / "m").folder)
    assert all(same_bits(merged[n], t) for n, t in load_state(family.tuned).items())


def test_anchored_refuses_another_target_until_the_source_base_is_named(
    family: TinyFamily, tmp_path: Path
) -> None:
    extract(family.source, family.tuned, tmp_path / "a", codec="anchored")
    extract(family.source, family.tuned, tmp_path / "e", codec="exact")
    with pytest.raises(IncompatibleError, match="--source-base"):
        ftt_hub.apply(tmp_path / "a", family.target, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    given = ftt_hub.apply(tmp_path / "a", family.target, tmp_path / "m", source_base=family.source)
    exact = ftt_hub.apply(tmp_path / "e", family.target, tmp_path / "n")
    ours, theirs = load_state(given.folder), load_state(exact.folder)
    assert all(same_bits(ours[name], tensor) for name, tensor in theirs.items())


def test_the_command_line_takes_a_limit_without_a_codec(
    wide: tuple[Path, Path], tmp_path: Path
) -> None:
    from ftt_hub.cli.main import cli

    out = tmp_path / "a"
    result = CliRunner().invoke(cli, ["extract", *map(str, wide), str(out), "--bits", "0.5"])
    assert result.exit_code == 0, result.output
    assert "noise" in result.output
    assert ftt_hub.TransferAdapter.from_pretrained(out).config.codec.id == "quantized"


def test_bf16_levels_decode_to_rounded_multiples_of_the_step() -> None:
    block = DeltaBlock(narrow(np.array([0.3, -0.3, 0.0], np.float32), BF16), None, BF16)
    codec = QuantizedCodec(step=0.25, rounding=NEAREST)
    decoded = codec.decode(codec.encode(block, BlockContext("w")), 3, BF16)
    assert delta_values(decoded).tolist() == [0.25, -0.25, 0.0]
    assert int(decoded.hi[2]) == BF16.sign_bit


def test_changed_fp8_weights_are_refused_with_the_next_step(tmp_path: Path) -> None:
    pair = []
    for name, value in (("s", 1.0), ("t", 2.0)):
        folder = save_model(tmp_path / name, random_state(0))
        state = load_state(folder)
        state["model.norm.weight"] = torch.full((4, 8), value).to(torch.float8_e4m3fn)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        pair.append(folder)
    with pytest.raises(UnsupportedError, match="dequantise both models first"):
        extract(*pair, tmp_path / "a")


def test_a_step_may_be_given_and_is_stored_in_the_manifest(
    family: TinyFamily, tmp_path: Path
) -> None:
    config = extract(
        family.source, family.tuned, tmp_path / "a", codec=Coding("quantized", step=0.01)
    ).config
    assert config.codec.parameters["step"] == pytest.approx(0.01, rel=2**-8)


@pytest.mark.parametrize("step", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_frame_with_an_impossible_step_is_refused(step: float) -> None:
    codec = QuantizedCodec(step=0.01)
    frame = bytearray(codec.encode(gaussian(100, 0.1), BlockContext("w")))
    frame[1:5] = np.float32(step).tobytes()
    with pytest.raises(CodecError, match="step"):
        codec.decode(bytes(frame), 100, F32)


def test_places_outside_the_block_are_refused() -> None:
    codec = QuantizedCodec(step=1.0, rounding=NEAREST)
    values = np.zeros(1000, np.float32)
    values[999] = 5.0
    frame = codec.encode(DeltaBlock(values.view(np.uint32), None, F32), BlockContext("w"))
    with pytest.raises(CodecError, match="places"):
        codec.decode(frame, 500, F32)
