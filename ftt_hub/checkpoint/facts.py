"""The facts of a checkpoint: what its model class says of the tensors that it stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.artifact.facts import TensorFacts, facts_from_json
from ftt_hub.checkpoint import inspections
from ftt_hub.checkpoint.architecture import architecture_of
from ftt_hub.checkpoint.meta_model import meta_model
from ftt_hub.support.json_schema import validate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULTS = (
    "tie_word_embeddings", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id",
    "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "hidden_activation",
    "activation_function", "num_experts_per_tok", "rope_theta", "rope_scaling",
    "partial_rotary_factor",
)  # fmt: skip
"""Keys of a config whose value matters although `config.json` may leave it to the class."""


@dataclass(frozen=True)
class Inspection:
    """One checkpoint seen through its model class.

    Attributes:
        facts: Under the checkpoint's own names.
        config: The config with the defaults of its class, as JSON has it.
        renamed: Stored name → run-time name of the parameter that it is, or is a part of, where
            the two differ.
        unknown: Stored names that the class has no parameter for.
    """

    facts: TensorFacts
    config: Mapping[str, Any]
    renamed: Mapping[str, str]
    unknown: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "facts": self.facts.to_json(),
            "config": dict(self.config),
            "renamed": dict(self.renamed),
            "unknown": sorted(self.unknown),
        }


def _from_json(value: Mapping[str, Any]) -> Inspection:
    facts = facts_from_json(value["facts"])
    return Inspection(facts, value["config"], value["renamed"], frozenset(value["unknown"]))


def runtime_names(model: PreTrainedModel, names: Iterable[str]) -> dict[str, str]:
    """The parameter that each checkpoint tensor becomes, or becomes a part of, when it is loaded.

    By the renamings and converters of transformers' own loader. Names that become nothing are left
    out.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    state: dict[str, Any] = model.state_dict()
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    found = {}
    for name in sorted(names, key=dot_natural_key):
        prefix = model.base_model_prefix
        key, _ = rename_source_key(name, renamings, converters, prefix, state)
        if key not in state and name in state:
            key, _ = rename_source_key(name, [], [], prefix, state)
        if key in state:
            found[name] = key
    return found


def _stored_names(parameters: Mapping[str, str]) -> dict[str, str]:
    """Run-time name → the stored name, where one tensor is one parameter."""
    stored: dict[str, str] = {}
    several = set()
    for name, key in parameters.items():
        if stored.setdefault(key, name) != name:
            several.add(key)
    return {key: name for key, name in stored.items() if key not in several}


def _defaults(config: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What the class fills in for keys that a config leaves out, of those that matter."""
    return {k: resolved[k] for k in DEFAULTS if k not in config and resolved.get(k) is not None}


def derive(config: Mapping[str, Any], names: Iterable[str]) -> Inspection | None:
    """See a checkpoint through its model class, in this process; imports torch and transformers.

    Returns:
        ``None`` where transformers does not know the model.
    """
    architecture, model = architecture_of(config), meta_model(config)
    if architecture is None or model is None:
        return None
    names = list(names)
    parameters = runtime_names(model, names)
    stored = _stored_names(parameters)

    def spelled(name: str) -> str:
        return stored.get(name, name)

    integers = architecture.integers
    unknown = frozenset(name for name in names if name not in parameters)
    buffers = {n for n, key in parameters.items() if key in architecture.buffers.keys() & integers}
    buffers |= unknown & architecture.scratch
    facts = TensorFacts(
        model_class=architecture.model_class,
        transformers=architecture.transformers,
        ties={spelled(copy): spelled(of) for copy, of in architecture.ties.items()},
        tied=frozenset(spelled(copy) for copy in architecture.tied),
        vocabulary={spelled(n): axis for n, axis in architecture.vocabulary.items()},
        vocabulary_size=architecture.vocabulary_size,
        buffers=frozenset(buffers),
        defaults=_defaults(config, architecture.config),
    )
    resolved = json.loads(json.dumps(architecture.config, default=str))
    renamed = {name: key for name, key in parameters.items() if name != key}
    return Inspection(facts, resolved, renamed, unknown)


def inspect(config: Mapping[str, Any], names: Iterable[str]) -> Inspection | None:
    """See a checkpoint through its model class; ``None`` where transformers does not know it.

    What was found before is read from disk. Else another process finds it, unless this one has
    imported transformers anyway: the import takes more memory than an extraction.

    Args:
        config: `config.json`.
        names: The tensors that the checkpoint stores.
    """
    names = sorted(names)
    if not isinstance(config.get("model_type"), str):
        return None
    kept = inspections.read(config, names)
    if kept is not None:
        return _from_json(kept)
    if "transformers" in sys.modules:
        inspection = derive(config, names)
    else:
        inspection = _derived_elsewhere(config, names)
    if inspection is not None:
        inspections.write(config, names, inspection.to_json())
    return inspection


def _derived_elsewhere(config: Mapping[str, Any], names: list[str]) -> Inspection | None:
    """As `derive`, by another process; in this one where no other can be started."""
    command = [sys.executable, "-W", "ignore", "-m", "ftt_hub.checkpoint.facts"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "critical"}
    question = json.dumps({"config": config, "names": names}).encode()
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, env=environment, check=True
        )
        value = json.loads(done.stdout or b"null")
    except (OSError, ValueError, subprocess.SubprocessError):
        return derive(config, names)
    return None if value is None else _from_json(validate(value, "inspection", "a new process"))


def facts_of(config: Mapping[str, Any], names: Iterable[str]) -> TensorFacts | None:
    """The facts of a checkpoint; ``None`` where transformers does not know the model."""
    inspection = inspect(config, names)
    return None if inspection is None else inspection.facts


def _answer() -> None:
    """Read a config and names from standard input, and write their inspection."""
    question = json.loads(sys.stdin.buffer.read())
    inspection = derive(question["config"], question["names"])
    value = None if inspection is None else inspection.to_json()
    sys.stdout.write(json.dumps(value))


if __name__ == "__main__":
    _answer()
