"""The scale that a card recommends for a target: outside the content, so it can be added later.

In the card's front matter, under ``ftt_hub``::

    ftt_hub:
      recommended_scales:
        - {target: org/base-v2, scale: 1.32, text: held_out.txt, gain: 0.031}

A card is written by anyone: whatever does not have this form is ignored, and nothing applies a
recommended scale by itself; the default stays 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    KEY,
    MAX_CARD_BYTES,
    SCALES,
    clean_reason,
    split_card,
)
from ftt_hub.support.staging import write_atomic
from ftt_hub.support.warn import warn_caller

MAX_SCALES = 64


@dataclass(frozen=True)
class Recommendation:
    """A scale found by `ftt-hub tune`.

    Attributes:
        target: The target it was found for.
        scale: λ.
        text: Name of the text it was found on.
        gain: Nats a token less than at scale 1, on that text.
    """

    target: str
    scale: float
    text: str
    gain: float

    def notice(self) -> str:
        """The notice for users of the adapter, in one line."""
        return (
            f"its card recommends scale {self.scale:g} on {self.target} "
            f"(loss −{self.gain:.3g} against 1 on {self.text})"
        )


def _number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(float(str(value))) and abs(float(str(value))) < 1e6


def _from(value: object) -> Recommendation | None:
    if not isinstance(value, Mapping) or not _number(value.get("scale")):
        return None
    gain = value.get("gain")
    return Recommendation(
        clean_reason(str(value.get("target", ""))),
        float(value["scale"]),
        clean_reason(str(value.get("text", ""))),
        float(str(gain)) if _number(gain) else 0.0,
    )


def recommendations_from(front: Mapping[str, Any]) -> tuple[Recommendation, ...]:
    """What a card's front matter recommends."""
    value = front.get(KEY)
    listed = value.get(SCALES) if isinstance(value, Mapping) else None
    if not isinstance(listed, list) or len(listed) > MAX_SCALES:
        return ()
    return tuple(found for item in listed if (found := _from(item)) is not None)


def recommendations(folder: Path) -> tuple[Recommendation, ...]:
    """What the card of an adapter folder recommends."""
    try:
        with (folder / CARD_NAME).open("rb") as file:
            data = file.read(MAX_CARD_BYTES)
    except OSError:
        return ()
    if SCALES.encode() not in data:  # most cards: nothing to parse
        return ()
    return recommendations_from(split_card(data)[0])


def remind(folder: Path, label: str, scale: float) -> None:
    """Warn when an adapter is used at the default scale and its card recommends another."""
    if scale == 1.0:
        for found in recommendations(folder):
            warn_caller(f"{label}: {found.notice()}")


def recommend(folder: Path, recommendation: Recommendation) -> None:
    """Write a recommendation into the card; an older one for the same target gives way.

    Raises:
        OutputError: The card cannot be written.
    """
    import yaml

    path = folder / CARD_NAME
    front, body = split_card(path.read_bytes() if path.is_file() else b"")
    kept = [r for r in recommendations_from(front) if r.target != recommendation.target]
    known = front.get(KEY)
    section = dict(known) if isinstance(known, Mapping) else {}
    section[SCALES] = [asdict(item) for item in [*kept, recommendation][-MAX_SCALES:]]
    header = yaml.safe_dump({**front, KEY: section}, sort_keys=False, allow_unicode=True)
    write_atomic(path, f"---\n{header}---\n{body}".encode())
