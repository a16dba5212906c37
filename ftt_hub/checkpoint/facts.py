"""The facts of a checkpoint: what its model class says of the tensors that it stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.checkpoint import facts_cache
from ftt_hub.checkpoint.architecture import Architecture, architecture_of
from ftt_hub.checkpoint.meta_model import meta_model

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
        architecture: The class's, under run-time names.
        parameters: Stored name → run-time name of the parameter that it is, or is a part of.
        unknown: Stored names that the class has no parameter for.
    """

    facts: TensorFacts
    architecture: Architecture
    parameters: Mapping[str, str]
    unknown: frozenset[str]


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


def inspect(config: Mapping[str, Any], names: Iterable[str]) -> Inspection | None:
    """See a checkpoint through its model class; ``None`` where transformers does not know it.

    Args:
        config: `config.json`.
        names: The tensors that the checkpoint stores.
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
    return Inspection(facts, architecture, parameters, unknown)


def facts_of(config: Mapping[str, Any], names: Iterable[str]) -> TensorFacts | None:
    """The facts of a checkpoint, kept on disk by config, names and version of transformers.

    Returns:
        ``None`` where transformers does not know the model.
    """
    names = sorted(names)
    kept = facts_cache.read(config, names)
    if kept is not None:
        return kept
    inspection = inspect(config, names)
    if inspection is None:
        return None
    facts_cache.write(config, names, inspection.facts)
    return inspection.facts
