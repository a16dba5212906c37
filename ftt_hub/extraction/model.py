"""One side of the pair that a diff vector is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ftt_hub.checkpoint.headers import ModelHeaders
from ftt_hub.tensors.dtypes import Bits
from ftt_hub.tensors.header import TensorInfo


class OpenModel(Protocol):
    """The weights of a model: a checkpoint, or what stands for one."""

    folder: Path
    tensors: Mapping[str, TensorInfo]

    def read_bits(self, name: str, start: int, count: int) -> Bits:
        """Raw bits of a run of elements."""


@dataclass(frozen=True)
class Model:
    """One side of the pair: weights and headers."""

    checkpoint: OpenModel
    headers: ModelHeaders

    def identity(self, given: str | None) -> str:
        """The id to publish: the given one, a Hub name, or a folder's last component."""
        folder = self.checkpoint.folder
        return given or (self.headers.label if self.headers.commit else folder.resolve().name)
