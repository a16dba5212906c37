"""Where checkpoint tensors sit in a model, and which of its modules are linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LINEAR, TRANSPOSED, EMBEDDING, OTHER = "linear", "transposed", "embedding", "other"


@dataclass(frozen=True)
class Place:
    """Where a checkpoint tensor sits in the model.

    Attributes:
        module: Path of the module; empty when several tensors became one parameter.
        parameter: Its name there.
        kind: ``linear``, ``transposed`` (a linear layer that stores inputs × outputs),
            ``embedding`` or ``other``.
    """

    module: str
    parameter: str
    kind: str


@dataclass(frozen=True)
class Architecture:
    """The modules behind checkpoint names.

    Attributes:
        places: By checkpoint name.
        linear_modules: Paths of all linear layers.
        tied: Parameters that are another name of one, such as lm_head of the embedding.
    """

    places: Mapping[str, Place]
    linear_modules: tuple[str, ...]
    tied: Mapping[str, str]
