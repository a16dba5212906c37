"""Decoders whose checkpoint names are their modules' paths: known without building the model.

Importing transformers' model classes takes seconds, longer than factorizing a small model. A test
builds each of these with transformers and compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ftt_hub.convert.modules import EMBEDDING, LINEAR, OTHER, ModuleMap, ModuleParameter

PLAIN: Mapping[str, str] = {
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "granite": "GraniteForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""Model type → the one architecture that is meant."""

_LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_LAYER = r"model\.layers\.(\d+)\."
_KINDS = (
    (re.compile(_LAYER + r"(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"), LINEAR),
    (re.compile(_LAYER + r"(?:self_attn\.[qk]_norm|\w+_layernorm)"), OTHER),
    (re.compile(r"model\.norm"), OTHER),
    (re.compile(r"model\.embed_tokens"), EMBEDDING),
    (re.compile(r"lm_head"), LINEAR),
)


def _parameter(name: str, layers: int) -> ModuleParameter | None:
    module, _, parameter = name.rpartition(".")
    for pattern, kind in _KINDS:
        match = pattern.fullmatch(module)
        if match is None or parameter not in (
            ("weight", "bias") if kind == LINEAR else ("weight",)
        ):
            continue
        return (
            ModuleParameter(module, parameter, kind)
            if not match.lastindex or int(match[1]) < layers
            else None
        )
    return None


def describe_plain(config: Mapping[str, Any], names: Iterable[str]) -> ModuleMap | None:
    """The modules behind checkpoint names, or ``None`` where transformers has to be asked."""
    layers, classes = config.get("num_hidden_layers"), config.get("architectures")
    known = PLAIN.get(str(config.get("model_type")))
    if known is None or classes != [known] or not isinstance(layers, int):
        return None
    tied = config.get("tie_word_embeddings")
    if not isinstance(tied, bool):
        return None
    parameters = {}
    for name in names:
        parameter = _parameter(name, layers)
        if parameter is None:
            return None
        parameters[name] = parameter
    linear = [f"model.layers.{i}.{name}" for i in range(layers) for name in _LINEARS]
    ties = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    return ModuleMap(parameters, (*linear, "lm_head"), ties)
