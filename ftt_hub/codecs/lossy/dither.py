"""Uniform numbers for stochastic rounding that depend on nothing but where they are used.

Philox4x64-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") is keyed by the
seed and the tensor's name and counted by the element's offset, so that the same element gets the
same number on every machine, in every block and on any number of threads.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_PER_COUNT = 16
"""16-bit numbers of one Philox counter: four words of 64 bits."""


def uniforms(seed: int, name: str, start: int, count: int) -> NDArray[np.float32]:
    """Numbers (k + ½)/2¹⁶, k uniform in [0, 2¹⁶), for elements [start, start + count) of a tensor.

    They are symmetric about ½ and exact in float32.
    """
    digest = hashlib.sha256(f"ftt-hub dither {seed} {name}".encode()).digest()
    key = np.frombuffer(digest[:16], "<u8")
    first, skip = divmod(start, _PER_COUNT)
    # numpy adds one to the counter before its first output
    counter = np.array([first, 0, 0, 0], np.uint64)
    words = -(-(skip + count) // 4)
    raw = np.random.Philox(key=key, counter=counter).random_raw(words)
    numbers = np.asarray(raw, "<u8").view("<u2")[skip : skip + count].astype(np.float32)
    numbers += np.float32(0.5)
    numbers *= np.float32(2.0**-16)
    return numbers
