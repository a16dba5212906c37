"""Facts by the names of tensors: the fallback for models that transformers does not know.

Also for adapters of format 1.0, whose manifests record no facts. This is the only list of names
that decides what a tensor is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.checkpoint.vocabulary import vocabulary_size

_VOCABULARY = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|embed_out|tok_embeddings|lm_head|shared"
    r"|output_projection|predictions|decoder|embeddings)\.(weight|bias)$"
)
_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")

Shape = tuple[int, ...]


def facts_by_names(shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> TensorFacts:
    """What the usual names mean, where nothing better is known.

    Args:
        shapes: Tensors of one model by checkpoint name.
        config: Its `config.json`.
    """
    size = vocabulary_size(config)
    vocabulary = {
        name: 0
        for name, shape in shapes.items()
        if size is not None and shape and shape[0] == size and _VOCABULARY.search(name)
    }
    ties = _ties(shapes) if config.get("tie_word_embeddings") is not False else {}
    return TensorFacts(ties=ties, tied=frozenset(ties), vocabulary=vocabulary, vocabulary_size=size)


def _ties(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The head and the only embedding of the same shape, or of any shape where no head is."""
    heads = [name for name in shapes if name.endswith(_HEAD)]
    embeddings = [name for name in shapes if name.endswith(_EMBEDDINGS)]
    head = heads[0] if len(heads) == 1 else _HEAD
    if len(heads) > 1 or len(embeddings) != 1:
        return {}
    same = head not in shapes or shapes[head] == shapes[embeddings[0]]
    return {head: embeddings[0]} if same else {}
