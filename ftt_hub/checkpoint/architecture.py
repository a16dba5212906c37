"""What a model class says of its checkpoints' tensors: parameters, ties, vocabulary, buffers.

Names in this module are run-time names, those of the model's `state_dict`. Everything comes from
the class on the meta device; nothing is guessed from names.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftt_hub.checkpoint.meta_model import meta_model, text_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_MORE_TOKENS = 1024
"""Tokens added to a second model, to see which axes grow; a multiple of every usual padding."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """The facts of one config.

    Attributes:
        model_class: Name of the transformers class.
        transformers: Version of transformers that said so.
        base_model_prefix: What a head's class puts before the names of its base model.
        parameters: Name → shape, tied copies included.
        buffers: Persistent buffers, name → shape.
        scratch: Buffers that `save_pretrained` never writes.
        integers: Those of parameters and buffers that hold no floats.
        ties: Copy → original, as far as the class can tie at all.
        tied: Copy → original, as far as this config ties.
        vocabulary: Name → axis whose positions are token ids, biases of the head included.
        config: The config with every default filled in.
        vocabulary_size: Number of token ids that the embeddings have room for.
    """

    model_class: str
    transformers: str
    base_model_prefix: str
    parameters: Mapping[str, Shape]
    buffers: Mapping[str, Shape]
    scratch: frozenset[str]
    integers: frozenset[str]
    ties: Mapping[str, str]
    tied: Mapping[str, str]
    vocabulary: Mapping[str, int]
    config: Mapping[str, Any]
    vocabulary_size: int | None


def _named_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    named: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named.update(model.named_buffers(remove_duplicate=False))
    return named


def _shared(named: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Names of one tensor: each later name → the first."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(tensor), name) for name, tensor in named.items()}
    return {name: original for name, original in names.items() if name != original}


@contextlib.contextmanager
def _switched_on(model: PreTrainedModel) -> Iterator[None]:
    """Let every part of a model tie its word embeddings, and set its configs back."""
    from transformers import PreTrainedModel

    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    before = {key: getattr(c, "tie_word_embeddings", None) for key, c in configs.items()}
    try:
        for config in configs.values():
            config.tie_word_embeddings = True
        yield
    finally:
        for key, config in configs.items():
            config.tie_word_embeddings = before[key]


def _declared(model: PreTrainedModel) -> dict[str, str]:
    """Ties that the class declares, as its config and those of its parts say."""
    try:
        return dict(model.get_expanded_tied_weights_keys(all_submodels=True))
    except (ValueError, AttributeError, KeyError):  # patterns that fit no parameter of this config
        return {}


def _rooted(ties: Mapping[str, str], named: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Every copy → the last original of its chain, where the model has both."""
    result = {}
    for copy in ties:
        original, steps = ties[copy], 0
        while original in ties and ties[original] != original and steps < len(ties):
            original, steps = ties[original], steps + 1
        if copy in named and original in named and copy != original:
            result[copy] = original
    return result


def _merged(declared: Mapping[str, str], shared: Mapping[str, str]) -> dict[str, str]:
    """Declared ties, and those of modules that are one object; the declared originals win."""
    ties = dict(declared)
    for copy, original in shared.items():
        if copy in ties or ties.get(original) == copy:
            continue
        ties[copy] = ties.get(original, original)
    return ties


def _grown(config: Any, size: int) -> Any:
    """The config with more tokens, wherever a part of it has that many."""
    if isinstance(config, Mapping):
        return {
            key: value + _MORE_TOKENS
            if key == "vocab_size" and value == size and not isinstance(value, bool)
            else _grown(value, size)
            for key, value in config.items()
        }
    return config


def _embedding_rows(model: PreTrainedModel) -> int | None:
    try:
        weight = getattr(model.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError):
        return None
    return None if weight is None or weight.ndim < 1 else int(weight.shape[0])


