"""The tokenizer of m_t + Δ: the fine-tuned one where the adapter brings it, else the target's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.chat_templates import tokenizer_templates
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.transfer.companions import AdapterCompanions
from ftt_hub.transfer.rows import carries_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(adapter: Adapter, base_model: str | Path | None) -> PreTrainedTokenizerBase:
    """The tokenizer for a model with the adapter on it, with the fine-tuned chat template.

    Args:
        adapter: The opened adapter.
        base_model: The target; default the source base. Asked only when the adapter brings no
            tokenizer of its own.

    Raises:
        RefError: The target names nothing.
    """
    from transformers import AutoTokenizer

    folder = adapter.folder
    if not carries_tokenizer(adapter.config):
        folder, _, _ = model_folder(base_model or adapter.config.source_base.ref)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    brought = AdapterCompanions(adapter.config, adapter.folder)
    templates = dict(tokenizer_templates(brought.read, brought.paths))
    if templates:
        only = templates.get("default") if len(templates) == 1 else None
        tokenizer.chat_template = templates if only is None else only
    return tokenizer
