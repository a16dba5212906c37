"""Which parameter of a model in memory a checkpoint tensor became, by the model's own rules.

transformers renames checkpoint tensors and fuses some of them (experts, QKV) while it loads. The
same renamings and converters are asked here, so that deltas, which are keyed by checkpoint names,
find their way into any model that transformers can build.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ftt_hub.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.core_model_loading import WeightConverter

_REARRANGING = frozenset(
    (
        "_IdentityOp", "Chunk", "Split", "Concatenate", "Interleave", "MergeModulelist",
        "SplitModulelist", "Transpose", "Conv3dToLinear", "LinearToConv3d", "PermuteForRope",
        "VisionFuseAndPermuteForRope", "VisionUnfuseAndPermuteForRope",
        "ErnieFuseAndSplitTextVisionExperts", "ErnieSplitAndDecoupleTextVisionExperts",
    )
)  # fmt: skip
"""Operations that move elements and never compute with them; only these commute with Δ's bits."""


@dataclass
class Group:
    """Checkpoint tensors that became parameters together.

    Attributes:
        key: The parameter transformers files them under.
        converter: What makes parameters of them, ``None`` when it is one tensor, kept as it is.
        members: Checkpoint names by the converter's source pattern, in the loader's order.
    """

    key: str
    converter: WeightConverter | None
    members: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All checkpoint names of the group."""
        return [name for names in self.members.values() for name in names]

    def convert(
        self, model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Parameters by name, from one tensor for every member, or those that a shard is made of.

        Raises:
            UnsupportedError: The model computes with weights when it loads them.
        """
        if self.converter is None:
            return {self.key: tensors[self.names[0]]}
        operations = [type(op).__name__ for op in self.converter.operations]
        if not set(operations) <= _REARRANGING:
            raise UnsupportedError(
                f"the model converts weights in a way Δ cannot follow ({', '.join(operations)})",
                where=self.key,
                hint="Load it with ftt_hub.AutoTransferModel… instead.",
            )
        converter = copy.deepcopy(self.converter)
        for pattern, names in self.members.items():
            for name in (name for name in names if name in tensors):
                converter.add_tensor(self.key, name, pattern, tensors[name])  # type: ignore[arg-type]
        made = converter.convert(self.key, model=model, config=model.config)
        return {n: (t[0] if isinstance(t, list) else t) for n, t in made.items()}


@dataclass
class NameMap:
    """How checkpoint names and parameters correspond.

    Attributes:
        groups: What is made of the checkpoint tensors.
        missing: Checkpoint names for which the model has no parameter.
    """

    groups: list[Group]
    missing: list[str]


def map_names(model: PreTrainedModel, names: Iterable[str]) -> NameMap:
    """Find the parameters that checkpoint tensors become in a model."""
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
    by_pattern = {pattern: c for c in converters for pattern in c.source_patterns}
    prefix = model.base_model_prefix
    groups: dict[str, Group] = {}
    missing = []
    for name in sorted(names, key=dot_natural_key):
        key, pattern = rename_source_key(name, renamings, converters, prefix, state)
        if key not in state and name in state:
            key, pattern = rename_source_key(name, [], [], prefix, state)
        if key not in state:
            missing.append(name)
            continue
        converter = None if pattern is None else by_pattern[pattern]
        group = groups.setdefault(key, Group(key, converter))
        group.members.setdefault(pattern or name, []).append(name)
    return NameMap(list(groups.values()), missing)
