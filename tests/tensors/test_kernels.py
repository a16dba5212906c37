"""Compiled code gives the bits of the NumPy code that stands in for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftt_hub import kernels
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.entropy import symbols
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.quantized import ROTATED, QuantizedCodec
from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F32, Bits, DType

needs_compiled = pytest.mark.skipif(kernels.COMPILED is None, reason="not built: no C compiler")
SIZES = (0, 1, 7, 64, 2047, 2048, 2049, 65_536, 65_537, 65_536 + 4096, 3 * 65_536 + 2048 + 5)
ZEROS = np.array([0x0000, 0x8000], np.uint16)


def bf16(values: np.ndarray) -> Bits:
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def any_finite(rng: np.random.Generator, count: int) -> Bits:
    """Random bits: every exponent, denormal numbers and both zeros among them."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits[(bits & 0x7F80) == 0x7F80] &= 0x3FFF
    bits[::5] = rng.choice(ZEROS, bits[::5].size)
    return bits


def related(rng: np.random.Generator, count: int) -> tuple[Bits, Bits]:
    """A model and its fine-tuned version: a few with a lo, some unchanged, some new zeros."""
    source = rng.normal(size=count) * 0.02
    tuned = source + rng.normal(size=count) * 3e-3 * rng.choice([0, 0.01, 1], count)
    tuned[::97] = rng.choice([0.0, -0.0], tuned[::97].size)
    return bf16(source), bf16(tuned)


def unrelated(rng: np.random.Generator, count: int) -> tuple[Bits, Bits]:
    source, tuned = any_finite(rng, count), any_finite(rng, count)
    # where a sum overflows, both versions refuse: not what is compared here
    huge = ((source & 0x7F80) >= 0x7E80) | ((tuned & 0x7F80) >= 0x7E80)
    source[huge], tuned[huge] = 0x3F80, 0xBF80
    return source, tuned


PAIRS = pytest.mark.parametrize("make", [related, unrelated])


def both(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> tuple[Any, Any]:
    """The result with compiled code and without."""
    mine = run()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "COMPILED", None)
        return mine, run()


def same(mine: DeltaBlock, theirs: DeltaBlock) -> None:
    np.testing.assert_array_equal(mine.hi, theirs.hi)
    assert (mine.lo is None) == (theirs.lo is None)
    if mine.lo is not None and theirs.lo is not None:
        np.testing.assert_array_equal(mine.lo, theirs.lo)
    np.testing.assert_array_equal(mine.places, theirs.places)
    assert mine.places.dtype == theirs.places.dtype


@needs_compiled
@PAIRS
@pytest.mark.parametrize("count", SIZES)
def test_a_delta_and_its_statistics_are_the_same(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], count: int
) -> None:
    source, tuned = make(np.random.default_rng(count), count)
    (block, sums), (other, others) = both(monkeypatch, lambda: delta.compute(source, tuned, BF16))
    same(block, other)
    assert sums == others  # bit for bit: they are written into the index


@needs_compiled
def test_squares_too_small_or_too_large_for_float32_are_summed_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for factor in (1e-30, 1e22):
        source = bf16(np.random.default_rng(1).normal(size=4096) * factor)
        tuned = bf16(np.random.default_rng(2).normal(size=4096) * factor)
        (_, sums), (_, others) = both(
            monkeypatch, lambda s=source, t=tuned: delta.compute(s, t, BF16)
        )
        assert sums == others
        assert sums.delta_square == pytest.approx(2 * 4096 * factor**2, rel=0.1)


@needs_compiled
@PAIRS
@pytest.mark.parametrize("count", SIZES)
def test_sums_are_the_same_on_the_source_and_elsewhere(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], count: int
) -> None:
    rng = np.random.default_rng(count)
    source, tuned = make(rng, count)
    block, _ = delta.compute(source, tuned, BF16)
    assert delta.rebuilds(source, block, tuned)
    for target in (source, make(rng, count)[0]):

        def added(target: Bits = target) -> Bits:
            result = target.copy()
            delta.add(result, block, BF16)
            return result

        mine, theirs = both(monkeypatch, added)
        np.testing.assert_array_equal(mine, theirs)


