"""What the manifest says of the fine-tuned model's behaviour: task, differences, generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftt_hub.artifact.stored_files import stored_name
from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.checkpoint.vocabulary import Tokens
from ftt_hub.extraction.structure import GENERATION
from ftt_hub.transfer.checks import config_differences

_TASKS = (
    ("ForCausalLM", "CAUSAL_LM"),
    ("LMHeadModel", "CAUSAL_LM"),
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
    ("ForConditionalGeneration", "SEQ_2_SEQ_LM"),
    ("Model", "FEATURE_EXTRACTION"),
)


def task_type(model: ModelHeaders) -> str | None:
    """PEFT's name of the task of a model's architecture, ``None`` when it has none."""
    architectures = model.config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else ""
    return next((task for suffix, task in _TASKS if str(name).endswith(suffix)), None)


def differences(
    source: ModelHeaders,
    tuned: ModelHeaders,
    tokens: tuple[Tokens | None, Tokens | None],
    files: dict[str, bytes],
) -> dict[str, Any]:
    """What the config records: differing config keys, tokenizer files and added tokens."""
    before, after = tokens
    tokenizer: dict[str, Any] = {"files": sorted(map(stored_name, files))} if files else {}
    if before is not None and after is not None and list(before) != list(after):
        known = set(before)
        added = [token for token in after if token is not None and token not in known]
        tokenizer["added_tokens"] = len(added)
        tokenizer["examples"] = added[:16]
    found = {"config": config_differences(source.config, tuned.config), "tokenizer": tokenizer}
    if tuned.respelling is not None:
        found["spelling"] = tuned.respelling.to_json()
    return found


def generation_config(tuned: ModelHeaders, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The fine-tuned model's generation config, inlined into the adapter's.

    Args:
        tuned: The fine-tuned model.
        changed: Structural keys of its config that differ from the source base's. Where it has no
            `generation_config.json`, its special tokens are those of the config.
    """
    value = tuned.generation_config()
    if value is None:
        tokens = {k: v for k, v in changed.items() if k in GENERATION and v is not None}
        return {"_from_model_config": True, **tokens} if tokens else {}
    return {key: item for key, item in value.items() if key != "transformers_version"}
