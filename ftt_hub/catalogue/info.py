"""`info`: what an adapter holds and how faithful it is."""

from __future__ import annotations

from dataclasses import dataclass

from ftt_hub.artifact.card_scales import Recommendation, recommendations
from ftt_hub.artifact.manifest import AdapterConfig
from ftt_hub.artifact.norms import layer_norms
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.paths import PathLike


@dataclass(frozen=True)
class AdapterInfo:
    """What there is to know of an adapter without any model.

    Attributes:
        config: Its manifest.
        layers: ‖Δ‖/‖m_s‖ by layer, and by name for tensors outside the layers.
        scales: Scales that its card recommends, by target.
    """

    config: AdapterConfig
    layers: dict[str, float]
    scales: tuple[Recommendation, ...]

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, as the command line prints it."""
        return {"config": self.config.to_json(), "layers": self.layers}


def info(
    adapter: PathLike, *, revision: str | None = None, registry: PathLike | None = None
) -> AdapterInfo:
    """Read an adapter's manifest, norms and recommended scales.

    Args:
        adapter: Folder, or ``namespace/name[@revision]``.
        revision: Branch, tag or commit.
        registry: ``"hf"`` or a folder.

    Raises:
        RefError: It names nothing.
        IntegrityError: The adapter is damaged.
    """
    with open_adapter(adapter, revision=revision, registry=registry) as opened:
        norms = layer_norms(opened.container.entries.values())
        return AdapterInfo(opened.config, norms, tuple(recommendations(opened.folder)))
