"""The tokenizer of m_t + Δ: the fine-tuned one where the adapter brings it, else the target's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.checkpoint.resolve import model_folder
from ftt_hub.transfer.rows import carries_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEMPLATE = "chat_template.jinja"


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
    if _TEMPLATE in adapter.config.files:
        tokenizer.chat_template = (adapter.folder / _TEMPLATE).read_text(encoding="utf-8")
    return tokenizer
