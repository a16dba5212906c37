"""The result of `recycle`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftt_hub.recycling.recipe import RecycleRecipe
from ftt_hub.recycling.state import LoopState
from ftt_hub.recycling.steps import result_step


@dataclass(frozen=True)
class Recycled:
    """The result of the loop.

    Attributes:
        out: The output folder.
        variants: Variant → for each base version, in order: ``step``, ``adapter`` (folder),
            ``content_digest``, ``published`` (references) and ``losses`` (``base``: M_i, ``start``:
            M_i + Δ_{i−1}, ``tuned``: after training; nats per token).
    """

    out: Path
    variants: dict[str, list[dict[str, Any]]]

    @classmethod
    def of(cls, recipe: RecycleRecipe, state: LoopState) -> Recycled:
        """The result of a recipe whose steps are all done."""

        def row(variant: str, version: int) -> dict[str, Any]:
            step = result_step(variant, version).name
            return {"step": step, **(state.result(step) or {}), "losses": state.losses(step)}

        versions = range(1, len(recipe.bases) + 1)
        rows = {variant: [row(variant, i) for i in versions] for variant in recipe.variants}
        return cls(recipe.out, rows)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"out": str(self.out), "variants": self.variants}
