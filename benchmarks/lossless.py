"""The part of `benchmarks/codecs.py` without any loss of a model: lossless sizes, and the bound."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import peers
from matrices import Pair

from ftt_hub.codecs.abc import Codec
from ftt_hub.codecs.anchored import AnchoredCodec
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.codecs.quantized import NEAREST, QuantizedCodec, delta_values
from ftt_hub.tensors import delta


def entropy(values: np.ndarray) -> float:
    """Order-0 entropy in bits, all elements together."""
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum())


def lossless(pair: Pair) -> list[dict[str, Any]]:
    """Bits a weight and speed of every lossless form."""
    bits: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, make: Callable[..., Any], *given: Any) -> Any:
        started = time.process_time()
        made = make(*given)
        seconds[name] += time.process_time() - started
        return made

    for _, _, block, place in pair.blocks():
        source, tuned = place.source, place.tuned
        for name, size in peers.LOSSLESS.items():
            try:
                taken = timed(name, size, source, tuned, block.hi)
            except ImportError:
                continue
            bits[name] += 8 * taken
        codecs: tuple[Codec, ...] = (ExactCodec(), AnchoredCodec())
        for codec in codecs:
            name = f"ours: {codec.id}"
            frame = timed(name, codec.encode, block, place)
            bits[name] += 8 * len(frame)
            timed(f"decode {name}", codec.decode, frame, block.hi.size, block.dtype, source)
        bits["order-0 entropy of hi and lo"] += entropy(block.hi)
        bits["order-0 entropy of hi and lo"] += 0 if block.lo is None else entropy(block.lo)
    megabytes = pair.count * 2 / 1e6
    return [
        {
            "what": name,
            "bits": total / pair.count,
            "encode_MB_s": megabytes / seconds[name] if seconds.get(name) else None,
            "decode_MB_s": megabytes / s if (s := seconds.get(f"decode {name}")) else None,
        }
        for name, total in bits.items()
    ]


def bound(pair: Pair) -> Iterator[dict[str, float]]:
    """Bits of nearest rounding at five steps beside the rate–distortion bound.

    The bound is that of independent Gaussian tensors with these variances at the same squared error
    (reverse water-filling). Δ is not Gaussian: it lies on a grid, and can be stored in less.
    """
    counts, squares = [], []
    for _, _, block, _ in pair.blocks():
        counts.append(block.hi.size)
        squares.append(float(np.square(delta_values(block), dtype=np.float64).sum()))
    number, variance = np.array(counts), np.array(squares) / np.array(counts)
    rms = math.sqrt(sum(squares) / pair.count)
    for step in (0.1, 0.3, 0.7, 1.0, 1.5):
        codec, bits, error = QuantizedCodec(step * rms, NEAREST), 0.0, 0.0
        for _, _, block, place in pair.blocks():
            frame = codec.encode(block, place)
            bits += 8 * len(frame)
            error += delta.error_square(codec.decode(frame, block.hi.size, block.dtype), block)
        low, high = 0.0, float(variance.max())
        for _ in range(60):
            level = (low + high) / 2
            low, high = (
                (level, high)
                if float((number * np.minimum(level, variance)).sum()) < error
                else (low, level)
            )
        least = float((number * np.maximum(0.0, np.log2(variance / level) / 2)).sum()) / pair.count
        yield {
            "step_in_rms": step,
            "relative_error": math.sqrt(error / sum(squares)),
            "bits": bits / pair.count,
            "bound": least,
        }
