"""Text for a terminal: what comes from a registry must not control it."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, with control characters and escapes replaced."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
