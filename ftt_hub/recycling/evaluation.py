"""Held-out loss of a model folder, as a step of the loop records it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.loss.measurement import measure
from ftt_hub.loss.text import WINDOW, read_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def held_out_loss(
    folder: Path,
    text: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    tokens: int | None,
    window: int | None,
    cpu: bool,
) -> dict[str, Any]:
    """Measure the loss of a model on held-out rows.

    Args:
        folder: Folder of the model.
        text: File of held-out rows.
        tokenizer: The same for all models that are compared, with the chat template of the recipe.
        tokens: Number of scored tokens to stop at; default all.
        window: Number of tokens that the model sees at once.
        cpu: Whether to measure on the processor, in float32; else on the GPUs, as stored.

    Returns:
        ``value``, ``low``, ``high`` (nats per token, 95%), ``perplexity`` and ``tokens``.

    Raises:
        TextError: A row cannot be parsed, or there is too little text.
        LossError: The loss is not a number, or memory ran out.
    """
    import torch
    from transformers import AutoModelForCausalLM

    rows = read_text(text, tokenizer, tokens=tokens, window=window or WINDOW)
    placement = {"dtype": torch.float32} if cpu else {"dtype": "auto", "device_map": "auto"}
    model = AutoModelForCausalLM.from_pretrained(folder, **placement)
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
