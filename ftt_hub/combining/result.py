"""What `combine` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftt_hub.transfer.merge import MergeResult

if TYPE_CHECKING:
    from ftt_hub.combining.greedy import Soup


@dataclass(frozen=True)
class CombineResult:
    """What `combine` wrote.

    Attributes:
        folder: The adapter, or the merged model.
        parents: As in the manifest: ref, content digest and weight of each input.
        license: Licence of the result, ``None`` where it is not known.
        notes: What a user should know: bases, licences and files that differ.
        merged: Figures of the merged model, ``None`` for an adapter.
        soup: What a greedy soup tried and kept.
    """

    folder: Path
    parents: tuple[Mapping[str, Any], ...]
    license: str | None
    notes: tuple[str, ...]
    merged: MergeResult | None = None
    soup: Soup | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        value: dict[str, Any] = {
            "folder": str(self.folder),
            "kind": "adapter" if self.merged is None else "checkpoint",
            "parents": [dict(parent) for parent in self.parents],
            "license": self.license,
            "notes": list(self.notes),
        }
        if self.merged is not None:
            value["bytes"] = self.merged.nbytes
            value["tensors"] = self.merged.tensors
            value["changed"] = self.merged.changed
        if self.soup is not None:
            tried = [{"adapters": list(mix), "score": score} for mix, score in self.soup.tried]
            value["soup"] = {"score": self.soup.score, "tried": tried}
        return value
