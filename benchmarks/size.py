"""Size of codec `exact` against lossless ways to store the same fine-tuned model, in one run.

Without arguments it takes the demo's real pair (SmolLM2-135M and its Turkish fine-tune), which is
made on the first run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from demo.cache import cache_dir
from demo.materials import english_text, split, turkish_text
from demo.models import prepare

from ftt_hub.checkpoint.reader import Checkpoint
from ftt_hub.codecs.abc import BlockContext
from ftt_hub.codecs.entropy.ordered import to_ordered
from ftt_hub.codecs.exact import ExactCodec
from ftt_hub.tensors.delta import compute
from ftt_hub.tensors.dtypes import BF16, Bits
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS


def zstd_planes(bits: Bits) -> int:
    """Bytes of byte planes under zstd level 3, as BitX-style tools store them."""
    shuffled = bits.view(np.uint8).reshape(-1, bits.itemsize).T.tobytes()
    return len(zstandard.ZstdCompressor(level=3).compress(shuffled))


def entropy_bytes(bits: Bits) -> float:
    """Order-0 entropy of the values, in bytes: what an ideal coder without context needs."""
    counts = np.bincount(to_ordered(bits, BF16).astype(np.int64) + (1 << 15))
    shares = counts[counts > 0] / bits.size
    return float(-(shares * np.log2(shares)).sum() * bits.size / 8)


def demo_pair() -> tuple[Path, Path]:
    """m_s and m'_s of the demo."""
    english, turkish = (split(text)[0] for text in (english_text(), turkish_text()))
    models = prepare(cache_dir(), english=english, turkish=turkish)
    return models.source, models.source_tuned


def main() -> None:
    """Print bits per weight of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("tuned", nargs="?", type=Path)
    options = parser.parse_args()
    pair = (options.source, options.tuned) if options.tuned else demo_pair()
    totals: dict[str, float] = {}
    weights, codec = 0, ExactCodec()
    with Checkpoint(pair[0]) as source, Checkpoint(pair[1]) as tuned:
        for name, info in tuned.tensors.items():
            for start in range(0, info.count, BLOCK_ELEMENTS):
                count = min(BLOCK_ELEMENTS, info.count - start)
                base, fine = (m.read_bits(name, start, count) for m in (source, tuned))
                block, _ = compute(base, fine, BF16)
                sizes = {
                    "fine-tuned model, byte planes, zstd-3": zstd_planes(fine),
                    "BitX style: XOR, byte planes, zstd-3": zstd_planes(base ^ fine),
                    "Δ in bf16 (hi only), byte planes, zstd-3": zstd_planes(block.hi),
                    "order-0 entropy of hi": entropy_bytes(block.hi),
                    "ftt-hub exact (hi and lo)": len(
                        codec.encode(block, BlockContext(name, start))
                    ),
                }
                for label, size in sizes.items():
                    totals[label] = totals.get(label, 0) + size
                weights += count
    bitx = totals["BitX style: XOR, byte planes, zstd-3"]
    print(f"{weights / 1e6:.1f}M weights{'':28} bits/weight   × BitX style")
    for label, size in totals.items():
        print(f"{label:42} {8 * size / weights:10.3f} {size / bitx:13.3f}")


if __name__ == "__main__":
    main()
