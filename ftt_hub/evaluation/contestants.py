"""The models that are compared: how a report names them, and each of them in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TARGET, TRANSFER, MODEL = "target", "transfer", "model"


@dataclass(frozen=True)
class Contestant:
    """One of the models compared.

    Attributes:
        label: Name in tables.
        kind: ``target``, ``transfer`` (m_t + λΔ) or ``model``.
        reference: What the user named: the model, or the adapter of a transfer.
        revision: Commit or version it is pinned to, ``None`` for a folder.
        digest: Content digest of the adapter, for a transfer.
        scale: λ, for a transfer.
    """

    label: str
    kind: str
    reference: str
    revision: str | None = None
    digest: str | None = None
    scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "label": self.label,
            "kind": self.kind,
            "reference": self.reference,
            "revision": self.revision,
            "digest": self.digest,
            "scale": self.scale,
        }


@dataclass(frozen=True)
class Entrant:
    """A contestant in memory.

    Attributes:
        contestant: Its name and origin.
        model: The model; it is changed back or freed afterwards.
        tokenizer: Its tokenizer.
        chat: Chat template of the adapters; renders chats as text where the tokenizer has none.
    """

    contestant: Contestant
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: str | None = None
