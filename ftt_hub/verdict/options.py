"""How a loss is to be measured."""

from __future__ import annotations

from dataclasses import dataclass

from ftt_hub.loss.text import WINDOW
from ftt_hub.support.paths import PathLike

TOKENS = 8192
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class TextOptions:
    """The held-out text of a loss, and how it is run.

    Attributes:
        path: JSONL or plain text, chat or raw; see `ftt_hub.loss.read_text`.
        tokens: Tokens to score at most.
        window: Tokens that a model sees at once.
        scales: λ to measure at, beside 0 and 1.
        device: Torch device; default a CUDA device where there is one.
    """

    path: PathLike
    tokens: int = TOKENS
    window: int = WINDOW
    scales: tuple[float, ...] = SCALES
    device: str | None = None
