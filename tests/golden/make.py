"""Adds golden frames for a codec that has none yet: `python tests/golden/make.py CODEC`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_codecs import FLOATS, case

from ftt_hub.codecs.catalogue import codec


def main(codec_id: str) -> None:
    """Write the missing frames; existing ones are never overwritten."""
    for dtype in FLOATS:
        path = Path(__file__).parent / f"{codec_id}-{dtype.name}-small.frame"
        if path.exists():
            continue
        chosen = codec(codec_id)
        given, place = case(chosen, dtype, 600, lo=True, seed=7)
        frame = chosen.encode(given, place)
        decoded = chosen.decode(frame, 600, dtype, place.source)
        lo = b"" if decoded.lo is None else decoded.lo.tobytes()
        facts = {
            "codec": codec_id,
            "dtype": dtype.name,
            "count": 600,
            "hi": hashlib.sha256(decoded.hi.tobytes()).hexdigest(),
            "lo": hashlib.sha256(lo).hexdigest(),
        }
        path.write_bytes(frame)
        if place.source is not None:
            path.with_suffix(".source").write_bytes(place.source.tobytes())
        path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
