"""What transformers' loader makes of a checkpoint's tensors, by its own rules, without values."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.tracing import NotMovedError, TracedTensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loaded:
    """Where the tensors of one checkpoint end up.

    Attributes:
        parameters: Run-time name → what the parameter is made of, in the checkpoint's tensors.
        unknown: Tensors that the loader has no use for.
        computed: Tensors with which the loader computes, and what it does; no arrangement exists.
    """

    parameters: Mapping[str, Arrangement]
    unknown: tuple[str, ...]
    computed: Mapping[str, str]


@dataclass
class _Group:
    """Tensors that one rule turns into parameters together."""

    rule: Any
    members: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.members]


class LoadingRules:
    """The loader's rules for one model, ready to be asked about checkpoints.

    Args:
        model: On any device; only its classes, config and parameter shapes are read.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._state: dict[str, Any] = model.state_dict()

    @property
    def names(self) -> frozenset[str]:
        """Run-time names of everything the model stores."""
        return frozenset(self._state)

    def canonical(self, name: str) -> str:
        """A run-time name as a class with a head calls it."""
        prefix = self._model.base_model_prefix
        bare = bool(prefix) and self._model.base_model is self._model
        return f"{prefix}.{name}" if bare else name

    def is_ignored(self, name: str) -> bool:
        """Whether the loader drops a tensor of this name without a word."""
        patterns = getattr(self._model, "_keys_to_ignore_on_load_unexpected", None) or ()
        scratch = {n for n, _ in self._model.named_buffers()} - self._state.keys()
        return name in scratch or any(re.search(pattern, name) for pattern in patterns)

    def keys(self, names: Iterable[str]) -> dict[str, tuple[str, bool]]:
        """The parameter that each tensor belongs to, and whether a conversion makes it.

        Of a conversion that makes several parameters the first is told. Tensors that the loader
        has no use for are left out.
        """
        groups, _ = self._groups(names)
        return {
            name: (key, group.rule is not None)
            for key, group in groups.items()
            for name in group.names
        }

    def load(self, tensors: Mapping[str, Shape]) -> Loaded:
        """What the loader makes of tensors with these names and shapes."""
        groups, unknown = self._groups(tensors)
        return self._loaded(groups, tensors, unknown)

    def _groups(self, names: Iterable[str]) -> tuple[dict[str, _Group], list[str]]:
        """What is loaded together, by the first parameter that comes of it, and what is not."""
        rules = get_model_conversion_mapping(self._model)  # anew: some rules remember what they saw
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        by_pattern = {pattern: c for c in converters for pattern in c.source_patterns}
        prefix, state = self._model.base_model_prefix, self._state
        groups: dict[str, _Group] = {}
        unknown = []
        for name in sorted(names, key=dot_natural_key):
            key, pattern = rename_source_key(name, renamings, converters, prefix, state)
            if key not in state and name in state:
                key, pattern = rename_source_key(name, [], [], prefix, state)
            if key not in state:
                unknown.append(name)
                continue
            rule = None if pattern is None else by_pattern[pattern]
            groups.setdefault(key, _Group(rule)).members.append((pattern or name, name))
        return groups, unknown

    def _loaded(
        self, groups: Mapping[str, _Group], tensors: Mapping[str, Shape], unknown: list[str]
    ) -> Loaded:
        parameters: dict[str, Arrangement] = {}
        computed: dict[str, str] = {}
        for key, group in groups.items():
            try:
                parameters.update(self._made(key, group, tensors))
            except NotMovedError as error:
                computed.update(dict.fromkeys(group.names, str(error)))
            except (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError) as e:
                computed.update(dict.fromkeys(group.names, f"the conversion fails ({e})"[:200]))
        return Loaded(parameters, tuple(unknown), computed)

    def _made(
        self, key: str, group: _Group, tensors: Mapping[str, Shape]
    ) -> dict[str, Arrangement]:
        if group.rule is None:
            if len(group.members) > 1:
                raise NotMovedError(f"{' and '.join(group.names[:3])} are the same parameter")
            name = group.names[0]
            return {key: Arrangement.whole(name, tensors[name])}
        converter = copy.deepcopy(group.rule)
        dtype = self._state[key].dtype
        for pattern, name in group.members:
            traced: Any = TracedTensor(Arrangement.whole(name, tensors[name]), dtype)
            converter.add_tensor(key, name, pattern, traced)
        with torch.no_grad():
            made = converter.convert(key, model=self._model, config=self._model.config)
        result = {}
        for name, value in made.items():
            tensor = value[0] if isinstance(value, list) else value
            self._check(name, tensor)
            result[name] = tensor.arrangement
        return result

    def _check(self, name: str, tensor: Any) -> None:
        if name not in self._state:
            raise NotMovedError(f"{name} is no parameter of the model")
        if not isinstance(tensor, TracedTensor):
            raise NotMovedError("values that are no weights")
        expected = tuple(self._state[name].shape)
        if tensor.arrangement.shape != expected:
            shape = list(tensor.arrangement.shape)
            raise NotMovedError(f"{name} would be {shape} and not {list(expected)}")