@needs_compiled
@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF])
def test_what_is_not_finite_is_refused_in_any_place(bits: int) -> None:
    for place in (0, 2047, 2048, 5000):
        target, source = np.full(5001, 0x3F80, np.uint16), np.full(5001, 0x3F00, np.uint16)
        block, _ = delta.compute(source, target, BF16)
        target[place] = bits
        with pytest.raises(NonFiniteError):
            delta.add(target.copy(), block, BF16)
        with pytest.raises(NonFiniteError):
            delta.compute(source, target, BF16)


@needs_compiled
def test_a_sum_that_overflows_is_refused() -> None:
    large = np.full(2048, 0x7F7F, np.uint16)
    block, _ = delta.compute(np.zeros(2048, np.uint16), large, BF16)
    with pytest.raises(NonFiniteError):
        delta.add(large.copy(), block, BF16)


@needs_compiled
@PAIRS
def test_a_model_that_is_not_rebuilt_is_noticed(make: Callable[..., Any]) -> None:
    source, tuned = make(np.random.default_rng(3), 70_000)
    block, _ = delta.compute(source, tuned, BF16)
    for place in (0, 65_535, 69_999):
        wrong = tuned.copy()
        wrong[place] ^= 1
        assert not delta.rebuilds(source, block, wrong)


@needs_compiled
@PAIRS
def test_frames_are_the_same_and_decode_to_the_same(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]
) -> None:
    source, tuned = make(np.random.default_rng(4), 300_001)
    block, _ = delta.compute(source, tuned, BF16)
    mine, theirs = both(monkeypatch, lambda: ExactCodec().encode(block, BlockContext()))
    assert mine == theirs
    one, other = both(monkeypatch, lambda: ExactCodec().decode(mine, 300_001, BF16))
    same(one, other)


@needs_compiled
@pytest.mark.parametrize("missing", [0.0, 0.03])
def test_symbols_are_the_same(monkeypatch: pytest.MonkeyPatch, missing: float) -> None:
    rng = np.random.default_rng(5)
    table = np.sort(rng.choice(1 << 16, 200, replace=False)).astype(np.uint16)
    values = rng.choice(table, 100_003)
    apart = rng.random(values.size) < missing
    values[apart] = rng.integers(0, 1 << 16, int(apart.sum()))
    mine, theirs = both(monkeypatch, lambda: symbols.to_symbols(values, table))
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiled
@pytest.mark.parametrize("count", [1, 3, 100, 4095, 4096, 4097, 9 * 4096 + 9])
@pytest.mark.parametrize("dtype", [BF16, F32])
def test_rotated_frames_are_the_same_and_decode_to_the_same(
    monkeypatch: pytest.MonkeyPatch, count: int, dtype: DType
) -> None:
    rng = np.random.default_rng(count)
    values = rng.normal(size=count).astype(np.float32) * 1e-3
    values[4096 : 2 * 4096] = 0.0
    bits = bf16(values) if dtype is BF16 else values.view(np.uint32)
    block = DeltaBlock(bits, None, dtype)
    for step in (1e-5, 1e-3, 1e-2):
        codec = QuantizedCodec(step, ROTATED, rms=1e-3)
        frame, other = both(monkeypatch, lambda c=codec: c.encode(block, BlockContext()))
        assert frame == other
        mine, theirs = both(monkeypatch, lambda f=frame, c=codec: c.decode(f, count, dtype))
        same(mine, theirs)


@needs_compiled
def test_levels_that_are_not_exact_in_float32_are_refused() -> None:
    for levels in ([2.0**24, 0, 0, 0, 0, 0, 0, 0], [2.0**21] * 8, [float("nan")] * 8):
        runs = np.array(levels, np.float32)
        found = kernels.COMPILED.turn(runs, 8, np.ones(1, np.float32), np.zeros(1, np.uint8))
        assert found >= 2.0**24
    runs = np.array([2.0**21 - 1] * 8, np.float32)
    found = kernels.COMPILED.turn(runs, 8, np.ones(1, np.float32), np.zeros(1, np.uint8))
    assert (found, runs[0]) == (8 * (2.0**21 - 1), 8 * (2.0**21 - 1))


