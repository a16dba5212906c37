"""Arrangements move elements as NumPy does, whatever the chain of steps."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftt_hub.checkpoint.arrangement import Arrangement, concatenated, inverted

Array = NDArray[np.int64]


def values(arrangement: Arrangement, tensors: dict[str, Array]) -> Array:
    """The tensor an arrangement describes, an element at a time; -1 where no piece is."""
    out = np.full(math.prod(arrangement.shape), -1, np.int64)
    for piece in arrangement.pieces:
        source, target = np.array([piece.source]), np.array([piece.target])
        for axis in piece.axes:
            steps = np.arange(axis.size)
            source = (source[:, None] + steps * axis.source).reshape(-1)
            target = (target[:, None] + steps * axis.target).reshape(-1)
        assert (out[target] == -1).all(), "two pieces lie on one element"
        out[target] = tensors[piece.name].reshape(-1)[source]
    return out.reshape(arrangement.shape)


def _steps(draw: st.DrawFn, both: tuple[Arrangement, Array]) -> tuple[Arrangement, Array]:
    arrangement, array = both
    kind = draw(st.sampled_from(["permute", "narrow", "view", "concatenate", "every"]))
    dimension = draw(st.integers(0, array.ndim - 1))
    size = array.shape[dimension]
    if kind == "permute":
        order = draw(st.permutations(range(array.ndim)))
        return arrangement.permute(order), array.transpose(order)
    if kind == "narrow":
        start = draw(st.integers(0, size - 1))
        length = draw(st.integers(1, size - start))
        part = np.take(array, range(start, start + length), dimension)
        return arrangement.narrow(dimension, start, length), part
    if kind == "view":
        factors = [f for f in range(1, array.size + 1) if array.size % f == 0]
        first = draw(st.sampled_from(factors))
        second = draw(st.sampled_from([f for f in factors if array.size // first % f == 0]))
        shape = (first, second, array.size // first // second)
        return arrangement.view(shape), array.reshape(shape)
    if kind == "every":
        step = draw(st.integers(1, size))
        return arrangement.every(dimension, step), np.take(array, range(0, size, step), dimension)
    return (
        concatenated([arrangement, arrangement], dimension),
        np.concatenate([array, array], dimension),
    )


@st.composite
def chains(draw: st.DrawFn) -> tuple[Arrangement, Array, dict[str, Array]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    count = math.prod(shape)
    tensors = {n: np.arange(count).reshape(shape) + 1000 * i for i, n in enumerate("ab")}
    dimension = draw(st.integers(0, len(shape) - 1))
    both = (
        concatenated([Arrangement.whole(n, shape) for n in "ab"], dimension),
        np.concatenate([tensors[n] for n in "ab"], dimension),
    )
    for _ in range(draw(st.integers(0, 5))):
        if both[1].size <= 2000:
            both = _steps(draw, both)
    return *both, tensors


@given(chains())
@settings(max_examples=300, deadline=None)
def test_a_chain_of_steps_moves_elements_as_numpy_does(
    chain: tuple[Arrangement, Array, dict[str, Array]],
) -> None:
    arrangement, array, tensors = chain
    assert arrangement.shape == array.shape
    np.testing.assert_array_equal(values(arrangement, tensors), array)


@given(chains(), st.data())
@settings(max_examples=300, deadline=None)
def test_gather_selects_what_as_strided_selects(
    chain: tuple[Arrangement, Array, dict[str, Array]], data: st.DataObject
) -> None:
    arrangement, array, tensors = chain
    flat, loops, left = array.reshape(-1), [], array.size - 1
    start = data.draw(st.integers(0, left))
    left -= start
    for _ in range(data.draw(st.integers(0, 3))):
        size = data.draw(st.integers(2, 5))
        step = data.draw(st.integers(1, 12))
        if (size - 1) * step <= left:
            loops.append((size, step))
            left -= (size - 1) * step
    loops.sort(key=lambda loop: -loop[1])
    places = np.array([start])
    for size, step in loops:
        places = (places[:, None] + np.arange(size) * step).reshape(-1)
    shape = tuple(size for size, _ in loops)
    if len(np.unique(places)) == places.size:
        made = values(arrangement.gather(start, loops), tensors)
        np.testing.assert_array_equal(made, flat[places].reshape(shape))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_tensor_seen_through_its_inverse_is_itself(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([2, 4, 6]))
    parts = [Arrangement.whole(str(i), (rows, width)) for i in range(3)]
    stacked = concatenated([p.view((1, rows, width)) for p in parts], 0)
    order = data.draw(st.permutations(range(3)))
    fused = stacked.permute(order)
    interleaved = fused.view((3 * rows * width // 2, 2)).permute((1, 0))
    other = {"fused": interleaved}
    shapes = {str(i): (rows, width) for i in range(3)}
    back = inverted(other, shapes)
    for name, shape in shapes.items():
        assert back[name].is_complete
        assert back[name].through(other).is_whole(shape)
