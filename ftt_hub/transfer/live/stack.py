"""The adapters on one model in memory: put on, scaled, swapped and taken off, bit for bit.

A model is its base plus a stack of layers, and every change is a transition from one stack to
another, made a parameter at a time: wind back to what both stacks share, then add what is new.
The result therefore never depends on the way there. When a transition fails or is interrupted,
the parameters done so far make the way back, so that the caller finds the stack as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from ftt_hub.artifact.adapter import APPLIED_MARK, Adapter
from ftt_hub.errors import DeviceMemoryError, FttError
from ftt_hub.support.parallel import map_unordered
from ftt_hub.transfer.live.interrupts import uninterrupted
from ftt_hub.transfer.live.matching import Match
from ftt_hub.transfer.live.places import Held, Place
from ftt_hub.transfer.live.shards import reshard, resize, together
from ftt_hub.transfer.live.steps import Log, ReplaceStep, Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(eq=False)
class Layer:
    """One adapter on a model.

    Attributes:
        adapter: It, opened for as long as the layer lies on the model.
        match: What it does to the parameters.
        scale: λ.
    """

    adapter: Adapter
    match: Match
    scale: float
    steps: dict[int, Step] = field(init=False)

    def __post_init__(self) -> None:
        self.steps = {id(step.place.tensor): step for step in self.match.steps}

    @property
    def digest(self) -> str:
        """What identifies the adapter's content."""
        return self.adapter.config.content_digest

    def rescaled(self, scale: float) -> Layer:
        """The same with another λ."""
        return Layer(self.adapter, self.match, scale)

    @property
    def replaces(self) -> bool:
        """Whether parameters change their shape or rows under it."""
        return any(isinstance(step, ReplaceStep) for step in self.match.steps)

    def moves(self, place: Place) -> bool:
        """Whether this parameter does."""
        return isinstance(self.steps.get(id(place.tensor)), ReplaceStep)


Logs = dict[tuple[int, int], Log]
"""What is needed to wind back, by layer and parameter."""


@dataclass(frozen=True)
class Made:
    """What a parameter becomes.

    Attributes:
        place: The parameter.
        bits: Of the part held here.
        shape: Of the whole.
        logs: What takes it back.
    """

    place: Place
    bits: Held
    shape: tuple[int, ...]
    logs: Logs


