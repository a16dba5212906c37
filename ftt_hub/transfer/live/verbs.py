"""Putting adapters on models and taking them off, as `TransferAdapter` offers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftt_hub.artifact.adapter import APPLIED_MARK, Adapter
from ftt_hub.artifact.reader import Container
from ftt_hub.errors import AlreadyAppliedError, FttError, UnsupportedError
from ftt_hub.support.findings import CompatibilityReport
from ftt_hub.transfer.assemble import check_scale
from ftt_hub.transfer.live.matching import Matcher
from ftt_hub.transfer.live.stack import Layer, Stack, stack_of
from ftt_hub.transfer.prepare import open_anchor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _own(adapter: Adapter) -> Adapter:
    """The adapter with its own open files: the caller may close his."""
    if type(adapter.container) is not Container:
        return adapter
    return replace(adapter, container=Container(adapter.folder))


def _layer_of(adapter: Adapter, model: PreTrainedModel) -> tuple[Stack, Layer]:
    stack = stack_of(model)
    for layer in stack.layers:
        if layer.digest == adapter.config.content_digest:
            return stack, layer
    if adapter.config.content_digest in stack.inherited:
        raise FttError(
            "the model holds the adapter without an undo log (it was loaded with it, or copied)",
            where=adapter.label,
            hint="Load the target alone, and then apply adapters to it.",
        )
    raise FttError(
        "the adapter is not on this model",
        where=adapter.label,
        found=", ".join(layer.adapter.label for layer in stack.layers) or "none",
        hint="Call apply_to first.",
    )


def _refuse_twice(adapter: Adapter, model: PreTrainedModel) -> None:
    if adapter.config.content_digest in getattr(model, APPLIED_MARK, ()):
        raise AlreadyAppliedError(
            "the model already holds this adapter; it would be added twice",
            where=adapter.label,
            hint="Use set_scale to change its strength, or remove_from to take it off.",
        )


def _anchor(adapter: Adapter, source_base: str | Path | None) -> None:
    """Give frames that decode against the source base the one the caller names.

    Raises:
        UnsupportedError: He names none; the model itself may be any target.
    """
    container = adapter.container
    if not container.needs_source:
        return
    if source_base is None:
        raise UnsupportedError(
            "an anchored adapter decodes against its source base only",
            where=adapter.label,
            hint="Name it: source_base=… of apply_to or ftt_hub.AutoTransferModel….from_pretrained;"
            " the loaders of PEFT and transformers have no place for it.",
        )
    container.anchor = open_anchor(adapter.headers, source_base)


def new_layer(
    adapter: Adapter,
    model: PreTrainedModel,
    scale: float,
    tokenizer: str | Path | None,
    force: bool,
    source_base: str | Path | None = None,
) -> Layer:
    """An adapter matched with a model, with its own open files; not yet on it."""
    own = _own(adapter)
    try:
        _anchor(own, source_base)
        return Layer(own, Matcher(own, model, tokenizer).match(force=force), scale)
    except FttError:
        if own is not adapter:
            own.close()
        raise


def apply_to(
    adapter: Adapter,
    model: PreTrainedModel,
    *,
    scale: float = 1.0,
    tokenizer: str | Path | None = None,
    force: bool = False,
    source_base: str | Path | None = None,
) -> CompatibilityReport:
    """Add λΔ to a model in memory; see `TransferAdapter.apply_to`."""
    check_scale(scale)
    _refuse_twice(adapter, model)
    stack = stack_of(model)
    layer = new_layer(adapter, model, scale, tokenizer, force, source_base)
    try:
        stack.change(model, [*stack.layers, layer])
    except BaseException:
        layer.adapter.close()
        raise
    return layer.match.report


def remove_from(adapter: Adapter, model: PreTrainedModel) -> None:
    """Take an adapter off; see `TransferAdapter.remove_from`."""
    stack, layer = _layer_of(adapter, model)
    stack.change(model, [y.rescaled(y.scale) if _above(stack, y, layer) else y
                         for y in stack.layers if y is not layer])  # fmt: skip
    if layer.adapter.container is not adapter.container:
        layer.adapter.close()


def _above(stack: Stack, one: Layer, other: Layer) -> bool:
    return stack.layers.index(one) > stack.layers.index(other)


def set_scale(adapter: Adapter, model: PreTrainedModel, scale: float) -> None:
    """Change λ of an adapter on a model; see `TransferAdapter.set_scale`."""
    check_scale(scale)
    stack, layer = _layer_of(adapter, model)
    place = stack.layers.index(layer)
    above = [y.rescaled(y.scale) for y in stack.layers[place + 1 :]]
    stack.change(model, [*stack.layers[:place], layer.rescaled(scale), *above])


def swap(
    adapter: Adapter,
    other: Adapter,
    model: PreTrainedModel,
    *,
    scale: float = 1.0,
    tokenizer: str | Path | None = None,
    force: bool = False,
    source_base: str | Path | None = None,
) -> CompatibilityReport:
    """Put another adapter in the place of one; see `TransferAdapter.swap`."""
    check_scale(scale)
    stack, layer = _layer_of(adapter, model)
    _refuse_twice(other, model)
    if layer.replaces:
        raise FttError(
            "the adapter on the model moves rows of the vocabulary, so no other fits beside it",
            where=adapter.label,
            hint="Call remove_from, then apply_to with the other.",
        )
    fresh = new_layer(other, model, scale, tokenizer, force, source_base)
    place = stack.layers.index(layer)
    above = [y.rescaled(y.scale) for y in stack.layers[place + 1 :]]
    try:
        stack.change(model, [*stack.layers[:place], fresh, *above])
    except BaseException:
        fresh.adapter.close()
        raise
    if layer.adapter.container is not adapter.container:
        layer.adapter.close()
    return fresh.match.report


def is_on(adapter: Adapter, model: PreTrainedModel) -> bool:
    """Whether an adapter is on a model, so that it can be removed."""
    return any(y.digest == adapter.config.content_digest for y in stack_of(model).layers)


def settle(model: PreTrainedModel) -> None:
    """Make what is on a model part of it for good: the undo log and the adapters are let go."""
    for layer in stack_of(model).settle():
        layer.adapter.close()


@contextmanager
def applied(
    adapter: Adapter,
    model: PreTrainedModel,
    *,
    scale: float = 1.0,
    tokenizer: str | Path | None = None,
    source_base: str | Path | None = None,
) -> Iterator[PreTrainedModel]:
    """The model with the adapter on it, for the length of a `with` block."""
    apply_to(adapter, model, scale=scale, tokenizer=tokenizer, source_base=source_base)
    try:
        yield model
    finally:
        remove_from(adapter, model)
