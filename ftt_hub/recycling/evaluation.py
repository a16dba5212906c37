"""Held-out loss of a model folder, as a step of the loop records it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from ftt_hub.loss.measurement import measure
from ftt_hub.loss.text import WINDOW, read_text
from ftt_hub.recycling.tuning import load_tokenizer


def held_out_loss(
    folder: Path,
    text: Path,
    *,
    tokenizer: Path,
    chat_template: str | None,
    tokens: int | None,
    window: int | None,
    cpu: bool,
) -> dict[str, Any]:
    """Measure the loss of a model on held-out rows.

    Args:
        folder: The model.
        text: Held-out rows.
        tokenizer: Folder of the tokenizer; the same for all models that are compared.
        chat_template: Of the recipe.
        tokens: Scored tokens to stop at.
        window: Tokens that the model sees at once.
        cpu: Whether to measure on the processor, in float32; else on the GPUs, as stored.

    Returns:
        ``value``, ``low``, ``high`` (nats a token, 95%), ``perplexity`` and ``tokens``.

    Raises:
        TextError: A row cannot be parsed, or there is too little text.
        LossError: The loss is not a number, or memory ran out.
    """
    import torch
    from transformers import AutoModelForCausalLM

    words = load_tokenizer(tokenizer, chat_template)
    rows = read_text(text, words, tokens=tokens, window=window or WINDOW)
    where = {"dtype": torch.float32} if cpu else {"dtype": "auto", "device_map": "auto"}
    model = AutoModelForCausalLM.from_pretrained(folder, **where)
    loss = measure(model, rows, where=folder)
    del model
    gc.collect()
    if not cpu:
        torch.cuda.empty_cache()
    estimate = loss.estimate()
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "perplexity": loss.perplexity,
        "tokens": int(loss.tokens.sum()),
    }
