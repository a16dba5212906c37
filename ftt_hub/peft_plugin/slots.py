"""The modules that PEFT loads frames into: they collect, and hand over when all have arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.utils.hooks import RemovableHandle

from ftt_hub.artifact.memory import MemoryContainer
from ftt_hub.errors import IntegrityError


class Slot(torch.nn.Module):
    """One slot; its frames travel as `_extra_state`, which no loader checks against a shape.

    Args:
        take: Receives the slot's bytes.
    """

    def __init__(self, take: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self._take = take

    def get_extra_state(self) -> torch.Tensor:
        """An empty tensor, which the frames replace."""
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the frames."""
        self._take(state)


class Delivery:
    """The slots of one adapter as they arrive.

    Args:
        count: Number of slots.
        label: Name of the adapter in messages.
        complete: Called with the container when the last has arrived.
    """

    def __init__(self, count: int, label: str, complete: Callable[[MemoryContainer], None]) -> None:
        self.count, self.label, self._complete = count, label, complete
        self._slots: dict[int, memoryview] = {}
        self.done = False

    def slots(self) -> torch.nn.ModuleList:
        """The modules to load into."""
        return torch.nn.ModuleList(Slot(self._taker(i)) for i in range(self.count))

    def _taker(self, number: int) -> Callable[[torch.Tensor], None]:
        def take(state: torch.Tensor) -> None:
            self._slots[number] = state.detach().to("cpu", torch.uint8).contiguous().numpy().data
            if len(self._slots) == self.count and not self.done:
                container = MemoryContainer(self._slots, self.label)
                self._slots, self.done = {}, True
                self._complete(container)

        return take

    def require(self) -> None:
        """Refuse to go on without all slots.

        Raises:
            IntegrityError: Some have not arrived; the weights are still those of the target.
        """
        if not self.done:
            raise IntegrityError(
                "not all slots of the adapter arrived; nothing was added",
                where=self.label,
                expected=self.count,
                found=len(self._slots),
                hint="Download the adapter again.",
            )


class SlotHolder(torch.nn.ModuleDict, BaseTunerLayer):
    """`model.transfer_slots`: deliveries by adapter name, as a tuner layer that PEFT can find.

    Args:
        at_end: Called when a loader is done.

    Attributes:
        hook: The model's forward pre-hook, which is `require_all`.
    """

    hook: RemovableHandle

    def __init__(self, at_end: Callable[[], None]) -> None:
        super().__init__()
        self.deliveries: dict[str, Delivery] = {}
        self._at_end = at_end
        self._active_adapter: list[str] = []
        self.merged_adapters: list[str] = []

    def expect(self, name: str, delivery: Delivery) -> None:
        """Add the slots of an adapter, for a loader to fill."""
        self.deliveries[name] = delivery
        self[name] = delivery.slots()

    def require_all(self, *_: object) -> None:
        """Raise when an adapter is incomplete; also a forward pre-hook of the model."""
        for delivery in self.deliveries.values():
            delivery.require()

    def train(self, mode: bool = True) -> Self:
        """Loaders call `eval()` when they are done: the moment to see whether all is there."""
        if not mode:
            self._at_end()
        return super().train(mode)

    def set_adapter(self, adapter_names: Any, inference_mode: bool = False) -> None:
        """Remember which are active; the tuner moves the weights."""
        del inference_mode
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._active_adapter = names

    def enable_adapters(self, enabled: bool) -> None:
        """Remember whether they are on; the tuner moves the weights."""
        self._disable_adapters = not enabled
