"""What is known of plain decoders without transformers is what transformers says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from ftt_hub.convert.built_model import describe_built
from ftt_hub.convert.plain_decoders import PLAIN, describe_plain

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "head_dim": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def described(kind: str, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    """The config an adapter carries, and the checkpoint names, of a small model."""
    made = transformers.AutoConfig.for_model(kind, **{**SMALL, **changes})
    with torch.device("meta"):
        model = getattr(transformers, PLAIN[kind])(made)
    config = {**made.to_dict(), "architectures": [PLAIN[kind]]}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    return config, [name for name in model.state_dict() if name not in tied]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_plain_decoders_are_as_transformers_builds_them(kind: str, tied: bool) -> None:
    config, names = described(kind, tie_word_embeddings=tied)
    ours, theirs = describe_plain(config, names), describe_built(config, names)
    assert ours is not None
    assert ours.parameters == theirs.parameters
    assert set(ours.linear_modules) == set(theirs.linear_modules)
    assert ours.tied == theirs.tied


def test_anything_out_of_the_ordinary_is_left_to_transformers() -> None:
    config, names = described("llama", tie_word_embeddings=False)
    layer = "model.layers.0.self_attn."
    for changed, held in (
        ({**config, "architectures": ["LlamaForSequenceClassification"]}, names),
        ({**config, "model_type": "mixtral"}, names),
        ({**config, "num_hidden_layers": 1}, names),
        ({k: v for k, v in config.items() if k != "tie_word_embeddings"}, names),
        (config, [*names, f"{layer}rotary_emb.inv_freq"]),
        (config, [*names, f"{layer}q_proj.weight_scale"]),
    ):
        assert describe_plain(changed, held) is None
    assert "model.norm.extra" not in describe_built(config, [*names, "model.norm.extra"]).parameters
