"""Loss and perplexity on held-out text, as scores beside those of the tasks."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftt_hub.evaluation.contestants import Entrant
from ftt_hub.evaluation.scores import Line, Scores, mean_score
from ftt_hub.loss import measure, read_text
from ftt_hub.loss.text import WINDOW, Window

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def text_scores(entrant: Entrant, path: Path, *, tokens: int | None) -> Scores:
    """Loss (nats per token) and perplexity of a model on a text, by windows.

    A chat is rendered by the template of the model's tokenizer, else by that of an adapter.

    Raises:
        TextError: The text cannot be used.
        LossError: A loss is not a number.
    """
    words = _with_template(entrant)
    longest = getattr(entrant.model.config.get_text_config(), "max_position_embeddings", None)
    window = min(WINDOW, longest) if isinstance(longest, int) else WINDOW
    text = read_text(path, words, tokens=tokens, window=window)
    loss = measure(entrant.model, text, where=entrant.contestant.label)
    keys = [_key(piece) for piece in text.windows]
    score = mean_score(loss.nats / loss.tokens, loss.tokens, keys)
    error = score.standard_error
    perplexity = replace(
        score,
        value=loss.perplexity,
        draws=np.exp(score.draws),
        standard_error=None if error is None else loss.perplexity * error,
    )
    return {
        Line(path.name, "loss", higher_is_better=False): score,
        Line(path.name, "perplexity", higher_is_better=False): perplexity,
    }


def _key(window: Window) -> str:
    return hashlib.sha256(repr((window.ids, window.scored)).encode()).hexdigest()


def _with_template(entrant: Entrant) -> PreTrainedTokenizerBase:
    if entrant.tokenizer.chat_template or entrant.chat is None:
        return entrant.tokenizer
    words = copy.deepcopy(entrant.tokenizer)
    words.chat_template = entrant.chat
    return words
