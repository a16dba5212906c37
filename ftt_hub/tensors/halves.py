"""BF16 arrays as float32, the even elements apart from the odd ones, in memory that is used again.

A BF16 number is the upper half of a float32. Read two at a time as a 32-bit word, the odd element
is the word without its lower half and the even one is the word shifted up: one pass over half as
many words, where widening them in order takes two passes over all. Sums and comparisons do not
mind the order. Every thread keeps its own few buffers, so that a chunk's temporaries neither leave
the processor's cache nor are given back to the system and fetched again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftt_hub.tensors.dtypes import Bits

CHUNK = 1 << 16
"""Elements of a chunk; even. Fewer would be bound by the interpreter, more by memory."""

Words = NDArray[np.uint32]

_UPPER = np.uint32(0xFFFF0000)
_HALF = np.uint32(16)


@dataclass
class Halves:
    """Float32 values of an even number of elements.

    Attributes:
        values: Those of the even elements, then those of the odd ones.
        words: Their bits.
        even: The first half of `words`.
        odd: The second half.
    """

    values: NDArray[np.float32]
    words: Words = field(init=False)
    even: Words = field(init=False)
    odd: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = self.values.view(np.uint32)
        self.even, self.odd = np.split(self.words, 2)

    def fill(self, bits: Bits) -> None:
        """Take the values of BF16 bits (contiguous)."""
        words = bits.view(np.uint32)
        np.left_shift(words, _HALF, out=self.even)
        np.bitwise_and(words, _UPPER, out=self.odd)


@dataclass
class Workspace:
    """What a thread needs for chunks of one size.

    Attributes:
        first: Float32 values of one operand.
        second: Float32 values of another operand.
        third: Float32 values of a result.
        half: A word for every two elements.
        lower: The lower halves of `half`.
        flags: Two rows of one flag per element.
    """

    first: Halves
    second: Halves
    third: Halves
    half: Words
    lower: Bits
    flags: NDArray[np.bool_]

    def cut(self, halves: Halves, out: Bits) -> None:
        """The values cut to BF16 bits, in order."""
        words: NDArray[Any] = out.view(np.uint32)
        np.right_shift(halves.even, _HALF, out=words)
        np.bitwise_and(halves.odd, _UPPER, out=self.half)
        np.bitwise_or(words, self.half, out=words)

    def longer_than_bf16(self, halves: Halves) -> NDArray[np.intp]:
        """Places of values that BF16 cannot hold, each with its neighbour in the same word."""
        np.bitwise_or(halves.even, halves.odd, out=self.half)
        np.copyto(self.lower, self.half, casting="unsafe")
        found = self.flags[0, : self.half.size]
        np.not_equal(self.lower, 0, out=found)
        places = np.repeat(found.nonzero()[0] << 1, 2)
        places[1::2] |= 1
        return places


class _Held(threading.local):
    """This thread's memory, and how it is divided for chunks of some sizes."""

    def __init__(self) -> None:
        self.memory = [np.empty(CHUNK, np.float32) for _ in range(5)]
        self.workspaces: dict[int, Workspace] = {}


_HELD = _Held()
_MAX_SIZES = 16


def workspace(count: int) -> Workspace:
    """This thread's workspace for `count` ≤ CHUNK elements, `count` being even.

    Whoever asks next in this thread overwrites it.
    """
    held = _HELD.workspaces.get(count)
    if held is None:
        first, second, third, half, rest = _HELD.memory
        held = Workspace(
            Halves(first[:count]),
            Halves(second[:count]),
            Halves(third[:count]),
            half.view(np.uint32)[: count // 2],
            half.view(np.uint16)[CHUNK : CHUNK + count // 2],
            rest.view(np.bool_)[: 2 * count].reshape(2, count),
        )
        if len(_HELD.workspaces) == _MAX_SIZES:
            _HELD.workspaces.clear()
        _HELD.workspaces[count] = held
    return held


def count_unequal_halves(first: Bits, second: Bits, total: Bits) -> int:
    """Elements at which first + second, in float32, is not the total; all BF16 bits.

    An even number of them, at most CHUNK.
    """
    work = workspace(total.size)
    a, b, expected = work.first, work.second, work.third
    a.fill(first)
    b.fill(second)
    expected.fill(total)
    np.add(a.values, b.values, out=b.values)
    return int(np.count_nonzero(np.not_equal(b.words, expected.words, out=work.flags[0])))
