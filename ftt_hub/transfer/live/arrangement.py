"""Several adapters at hand for one model: any of them on it, at any scales, in one transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.errors import FttError
from ftt_hub.support.closing import Closing
from ftt_hub.transfer.assemble import check_scale
from ftt_hub.transfer.live.stack import Layer, Stack, stack_of
from ftt_hub.transfer.live.verbs import new_layer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Held:
    layer: Layer
    adapter: Adapter


class Arrangement(Closing):
    """Adapters matched with a model once, and put on it or taken off as often as wanted.

    What lies on the model already stays below. Every arrangement is bit for bit what the same
    adapters would give on a fresh model, and closing leaves the model as it was.

    Args:
        model: A transformers model.
        adapters: Opened; they may be closed by their owner afterwards.
        tokenizer: The model's tokenizer, where rows have to be aligned.
        force: Go on in spite of a rejection.

    Raises:
        IncompatibleError: An adapter does not fit the model.
        FttError: Several adapters, one of which moves rows of the vocabulary, or one is on the
            model already.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapters: Sequence[Adapter],
        *,
        tokenizer: str | Path | None = None,
        force: bool = False,
    ) -> None:
        self._model = model
        self._stack: Stack = stack_of(model)
        self._below = list(self._stack.layers)
        self._held: list[_Held] = []
        try:
            for adapter in adapters:
                layer = new_layer(adapter, model, 1.0, tokenizer, force)
                self._held.append(_Held(layer, adapter))
            self._refuse_moving_rows()
        except BaseException:
            self._close_files()
            raise

    def _refuse_moving_rows(self) -> None:
        digests = [held.layer.digest for held in self._held]
        if len(set(digests)) < len(digests):
            raise FttError("an adapter is there twice", where=self._held[-1].adapter.label)
        moving = next((h for h in self._held if h.layer.replaces), None)
        if moving is not None and len(self._held) > 1:
            raise FttError(
                "the adapter adds tensors or moves rows, so no other fits beside it",
                where=moving.adapter.label,
                hint="Combine the adapters into one first: ftt-hub combine.",
            )  # fmt: skip

    def set(self, scales: Sequence[float | None]) -> None:
        """Put the adapters on the model with these scales; ``None`` leaves one off.

        A parameter at a time, from the target's own bits; after an error the model is as it was.

        Raises:
            FttError: A scale is not finite, a sum is not finite, or the weights were changed.
        """
        wanted = list(self._below)
        current = {layer.digest: layer for layer in self._stack.layers}
        for held, scale in zip(self._held, scales, strict=True):
            if scale is None:
                continue
            before = current.get(held.layer.digest)
            same = before is not None and before.scale == check_scale(scale)
            wanted.append(before if same and before is not None else held.layer.rescaled(scale))
        self._stack.change(self._model, _in_order(wanted, self._stack.layers))

    @property
    def moves_rows(self) -> bool:
        """Whether an adapter adds tensors or moves rows."""
        return any(held.layer.replaces for held in self._held)

    def changes(self, tensor: torch.Tensor) -> bool:
        """Whether an adapter changes a parameter."""
        return any(id(tensor) in held.layer.steps for held in self._held)

    @property
    def scales(self) -> tuple[float | None, ...]:
        """The scales that the adapters have on the model now."""
        current = {layer.digest: layer.scale for layer in self._stack.layers}
        return tuple(current.get(held.layer.digest) for held in self._held)

    def close(self) -> None:
        """Take all of them off: the model is bit for bit as it was before."""
        if self._held:
            self._stack.change(self._model, self._below)
            self._close_files()

    def _close_files(self) -> None:
        for held in self._held:
            if held.layer.adapter is not held.adapter:
                held.layer.adapter.close()
        self._held = []


def _in_order(wanted: list[Layer], current: Sequence[Layer]) -> list[Layer]:
    """The same layers in the same order; layers above one that changed are added anew."""
    fresh = False
    for number, layer in enumerate(wanted):
        fresh = fresh or number >= len(current) or current[number] is not layer
        if fresh and any(layer is other for other in current):
            wanted[number] = layer.rescaled(layer.scale)
    return wanted