@needs_compiled
def test_memory_that_compiled_code_cannot_use_goes_to_numpy() -> None:
    source, tuned = related(np.random.default_rng(6), 4096)
    block, _ = delta.compute(source, tuned, BF16)
    room = np.zeros(2 * 4096 + 1, np.uint8)
    odd = room[1:].view(np.uint16)
    assert not odd.flags.aligned
    odd[:] = source
    delta.add(odd, block, BF16)
    np.testing.assert_array_equal(odd, tuned)
    other, _ = delta.compute(source, odd, BF16)
    same(other, block)


@needs_compiled
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("subtract", (4096, 4096, 4096, 4094, 16384, 2048)),
        ("subtract", (4096, 4096, 4096, 4096, 16380, 2048)),
        ("subtract", (4098, 4098, 4098, 4098, 32768, 2048)),
        ("subtract", (4096, 4096, 4096, 4096, 16384, 0)),
        ("subtract", (4096, 4096, 4096, 4096, 16384, -2048)),
        ("count_unequal", (16, 16, 14)),
        ("add", (16, 18)),
        ("places", (16, 12)),
        ("places", (16, 8)),
        ("sums", (16, 16, 14, 8, 2)),
        ("sums", (16, 16, 16, 8, 4)),
        ("to_symbols", (16, 65535, 0, 8, 16)),
        ("to_symbols", (16, 65536, 0, 7, 16)),
        ("to_symbols", (16, 65536, 0, 8, 14)),
        ("from_symbols", (16, 510, 0, 0, 34, 32)),
        ("from_symbols", (16, 512, 0, 0, 34, 30)),
        ("from_symbols", (16, 512, 0, 0, 0, 32)),
        ("from_symbols", (16, 512, 0, 0, 32, 32)),
        ("from_symbols", (16, 512, 0, 0, 36, 32)),
        ("from_symbols", (16, 512, 262_140, 0, 34, 32)),
        ("turn", (64, 16, 4, 1)),
        ("turn", (64, 12, 4, 2)),
        ("turn", (64, 8192, 4, 2)),
        ("turn", (32, 4, 8, 1)),
        ("turn", (64, 8, 8, 1)),
        ("turn", (32, 0, 0, 0)),
        ("narrow", (16, 10)),
        ("level", (64, 12, 8, 8)),
        ("level", (64, 8, 8, 8)),
        ("level", (64, 8, 16, 8)),
        ("spin", (64, 8, 1.0, 0.0, 1, 8, 16)),
        ("spin", (64, 8, 1.0, 0.0, 2, 8, 8)),
        ("spin", (64, 8, 1.0, 0.0, 2, 4, 8)),
        ("spin", (64, 4, 1.0, 0.0, 4, 16, 32)),
    ],
)
def test_buffers_that_do_not_fit_are_refused(name: str, given: tuple[float, ...]) -> None:
    """Lengths in bytes; the last of `subtract`, a symbol and a width are plain numbers."""
    plain = {
        "subtract": {5}, "to_symbols": {2}, "from_symbols": {3}, "turn": {1}, "level": {1},
        "spin": {1, 2, 3},
    }.get(name, set())  # fmt: skip
    arguments = [n if i in plain else np.zeros(int(n), np.uint8) for i, n in enumerate(given)]
    with pytest.raises(ValueError, match=r"bytes|rows|number|runs"):
        getattr(kernels.COMPILED, name)(*arguments)


@needs_compiled
@pytest.mark.parametrize("place", [-1, 8, 1 << 62, -(1 << 63)])
def test_places_outside_a_block_are_refused(place: int) -> None:
    block = np.zeros(8, np.uint16)
    with pytest.raises(IndexError):
        kernels.COMPILED.sums(block, block, block, np.array([place]), np.zeros(1, np.uint16))


def test_the_environment_turns_compiled_code_off(tmp_path: Path) -> None:
    command = "from ftt_hub import kernels; print(kernels.COMPILED)"
    for value, off in (("1", True), ("0", kernels.COMPILED is None)):
        seen = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, check=True,
            cwd=tmp_path, env={"FTT_HUB_PURE_PYTHON": value},
        )  # fmt: skip
        assert (seen.stdout.strip() == "None") == off


@needs_compiled
def test_another_version_of_the_module_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.load() is kernels.COMPILED
    monkeypatch.setattr(kernels, "VERSION", kernels.VERSION + 1)
    assert kernels.load() is None
