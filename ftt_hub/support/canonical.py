"""Canonical JSON: equal values give equal bytes, and so equal digests."""

from __future__ import annotations

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, and no NaN: equal values give equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(value: object) -> str:
    """``sha256:…`` of the canonical JSON of a value."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()