class Stack:
    """The layers of one model.

    Args:
        model: The model. It is not kept alive by its stack.

    Attributes:
        layers: The adapters on it, in the order of addition.
        inherited: Digests of adapters that are in its weights without an undo log: it was loaded
            with them, or is a copy.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.layers: list[Layer] = []
        self._logs: Logs = {}
        self._versions: dict[int, int] = {}
        self.inherited: tuple[str, ...] = getattr(model, APPLIED_MARK, ())
        self._generation = getattr(model, "generation_config", None)
        self._vocabulary = getattr(model.config.get_text_config(), "vocab_size", None)

    @property
    def log_bytes(self) -> int:
        """Memory of the undo log."""
        logs = self._logs.values()
        return sum(sum(map(len, log)) if isinstance(log, list) else log.nbytes for log in logs)

    def change(self, model: PreTrainedModel, layers: Sequence[Layer]) -> None:
        """Make these the layers of the model.

        Raises:
            FttError: A frame is damaged, or a sum not finite; the model is as it was.
        """
        wanted = list(layers)
        shared = 0
        while shared < min(len(self.layers), len(wanted)) and (
            self.layers[shared] is wanted[shared]
        ):
            shared += 1
        before, old, new = self.layers, self.layers[shared:], wanted[shared:]
        _refuse_replaced(old, new)
        reshard(model)
        places = _places((*old, *new))
        for ring in {place.ring for place in places if place.is_on_device}:
            ring.wait()
        way_back: list[Callable[[], Made]] = []
        try:
            with together(place.tensor for place in places):
                self._refuse_changed(model, old)
                self._advance(model, places, old, new, way_back)
                with uninterrupted():
                    self.layers = wanted
                    self._behave(model)
        except BaseException as error:
            with uninterrupted():
                for back in reversed(way_back):
                    self._commit(model, back(), new)
                if self.layers is not before:
                    self.layers = before
                    self._behave(model)
            if isinstance(error, torch.OutOfMemoryError):
                raise DeviceMemoryError(
                    "the device has no memory left to change a parameter; the model is as it was",
                    hint="Free some, or load with ftt_hub.AutoTransferModel….from_pretrained, which"
                    " adds Δ before the weights go to the device.",
                ) from error
            raise

    def _advance(
        self,
        model: PreTrainedModel,
        places: Sequence[Place],
        old: Sequence[Layer],
        new: Sequence[Layer],
        way_back: list[Callable[[], Made]],
    ) -> None:
        """Change all parameters, noting how each is taken back.

        Those of which rows move come first, one after the other, since the processes of a sharded
        model gather them together; their bits are kept until the end.
        """
        moving = [p for p in places if any(y.moves(p) for y in (*old, *new))]
        for place in moving:
            bits, logs = place.read(), self._logs_of(place, old)
            kept = Made(place, bits, place.shape, logs)
            with together([place.tensor]):
                made = self._compute(place, old, new)
                with uninterrupted():
                    way_back.append(partial(_same, kept))
                    self._commit(model, made, old)
        still = [p for p in places if p not in moving]
        for made in map_unordered(lambda place: self._compute(place, old, new), still):
            with uninterrupted():
                self._commit(model, made, old)
                way_back.append(partial(self._compute, made.place, new, old, on_host=True))

    def _logs_of(self, place: Place, layers: Sequence[Layer]) -> Logs:
        keys = [(id(layer), id(place.tensor)) for layer in layers]
        return {key: self._logs[key] for key in keys if key in self._logs}

    def settle(self) -> list[Layer]:
        """Make the layers part of the model for good; they are returned."""
        layers, self.layers = self.layers, []
        self.inherited = (*self.inherited, *(layer.digest for layer in layers))
        self._logs.clear()
        self._versions.clear()
        return layers

    def _refuse_changed(self, model: PreTrainedModel, layers: Sequence[Layer]) -> None:
        """Refuse to wind back weights that are no longer those the layers left."""
        named: dict[str, torch.Tensor] = {}
        named.update(model.named_parameters(remove_duplicate=False))
        named.update(model.named_buffers(remove_duplicate=False))
        for place in _places(layers):
            same = named.get(place.name) is place.tensor and place.is_of_its_dtype
            if not same or self._versions.get(id(place.tensor)) != place.version:
                raise FttError(
                    "the weights were changed after the adapter was applied",
                    where=place.name,
                    hint="It cannot be taken off exactly: load the target again.",
                )

    def _compute(
        self, place: Place, old: Sequence[Layer], new: Sequence[Layer], *, on_host: bool = False
    ) -> Made:
        key, logs = id(place.tensor), Logs()
        bits: Held = place.take() if place.is_on_device and not on_host else place.read()
        shape = place.shape
        for layer in reversed(old):
            if key in layer.steps:
                step = layer.steps[key]
                bits = step.back(bits, layer.scale, self._logs[id(layer), key])
                shape = step.before if isinstance(step, ReplaceStep) else shape
        for layer in new:
            if key in layer.steps:
                step = layer.steps[key]
                bits, logs[id(layer), key] = step.forth(bits, layer.scale)
                shape = step.shape if isinstance(step, ReplaceStep) else shape
        if isinstance(bits, torch.Tensor):
            place.ring.wait()
        return Made(place, bits, shape, logs)

    def _commit(self, model: PreTrainedModel, made: Made, old: Sequence[Layer]) -> None:
        place = made.place
        if made.shape != place.shape:
            resize(model, place.tensor, made.shape)
        place.write(made.bits)
        self._versions[id(place.tensor)] = place.version
        for layer in old:
            self._logs.pop((id(layer), id(place.tensor)), None)
        self._logs.update(made.logs)

    def _behave(self, model: PreTrainedModel) -> None:
        """Give the model the behaviour of its topmost layer: generation and vocabulary size."""
        digests = (layer.digest for layer in self.layers)
        setattr(model, APPLIED_MARK, (*self.inherited, *digests))
        text: Any = model.config.get_text_config()
        sizes = [y.match.vocabulary_size for y in self.layers if y.match.vocabulary_size]
        if self._vocabulary is not None:
            text.vocab_size = sizes[-1] if sizes else self._vocabulary
        behave(model, [layer.adapter for layer in self.layers], self._generation)


def behave(model: PreTrainedModel, adapters: Sequence[Adapter], before: object) -> None:
    """Set the generation config of the last adapter that has one, else the one before."""
    from transformers import GenerationConfig

    if before is None:
        return
    values = [a.config.generation_config for a in adapters if a.config.generation_config]
    model.generation_config = GenerationConfig.from_dict(values[-1]) if values else before  # type: ignore[assignment]


def _places(layers: Sequence[Layer]) -> list[Place]:
    return list({key: step.place for y in layers for key, step in y.steps.items()}.values())


def _refuse_replaced(old: Sequence[Layer], new: Sequence[Layer]) -> None:
    """Layers above one that moves rows were matched with the moved rows; they cannot stay."""
    for number, layer in enumerate(old[:-1]):
        above = [y.adapter.label for y in old[number + 1 :]]
        kept = [y for y in new if y.adapter.label in above]
        if layer.replaces and kept:
            raise FttError(
                "rows of the vocabulary would move under another adapter",
                where=layer.adapter.label,
                hint=f"Remove {', '.join(above)} first.",
            )


def _same(made: Made) -> Made:
    return made


_STACKS: WeakKeyDictionary[torch.nn.Module, Stack] = WeakKeyDictionary()


def stack_of(model: PreTrainedModel) -> Stack:
    """The stack of a model; a new one, which takes the weights as they are, when it has none."""
    found = _STACKS.get(model)
    if found is None:
        found = _STACKS[model] = Stack(model)
    return found
