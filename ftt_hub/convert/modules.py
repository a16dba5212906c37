"""The modules of a model that checkpoint tensors belong to, and which of them are linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LINEAR, TRANSPOSED, EMBEDDING, OTHER = "linear", "transposed", "embedding", "other"


@dataclass(frozen=True)
class ModuleParameter:
    """The parameter of a module that a checkpoint tensor becomes.

    Attributes:
        module: Path of the module; empty when several tensors become one parameter.
        parameter: Name of the parameter in the module.
        kind: Kind of module: ``linear``, ``transposed`` (a linear layer that stores inputs ×
            outputs), ``embedding`` or ``other``.
    """

    module: str
    parameter: str
    kind: str


@dataclass(frozen=True)
class ModuleMap:
    """The modules behind checkpoint names.

    Attributes:
        parameters: Checkpoint name → parameter of a module.
        linear_modules: Paths of all linear layers.
        tied: Parameter → the parameter it is tied to, such as the head to the embedding.
    """

    parameters: Mapping[str, ModuleParameter]
    linear_modules: tuple[str, ...]
    tied: Mapping[str, str]
