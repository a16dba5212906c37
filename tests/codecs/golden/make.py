"""Adds golden frames that are missing: `python tests/codecs/golden/make.py CODEC`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from test_codecs import FLOATS, case, grid_block
from test_factored import FORMS, low_rank
from test_rotated import common_block

from ftt_hub.codecs.abc import BlockContext, Codec
from ftt_hub.codecs.catalogue import codec
from ftt_hub.codecs.factored import frame
from ftt_hub.codecs.lossy.factors import fix
from ftt_hub.codecs.quantized import ROTATED, QuantizedCodec
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import BF16, F32, Bits, DType


def main(codec_id: str) -> None:
    """Write the missing frames; existing ones are never overwritten."""
    chosen = codec(codec_id)
    for dtype in FLOATS:
        given, place = case(chosen, dtype, 600, lo=True, seed=7)
        write(chosen, f"{codec_id}-{dtype.name}-small", given, place)
    if codec_id == "exact":
        write(chosen, "exact-BF16-symbols", grid_block(BF16, 17_000), BlockContext("w"))
    if codec_id == "quantized":
        for dtype in FLOATS:
            given = case(chosen, dtype, 6000, lo=True, seed=7)[0]
            turned = QuantizedCodec(0.003, ROTATED, rms=0.0007)
            write(turned, f"quantized-{dtype.name}-rotated", given, BlockContext("w"))
            given = common_block(dtype)
            write(
                turned, f"quantized-{dtype.name}-components", given, BlockContext("w", columns=64)
            )
    if codec_id == "factored":
        for form in FORMS:
            factors = low_rank(form, (12, 40), 3)
            fixed = fix(*factors)
            first, later = frame(fixed, 0, 5), frame(fixed, 5, 7)
            write_frame(chosen, f"factored-F32-{form}", first, 5 * 40, F32)
            write_frame(chosen, f"factored-BF16-{form}-later", later, 7 * 40, BF16, first=first)


def write(chosen: Codec, name: str, given: DeltaBlock, place: BlockContext) -> None:
    """One frame with the facts about it, unless it is there."""
    frame = chosen.encode(given, place)
    write_frame(chosen, name, frame, given.hi.size, given.dtype, source=place.source)


def write_frame(
    chosen: Codec,
    name: str,
    frame: bytes,
    count: int,
    dtype: DType,
    *,
    source: Bits | None = None,
    first: bytes | None = None,
) -> None:
    """A frame, what it decodes with, and the facts about it, unless it is there."""
    path = Path(__file__).parent / f"{name}.frame"
    if path.exists():
        return
    decoded = chosen.decode(frame, count, dtype, source, first)
    lo = b"" if decoded.lo is None else decoded.lo.tobytes()
    facts = {
        "codec": chosen.id,
        "dtype": dtype.name,
        "count": count,
        "hi": hashlib.sha256(decoded.hi.tobytes()).hexdigest(),
        "lo": hashlib.sha256(lo).hexdigest(),
    }
    path.write_bytes(frame)
    if source is not None:
        path.with_suffix(".source").write_bytes(source.tobytes())
    if first is not None:
        path.with_suffix(".first").write_bytes(first)
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
