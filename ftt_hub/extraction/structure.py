"""What fine-tuning changed in a config and a result must have: labels, class, special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.extraction.identity import PairFacts

LABELS = ("id2label", "label2id", "num_labels", "problem_type")
SPECIAL_TOKENS = (
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id",
    "mask_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip


GENERATION = ("bos_token_id", "eos_token_id", "pad_token_id", *SPECIAL_TOKENS[-3:])
"""Those that generation uses."""


def _json(value: Any) -> Any:
    """A value as JSON has it: the keys of an object are strings."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value


def changes(source: ModelHeaders, tuned: ModelHeaders, facts: PairFacts) -> dict[str, Any]:
    """Structural keys of the fine-tuned model's config that differ from the source base's.

    Where the class changed, its labels are told in any case, since a target may have others.
    """
    before, after = facts.configs
    names = tuned.config.get("architectures")
    new_class = bool(names) and names != source.config.get("architectures")
    changed = {"architectures": names} if new_class else {}
    for key in (*LABELS, *SPECIAL_TOKENS):
        mine, theirs = _json(before.get(key)), _json(after.get(key))
        told = new_class and key in LABELS and key in tuned.config
        if mine != theirs or told:
            changed[key] = theirs
    return changed
