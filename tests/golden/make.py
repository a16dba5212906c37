"""Adds golden frames that are missing: `python tests/golden/make.py CODEC`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_codecs import FLOATS, case, grid_block
from test_rotated import common_block

from ftt_hub.codecs.abc import Codec, DeltaBlock, Place
from ftt_hub.codecs.catalogue import codec
from ftt_hub.codecs.quantized import ROTATED, QuantizedCodec
from ftt_hub.tensors.dtypes import BF16


def main(codec_id: str) -> None:
    """Write the missing frames; existing ones are never overwritten."""
    chosen = codec(codec_id)
    for dtype in FLOATS:
        given, place = case(chosen, dtype, 600, lo=True, seed=7)
        write(chosen, f"{codec_id}-{dtype.name}-small", given, place)
    if codec_id == "exact":
        write(chosen, "exact-BF16-symbols", grid_block(BF16, 17_000), Place("w"))
    if codec_id == "quantized":
        for dtype in FLOATS:
            given = case(chosen, dtype, 6000, lo=True, seed=7)[0]
            turned = QuantizedCodec(0.003, ROTATED, rms=0.0007)
            write(turned, f"quantized-{dtype.name}-rotated", given, Place("w"))
            given = common_block(dtype)
            write(turned, f"quantized-{dtype.name}-components", given, Place("w", columns=64))


def write(chosen: Codec, name: str, given: DeltaBlock, place: Place) -> None:
    """One frame with the facts about it, unless it is there."""
    path, count = Path(__file__).parent / f"{name}.frame", given.hi.size
    if path.exists():
        return
    frame = chosen.encode(given, place)
    decoded = chosen.decode(frame, count, given.dtype, place.source)
    lo = b"" if decoded.lo is None else decoded.lo.tobytes()
    facts = {
        "codec": chosen.id,
        "dtype": given.dtype.name,
        "count": count,
        "hi": hashlib.sha256(decoded.hi.tobytes()).hexdigest(),
        "lo": hashlib.sha256(lo).hexdigest(),
    }
    path.write_bytes(frame)
    if place.source is not None:
        path.with_suffix(".source").write_bytes(place.source.tobytes())
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
