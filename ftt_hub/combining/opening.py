"""From a recipe to a combination ready to be read: inputs opened, matched and measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.folder import list_files
from ftt_hub.artifact.reader import Container
from ftt_hub.combining.agreement import Agreement, agree
from ftt_hub.combining.catalogue import METHODS
from ftt_hub.combining.combination import Combination, CombinedContainer
from ftt_hub.combining.inputs import Input
from ftt_hub.combining.manifest import combined_config, copy_companions
from ftt_hub.combining.recipe import Ingredient, Recipe, RecipeError, check
from ftt_hub.combining.respelling import in_words_of_first
from ftt_hub.combining.thresholds import threshold
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.transfer.prepare import open_anchor


@dataclass(frozen=True)
class Opened:
    """A combination whose inputs are open.

    Attributes:
        recipe: What is combined.
        agreement: The inputs, matched.
        combination: Makes the combined Δ.
        adapter: Stands for the result wherever an adapter is asked for; nothing of it is stored.
        notes: What a user should know.
    """

    recipe: Recipe
    agreement: Agreement
    combination: Combination
    adapter: Adapter
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """Where adapters are found, and how the work is spread.

    Attributes:
        registry: ``"hf"`` or a folder.
        workers: Threads.
        progress: Watches.
    """

    registry: str | Path | None = None
    workers: int | None = None
    progress: Progress = field(default_factory=Silent)


@contextmanager
def opened(recipe: Recipe, name: str, settings: Settings) -> Iterator[Opened]:
    """Open all inputs of a recipe for the length of a `with` block.

    Args:
        recipe: What to combine; not a greedy soup.
        name: Of the result.
        settings: Where and how.

    Raises:
        RecipeError: The recipe makes no sense.
        RefError: An input names nothing.
        IncompatibleError: The inputs do not fit together.
        IntegrityError: An input is damaged.
    """
    with ExitStack() as stack:
        yield _open(check(recipe), name, settings, stack)


def _open(recipe: Recipe, name: str, settings: Settings, stack: ExitStack) -> Opened:
    opened = [_input(item, recipe, settings, stack) for item in recipe.ingredients]
    inputs = in_words_of_first(opened)
    agreement = agree(inputs, different_bases=recipe.allow_different_bases, dtype=recipe.dtype)
    method = METHODS[recipe.method](**recipe.parameters)
    limits: dict[int, float] = {}
    if method.density is not None:
        for item in inputs:
            limits[id(item)] = threshold(item, agreement.tensors, method.density, settings.workers)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftt-hub-combine-")))
    notes = copy_companions(agreement, folder)
    combination = Combination(agreement.tensors, method, limits)
    config = combined_config(agreement, recipe, name, [p.entry for p in agreement.tensors.values()])
    config = config.with_files(list_files(folder, Silent()))
    adapter = Adapter(name, folder, None, config, CombinedContainer(combination, folder))
    conflicts = config.combination.get("licence_notes", [])
    return Opened(recipe, agreement, combination, adapter, (*agreement.notes, *notes, *conflicts))


def _input(item: Ingredient, recipe: Recipe, settings: Settings, stack: ExitStack) -> Input:
    if isinstance(item.adapter, Recipe):
        nested = item.adapter
        name = nested.name or (Path(nested.where).stem if nested.where else "combination")
        return Input(item, _open(check(nested), name, settings, stack).adapter)
    if isinstance(item.adapter, str | Path):
        adapter = stack.enter_context(open_adapter(item.adapter, registry=settings.registry))
    else:
        given = item.adapter.opened  # its files stay its owner's: it may be closed or anchored
        container = stack.enter_context(Container(given.folder))
        adapter = Adapter(given.label, given.folder, given.revision, given.config, container)
    if adapter.container.needs_source:
        _anchor(adapter, recipe, stack)
    return Input(item, adapter)


def _anchor(adapter: Adapter, recipe: Recipe, stack: ExitStack) -> None:
    if recipe.source_base is None:
        raise RecipeError(
            "an anchored adapter decodes against its source base only", where=adapter.label,
            hint=f"Name it: source_base: {adapter.config.source_base.id}",
        )  # fmt: skip
    adapter.container.anchor = open_anchor(adapter.headers, recipe.source_base)
    stack.callback(adapter.container.anchor.close)
