"""Sizes in bytes as people write and read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE | re.ASCII)


def format_bytes(count: float) -> str:
    """Bytes for people, by powers of 1000: ``61.0 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def parse_bytes(text: str) -> int:
    """Bytes of a text such as ``500``, ``500MB``, ``1.5 GB`` or ``2GiB``.

    Raises:
        ValueError: Not of this form.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a size such as 5GB")
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")
    return int(float(number) * unit) if "." in number else int(number) * unit
