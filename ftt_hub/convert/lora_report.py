"""What became of Δ in a LoRA adapter: ranks, errors, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModuleRank:
    """What became of one linear layer.

    Attributes:
        module: Its path in the model.
        rank: Components kept.
        error: ‖Δ − BA‖/‖Δ‖, measured on the factors before they were rounded.
        kept: Whether they are the adapter's own factors, without any SVD.
    """

    module: str
    rank: int
    error: float
    kept: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A changed tensor that LoRA does not carry.

    Attributes:
        name: Checkpoint name.
        reason: Why.
        share: Its share of ‖Δ‖².
        saved: Whether it went into `modules_to_save`.
    """

    name: str
    reason: str
    share: float
    saved: bool


@dataclass(frozen=True)
class LoraReport:
    """How faithful a LoRA adapter is.

    Attributes:
        folder: Its folder.
        modules: Every linear layer it changes.
        left_out: Everything else that Δ changes.
        error: ‖Δ − Δ̂‖/‖Δ‖ over the linear layers.
        total_error: The same over all of Δ, what is left out counted as lost.
        nbytes: Bytes of the weights.
    """

    folder: Path
    modules: tuple[ModuleRank, ...]
    left_out: tuple[LeftOut, ...]
    error: float
    total_error: float
    nbytes: int

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "folder": str(self.folder),
            "error": self.error,
            "total_error": self.total_error,
            "bytes": self.nbytes,
            "modules": {
                m.module: {"rank": m.rank, "error": m.error, "kept": m.kept} for m in self.modules
            },
            "left_out": {
                item.name: {"reason": item.reason, "share": item.share, "saved": item.saved}
                for item in self.left_out
            },
        }
