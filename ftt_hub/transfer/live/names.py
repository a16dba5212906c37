"""What the parameters of a model in memory are made of, in an adapter's checkpoint names.

transformers renames checkpoint tensors and fuses some of them (experts, QKV) while it loads. The
same rules are asked here, so that deltas, which are keyed by checkpoint names, find their way into
any model that transformers can build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftt_hub.artifact.index import TensorEntry
from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.loading_rules import LoadingRules
from ftt_hub.checkpoint.spelling import unwrapped
from ftt_hub.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class NameMap:
    """How an adapter's names and a model's parameters correspond.

    Attributes:
        parameters: Parameter → what it is made of, in the adapter's tensors.
        missing: The adapter's tensors for which the model has no parameter.
        computed: Those with which the model computes when it loads them, and what it does.
    """

    parameters: Mapping[str, Arrangement]
    missing: tuple[str, ...]
    computed: Mapping[str, str]

    def whole(self, parameter: str) -> str | None:
        """The one tensor that a parameter is; ``None`` if it is a rearrangement."""
        made = self.parameters[parameter]
        return made.names[0] if len(made.names) == 1 and made.is_whole(made.shape) else None

    def refuse_computed(self, names: Mapping[str, TensorEntry]) -> None:
        """Refuse to add a delta to weights that are computed.

        Raises:
            UnsupportedError: One of these tensors is among them.
        """
        for name, why in self.computed.items():
            if name in names:
                raise UnsupportedError(
                    f"the model converts weights in a way Δ cannot follow ({why})",
                    where=name,
                    hint="Load it with ftt_hub.AutoTransferModel… instead.",
                )


def map_names(model: PreTrainedModel, entries: Mapping[str, TensorEntry]) -> NameMap:
    """Find what the parameters of a model are made of."""
    shapes = {name: entry.shape for name, entry in entries.items()}
    loaded, names = unwrapped(LoadingRules(model), shapes)
    return NameMap(
        {name: made.renamed(names) for name, made in loaded.parameters.items()},
        tuple(names[name] for name in loaded.unknown),
        {names[name]: why for name, why in loaded.computed.items()},
    )