def _sizes(config: Any) -> list[int]:
    """Every `vocab_size` of a config and its parts."""
    if not isinstance(config, Mapping):
        return []
    own = config.get("vocab_size")
    found = [own] if isinstance(own, int) and not isinstance(own, bool) else []
    return [*found, *(size for part in config.values() for size in _sizes(part))]


def _text_size(model: PreTrainedModel, config: Mapping[str, Any]) -> int | None:
    """`vocab_size` of the part of the config that owns the embeddings."""
    rows, sizes = _embedding_rows(model), _sizes(config)
    if rows is None or not sizes:
        return None
    if rows in sizes:
        return rows
    padded = [size for size in sizes if size <= rows]
    return max(padded, default=None)


def _vocabulary(
    named: Mapping[str, torch.Tensor], config: Mapping[str, Any], size: int | None
) -> dict[str, int]:
    """Axes that grow with `vocab_size`, seen on a second model that has more tokens."""
    larger = None if size is None else meta_model(_grown(config, size))
    axes = {}
    for name, tensor in _named_tensors(larger).items() if larger is not None else ():
        before = named.get(name)
        if before is None or before.ndim != tensor.ndim:
            continue
        pairs = zip(before.shape, tensor.shape, strict=True)
        axis = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if axis is not None:
            axes[name] = axis
    return axes


def _head_and_embeddings(model: PreTrainedModel) -> dict[str, int]:
    """Rows of the input embeddings and of the head, as the class itself names them."""
    modules = []
    for accessor in (model.get_input_embeddings, model.get_output_embeddings):
        with contextlib.suppress(NotImplementedError, AttributeError):
            modules.append(accessor())
    kept = {
        id(t): t.ndim
        for module in modules
        if module is not None
        for t in (getattr(module, "weight", None), getattr(module, "bias", None))
        if t is not None
    }
    return {name: 0 for name, t in _named_tensors(model).items() if id(t) in kept}


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _derived(model: PreTrainedModel) -> Architecture:
    import transformers

    named, state = _named_tensors(model), set(model.state_dict())
    parameters = dict(model.named_parameters(remove_duplicate=False))
    config = model.config.to_dict()
    shared = _shared(named)
    with _switched_on(model):
        possible = _declared(model)
    active = _declared(model)
    size = _text_size(model, config)
    ties = _rooted(_merged(possible, _untied_shared(shared, active)), named)
    vocabulary = {**_vocabulary(named, config, size), **_head_and_embeddings(model)}
    for copy, original in ties.items():
        if original in vocabulary or copy in vocabulary:
            axis = vocabulary.get(original, vocabulary.get(copy, 0))
            vocabulary.setdefault(copy, axis)
            vocabulary.setdefault(original, axis)
    return Architecture(
        model_class=type(model).__name__,
        transformers=transformers.__version__,
        base_model_prefix=model.base_model_prefix or "",
        parameters={name: tuple(t.shape) for name, t in parameters.items()},
        buffers={n: tuple(t.shape) for n, t in named.items() if n in state and n not in parameters},
        scratch=frozenset(named.keys() - state),
        integers=frozenset(name for name, t in named.items() if not _is_float(t)),
        ties=ties,
        tied=_rooted(_merged(active, _untied_shared(shared, active)), named),
        vocabulary=vocabulary,
        config=config,
        vocabulary_size=size,
    )


def _untied_shared(shared: Mapping[str, str], active: Mapping[str, str]) -> dict[str, str]:
    """Shared tensors that no declared tie explains: one module under several names."""
    related = {*active, *active.values()}
    return {c: o for c, o in shared.items() if not (c in related and o in related)}


@functools.lru_cache(maxsize=16)
def _from_text(text: str) -> Architecture | None:
    model = meta_model(json.loads(text))
    return None if model is None else _derived(model)


def architecture_of(config: Mapping[str, Any]) -> Architecture | None:
    """What the model class of a config says; derived once per process and config.

    Imports torch and transformers, which takes seconds.

    Returns:
        ``None`` where transformers does not know the model: custom code, other libraries.
    """
    if meta_model(config) is None:
        return None
    return _from_text(text_of(config))
