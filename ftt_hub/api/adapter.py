"""A transfer adapter as a Python user holds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.paths import PathLike
from ftt_hub.transfer.live.methods import OnModels

if TYPE_CHECKING:
    from ftt_hub.transfer.merge import MergeResult
    from ftt_hub.verdict.options import TextOptions
    from ftt_hub.verdict.report import Verdict


@dataclass(frozen=True)
class TransferAdapter(OnModels):
    """A transfer adapter: a diff vector with its manifest and card.

    On models in memory: `apply_to`, `remove_from`, `set_scale`, `swap`, `applied`.

    Attributes:
        opened: Its folder, manifest and frames.
    """

    opened: Adapter

    @classmethod
    def from_pretrained(
        cls,
        adapter: PathLike,
        *,
        revision: str | None = None,
        registry: PathLike | None = None,
    ) -> Self:
        """Open an adapter by folder or by ``namespace/name[@revision]``.

        Raises:
            RefError: It names nothing.
            IntegrityError: It is damaged.
            UnsupportedError: It was made for a newer format.
        """
        return cls(open_adapter(adapter, revision=revision, registry=registry))

    @property
    def config(self) -> AdapterConfig:
        """The manifest."""
        return self.opened.config

    @property
    def folder(self) -> Path:
        """The adapter's folder; read only."""
        return self.opened.folder

    def verify(
        self,
        target: PathLike,
        *,
        depth: str = "headers",
        text: PathLike | TextOptions | None = None,
        source_base: PathLike | None = None,
        other: PathLike | None = None,
        force: bool = False,
    ) -> Verdict:
        """Whether the adapter fits a target and helps there; `ftt_hub.verify` has all options.

        Raises:
            RefError: The target names nothing.
            CheckpointError: The target is not a readable model.
        """
        from ftt_hub.verdict.verify import verify_target

        return verify_target(
            self.opened,
            target,
            depth=depth,
            text=text,
            source_base=source_base,
            other=other,
            force=force,
        )

    def apply(self, target_base: PathLike, out_dir: PathLike, *, scale: float = 1.0) -> MergeResult:
        """Write the merged checkpoint; `ftt_hub.apply` has all options."""
        from ftt_hub.transfer.apply import apply

        return apply(self, target_base, out_dir, scale=scale)

    def close(self) -> None:
        """Close its files."""
        self.opened.close()
