"""The model that a config describes, without weights: transformers' class on the meta device.

Nothing here runs code from a repository, asks the Hub, or takes memory for weights.
"""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MAX_REPEATED = 4096
"""Largest number of layers, experts or blocks that a config may ask for."""

_AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForImageTextToText",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForCTC",
    "AutoModelForAudioClassification",
    "AutoModelForImageClassification",
    "AutoModelForSequenceClassification",
    "AutoModel",
)
"""Tried in this order where `architectures` names no class that fits the config."""

_LEFT_OUT = frozenset(
    ("quantization_config", "attn_implementation", "_attn_implementation", "auto_map", "dtype",
     "torch_dtype", "transformers_version", "_name_or_path", "_experts_implementation")
)  # fmt: skip
"""How a model is run or stored; nothing of it changes which parameters there are."""


def _plain(value: Any) -> Any:
    """A config without the keys that say how a model is run or stored, at every depth."""
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
            return float(value["__float__"])  # as transformers writes them
        kept = {str(k): _plain(v) for k, v in value.items() if k not in _LEFT_OUT}
        if kept.get("use_pretrained_backbone"):
            kept["use_pretrained_backbone"] = False
        return kept
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _is_excessive(value: Any, key: str = "") -> bool:
    """Whether a hostile config asks for more modules than any real model has."""
    if isinstance(value, Mapping):
        return any(_is_excessive(item, str(name)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return len(value) > 16 * MAX_REPEATED or any(_is_excessive(item, key) for item in value)
    counts = any(word in key for word in ("layer", "expert", "block", "depth", "head"))
    return isinstance(value, int) and counts and value > 16 * MAX_REPEATED


def text_of(config: Mapping[str, Any]) -> str:
    """A config as canonical text, without the keys that change no parameter."""
    return json.dumps(_plain(config), sort_keys=True, default=str)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' advice on a config that is only looked at from the user."""
    import logging

    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _config_of(plain: Mapping[str, Any]) -> PreTrainedConfig | None:
    from transformers import CONFIG_MAPPING

    model_type = plain.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    config: PreTrainedConfig = CONFIG_MAPPING[model_type].from_dict(dict(plain))
    return config


def _class_of(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """The class that `architectures` names if it fits the config's type, else an Auto class's."""
    import transformers

    named = next(iter(config.architectures or []), "")
    model_class = getattr(transformers, str(named), None)
    if (
        isinstance(model_class, type)
        and issubclass(model_class, transformers.PreTrainedModel)
        and model_class.config_class is type(config)
    ):
        return model_class
    for auto_name in _AUTO_CLASSES:
        mapping = getattr(transformers, auto_name)._model_mapping  # noqa: SLF001 - no public lookup
        if type(config) in mapping:
            candidates = mapping[type(config)]
            return candidates[0] if isinstance(candidates, list | tuple) else candidates  # type: ignore[no-any-return]
    return None


def _build(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    import torch
    from transformers import initialization

    safe = getattr(initialization, "meta_device_safe_creation_ops", contextlib.nullcontext)
    with torch.device("meta"), initialization.no_init_weights(), safe():
        model: PreTrainedModel = model_class._from_config(config, attn_implementation="eager")  # noqa: SLF001
    model.train(False)
    return model


@functools.lru_cache(maxsize=16)
def _from_text(text: str) -> PreTrainedModel | None:
    plain = json.loads(text)
    try:
        with _quiet():
            config = _config_of(plain)
            model_class = None if config is None else _class_of(config)
            return None if model_class is None else _build(model_class, config)  # type: ignore[arg-type]
    except Exception:  # model code may raise anything on a config that it does not like
        return None


def meta_model(config: Mapping[str, Any]) -> PreTrainedModel | None:
    """The model on the meta device, in evaluation mode; built once per process and config.

    Args:
        config: `config.json`; it is hostile, so that absurd sizes are not built.

    Returns:
        ``None`` where transformers is missing or too old, knows no such model type, or cannot
        build it. Callers must not change the model.
    """
    if not isinstance(config.get("model_type"), str) or _is_excessive(config):
        return None
    try:
        import transformers  # noqa: F401 - asks whether it is there
    except ImportError:
        return None
    return _from_text(text_of(config))
