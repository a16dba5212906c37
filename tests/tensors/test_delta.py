"""The arithmetic of diff vectors: exact, correctly rounded, refusing what is not finite."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftt_hub.errors import NonFiniteError
from ftt_hub.tensors import delta
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.difference import _exactly
from ftt_hub.tensors.dtypes import BF16, F16, F32, Bits, DType
from ftt_hub.tensors.rounding import narrow, narrow_double, widen

DTYPES = [BF16, F16, F32]
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)


def finite_bits(dtype: DType, seed: int, count: int = 20_000) -> Bits:
    """Random bits over the whole range but its top binade, so that no sum overflows."""
    bits = np.random.default_rng(seed).integers(0, 2**dtype.bits, count).astype(dtype.numpy)
    magnitude = bits & dtype.numpy.type(dtype.sign_bit - 1)
    top = dtype.infinity - {"BF16": 0x80, "F16": 0x400, "F32": 0x800000}[dtype.name] * 2
    bits[magnitude >= top] = 0
    return bits


def specials(dtype: DType) -> tuple[Bits, Bits]:
    """Every pair of signed zeros, smallest and largest subnormals, one, and neighbours."""
    sign = dtype.sign_bit
    one = int(narrow(np.float32([1.0]), dtype)[0])
    mantissa = {"BF16": 0x7F, "F16": 0x3FF, "F32": 0x7FFFFF}[dtype.name]
    values = [0, 1, 2, mantissa, mantissa + 1, one, one + 1, one - 1]
    values += [v | sign for v in values]
    pairs = np.array([(a, b) for a in values for b in values], dtype=dtype.numpy)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


@by_dtype
@pytest.mark.parametrize("near", [True, False], ids=["near", "anywhere"])
def test_source_plus_delta_is_the_fine_tuned_model_bit_for_bit(dtype: DType, near: bool) -> None:
    source, tuned = finite_bits(dtype, 1), finite_bits(dtype, 2)
    if near:
        tuned = source + np.random.default_rng(3).integers(0, 3, source.size).astype(dtype.numpy)
    block, _ = delta.compute(source, tuned, dtype)
    delta.add(source, block, dtype)
    np.testing.assert_array_equal(source, tuned)


@by_dtype
def test_signed_zeros_and_subnormals_come_back_bit_for_bit(dtype: DType) -> None:
    source, tuned = specials(dtype)
    block, _ = delta.compute(source, tuned, dtype)
    delta.add(source, block, dtype)
    np.testing.assert_array_equal(source, tuned)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1023, delta.CHUNK - 1, 2 * delta.CHUNK + 5])
@pytest.mark.parametrize("reach", [1, 40, 2**12, 2**16])
def test_chunks_of_bf16_are_subtracted_as_single_elements_are(count: int, reach: int) -> None:
    rng = np.random.default_rng(count + reach)
    source = finite_bits(BF16, 4, count)
    tuned = source + rng.integers(0, reach, count).astype(np.uint16)
    tuned[~np.isfinite(widen(tuned, BF16))] = 0x8000
    source[::97], tuned[1::89] = 0x8000, 0
    block, statistics = delta.compute(source, tuned, BF16)
    hi, places, lo, _ = _exactly(source, tuned, BF16)
    np.testing.assert_array_equal(block.hi, hi)
    np.testing.assert_array_equal(block.places, places)
    if block.lo is not None:
        np.testing.assert_array_equal(block.lo[places], lo)
    assert statistics.changed == np.count_nonzero(source != tuned)
    assert delta.rebuilds(source, block, tuned)


@by_dtype
def test_unchanged_elements_leave_any_target_as_it_is(dtype: DType) -> None:
    source, target = finite_bits(dtype, 1), finite_bits(dtype, 5)
    target[:2] = [0, dtype.sign_bit]
    block, statistics = delta.compute(source, source, dtype)
    assert block.is_identity
    assert statistics.changed == 0
    result = target.copy()
    delta.add(result, block, dtype)
    np.testing.assert_array_equal(result, target)


def exact_value(bits: Bits, dtype: DType) -> list[Fraction]:
    return [Fraction(float(v)) for v in widen(bits, dtype).astype(np.float64)]


def is_correctly_rounded(result: int, exact: Fraction, dtype: DType) -> bool:
    """No neighbour is nearer, and a tie went to the even one."""
    (value,) = exact_value(np.array([result], dtype.numpy), dtype)
    error = abs(value - exact)
    for neighbour in (result - 1, result + 1):
        bits = np.array([neighbour % 2**dtype.bits], dtype.numpy)
        if np.isfinite(widen(bits, dtype)[0]):
            other = abs(exact_value(bits, dtype)[0] - exact)
            if other < error or (other == error != 0 and result % 2 == 1):
                return False
    return True


@by_dtype
def test_sum_on_any_target_is_correctly_rounded(dtype: DType) -> None:
    source, tuned, target = (finite_bits(dtype, s, 1500) for s in (1, 2, 3))
    source[:500], target[:500] = tuned[:500] ^ 3, tuned[:500] ^ 5  # close: heavy cancellation
    if dtype is F16:
        target &= 0xBFFF  # small enough that no sum overflows
    block, _ = delta.compute(source, tuned, dtype)
    result = target.copy()
    delta.add(result, block, dtype)
    columns = [exact_value(b, dtype) for b in (target, tuned, source)]
    for got, m_t, fine, base in zip(result.tolist(), *columns, strict=True):
        assert is_correctly_rounded(got, m_t + fine - base, dtype)


@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32),
        min_size=3, max_size=3,
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_wide_sums_are_correctly_rounded_to_bf16(values: list[float]) -> None:
    base, hi, lo = (np.float32([v]).view(np.uint32) for v in values)
    block = DeltaBlock(hi, lo, F32)
    result = delta.add_as(base, F32, block, BF16)
    exact = sum(Fraction(float(np.float32(v))) for v in values)
    assert is_correctly_rounded(int(result[0]), exact, BF16)


def test_narrowing_a_double_to_bf16_rounds_once() -> None:
    one_and_a_half_ulp = 1.0 + 2.0**-8  # a tie between two bf16 numbers …
    above = np.float64([one_and_a_half_ulp + 2.0**-40])  # … broken far below float32's precision
    assert widen(narrow_double(above, BF16), BF16)[0] == 1.0 + 2.0**-7


@by_dtype
def test_addition_agrees_with_torch(dtype: DType) -> None:
    keep = dtype.numpy.type(dtype.sign_bit - 1 - (1 << (dtype.bits - 2)) + dtype.sign_bit)
    target, hi = (finite_bits(dtype, s) & keep for s in (1, 2))  # small: no sum overflows
    result = target.copy()
    delta.add(result, DeltaBlock(hi, None, dtype), dtype)
    kind = getattr(torch, dtype.torch_name or "")
    a, b = (torch.from_numpy(x.view(f"i{dtype.itemsize}").copy()).view(kind) for x in (target, hi))
    np.testing.assert_array_equal((a + b).view(torch.uint8).numpy().view(dtype.numpy), result)


@by_dtype
def test_scale_zero_leaves_the_target_and_scale_one_half_moves_half_way(dtype: DType) -> None:
    source = narrow(np.float32([1.0, 2.0, -4.0]), dtype)
    tuned = narrow(np.float32([2.0, 1.0, -4.0]), dtype)
    block, _ = delta.compute(source, tuned, dtype)
    for scale, expected in ((0.0, [1, 2, -4]), (0.5, [1.5, 1.5, -4]), (-1.0, [0, 3, -4])):
        result = source.copy()
        delta.add(result, block, dtype, scale=scale)
        np.testing.assert_array_equal(widen(result, dtype), np.float32(expected))


@by_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["source", "tuned", "target"])
def test_values_that_are_not_finite_are_refused(dtype: DType, value: float, side: str) -> None:
    good = narrow(np.float32([1.0, 2.0]), dtype)
    bad = narrow(np.float32([1.0, value]), dtype)
    block, _ = delta.compute(good, good, dtype)
    attempts = {
        "source": lambda: delta.compute(bad, good, dtype),
        "tuned": lambda: delta.compute(good, bad, dtype),
        "target": lambda: delta.add(bad.copy(), block, dtype),
    }
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        attempts[side]()


def test_a_difference_that_overflows_is_refused() -> None:
    largest = np.array([0x7BFF], np.uint16)
    with pytest.raises(NonFiniteError, match="overflows"):
        delta.compute(largest, largest | np.uint16(0x8000), F16)


def test_statistics_are_the_norms_of_delta_and_source() -> None:
    source = narrow(np.float32([3.0, 4.0, 0.0]), F32)
    tuned = narrow(np.float32([3.0, 5.0, 2.0]), F32)
    _, found = delta.compute(source, tuned, F32)
    assert (found.count, found.changed) == (3, 2)
    assert (found.delta_square, found.source_square) == (5.0, 25.0)


@by_dtype
@pytest.mark.parametrize("near", [True, False], ids=["near", "anywhere"])
def test_a_rebuilt_model_is_told_from_one_that_differs_in_a_bit(dtype: DType, near: bool) -> None:
    source, tuned = finite_bits(dtype, 1), finite_bits(dtype, 2)
    if near:
        tuned = source + np.random.default_rng(3).integers(0, 3, source.size).astype(dtype.numpy)
    block, _ = delta.compute(source, tuned, dtype)
    assert delta.rebuilds(source, block, tuned)
    places = block.places
    for index in (0, source.size - 1, *places[:1]):
        other = tuned.copy()
        other[index] ^= 1
        assert not delta.rebuilds(source, block, other)


@by_dtype
def test_special_pairs_are_rebuilt(dtype: DType) -> None:
    source, tuned = specials(dtype)
    assert delta.rebuilds(source, delta.compute(source, tuned, dtype)[0], tuned)
