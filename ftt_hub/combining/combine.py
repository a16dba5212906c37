"""`combine`: several adapters in, one adapter or one merged checkpoint out.

The one module that knows all others of the package: it opens the inputs of a recipe, matches them,
and hands the combination to the adapter's builder or to the merger.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.anchor import Anchor
from ftt_hub.artifact.folder import list_files
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig, CodecSpec, Fidelity
from ftt_hub.artifact.reader import Container
from ftt_hub.checkpoint.resolve import open_model
from ftt_hub.combining.agreement import agree
from ftt_hub.combining.building import Builder
from ftt_hub.combining.catalogue import METHODS
from ftt_hub.combining.combination import Combination, CombinedContainer
from ftt_hub.combining.greedy import Soup, as_average, choose, run_command
from ftt_hub.combining.inputs import Agreement, Input
from ftt_hub.combining.manifest import combined_config, copy_companions
from ftt_hub.combining.recipe import (
    GREEDY,
    Given,
    Ingredient,
    Recipe,
    RecipeError,
    check,
    recipe_of,
    with_ingredients,
)
from ftt_hub.combining.result import CombineResult
from ftt_hub.combining.thresholds import threshold
from ftt_hub.extraction.choice import Coding
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import require_free, writing
from ftt_hub.tensors.dtypes import parse_dtype
from ftt_hub.transfer.merge import DEFAULT_SHARD_BYTES, MergeResult, merge
from ftt_hub.transfer.prepare import prepared


def combine(
    recipe: PathLike | Recipe | Sequence[Given],
    out_dir: PathLike,
    *,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    target: PathLike | None = None,
    codec: str | Coding | None = None,
    dtype: str | None = None,
    source_base: PathLike | None = None,
    allow_different_bases: bool | None = None,
    license: str | None = None,  # noqa: A002 - as in a manifest
    registry: PathLike | None = None,
    force: bool = False,
    max_shard_size: int = DEFAULT_SHARD_BYTES,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CombineResult:
    """Combine diff vectors of one source base into one: Δ = f(Δ₁, Δ₂, …).

    Streams: memory does not grow with the models. The folder appears whole or not at all.

    Args:
        recipe: A YAML file, or adapters: folders, references or opened ones, alone, with a weight
            (``[("me/turkish", 1.0), ("me/instruct", 0.8)]``) or as `Ingredient`.
        out_dir: Folder to make; absent or empty.
        method: ``linear``, ``average``, ``greedy_soup``, ``ties``, ``dare``, ``dare_ties``,
            ``breadcrumbs`` or ``slerp``; default the recipe's, else ``linear``.
        parameters: Parameters of the method.
        target: Write the merged checkpoint target + Δ instead of an adapter.
        codec: How the adapter stores Δ: ``exact``, ``quantized``, ``auto`` or a `Coding`.
        dtype: Dtype of the adapter's Δ or of the merged checkpoint; default the widest of the
            inputs, or the target's.
        source_base: m_s, which only ``anchored`` inputs read.
        allow_different_bases: Combine adapters of different source bases.
        license: Licence of the result; default combined from the inputs'.
        registry: ``"hf"`` or a folder.
        force: Continue although the target is rejected.
        max_shard_size: Largest size of one weight file of a merged checkpoint, in bytes.
        workers: Number of threads.
        progress: Receives progress events; default: none.

    Raises:
        RecipeError: The recipe makes no sense; the message names file and line.
        IncompatibleError: The adapters do not fit together, or not the target.
        IntegrityError: An adapter is damaged.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    options: dict[str, Any] = {
        "method": method,
        "parameters": None if parameters is None else dict(parameters),
        "target": target,
        "coding": Coding(codec) if isinstance(codec, str) else codec,
        "dtype": None if dtype is None else parse_dtype(dtype),
        "source_base": source_base,
        "allow_different_bases": allow_different_bases,
        "license": license,
    }
    given = {key: value for key, value in options.items() if value is not None}
    chosen = check(replace(recipe_of(recipe), **given))
    out = Path(out_dir)
    require_free(out)
    combiner = _Combiner(registry, force, workers, progress or Silent())
    soup = None
    if chosen.method == GREEDY:
        soup = combiner.greedy_soup(chosen, out.absolute().parent)
        chosen = as_average(chosen, soup)
    name = chosen.name or out.absolute().name
    with combiner.opened(chosen, name) as combined:
        if chosen.target is None:
            config, merged = combiner.build(combined, out, name), None
        else:
            config = combined.adapter.config
            merged = combiner.merge(combined, chosen.target, out, max_shard_size)
    parents = tuple(config.combination["parents"])
    return CombineResult(out, parents, config.license, combined.notes, merged, soup)


@dataclass(frozen=True)
class _Combined:
    """A combination whose inputs are open.

    Attributes:
        recipe: What is combined.
        agreement: The inputs, matched.
        combination: Computes the combined Δ.
        adapter: Stands for the result where an adapter is expected; its Δ is computed, not stored.
        notes: What a user should know.
    """

    recipe: Recipe
    agreement: Agreement
    combination: Combination
    adapter: Adapter
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Combiner:
    """Carries recipes out, with the settings that hold for all of them.

    Attributes:
        registry: ``"hf"`` or a folder.
        force: Continue although a target is rejected.
        workers: Number of threads.
        progress: Receives progress events.
    """

    registry: PathLike | None
    force: bool
    workers: int | None
    progress: Progress

    @contextmanager
    def opened(self, recipe: Recipe, name: str) -> Iterator[_Combined]:
        """Open all inputs of a recipe, not of a greedy soup, for the length of a `with` block."""
        with ExitStack() as stack:
            yield self._open(check(recipe), name, stack)

    def _open(self, recipe: Recipe, name: str, stack: ExitStack) -> _Combined:
        inputs = [self._input(item, recipe, stack) for item in recipe.ingredients]
        agreement = agree(inputs, different_bases=recipe.allow_different_bases, dtype=recipe.dtype)
        method = METHODS[recipe.method](**recipe.parameters)
        density, tensors = method.density, agreement.tensors
        limits: dict[int, float] = {}
        if density is not None:
            limits = {id(i): threshold(i, tensors, density, self.workers) for i in inputs}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftt-hub-combine-")))
        notes = copy_companions(agreement, folder)
        combination = Combination(tensors, method, limits)
        entries = [combined.entry for combined in tensors.values()]
        config = combined_config(agreement, recipe, name, entries)
        config = config.with_files(list_files(folder, Silent()))
        adapter = Adapter(name, folder, None, config, CombinedContainer(combination, folder))
        conflicts = config.combination.get("licence_notes", [])
        all_notes = (*agreement.notes, *notes, *conflicts)
        return _Combined(recipe, agreement, combination, adapter, all_notes)

    def _input(self, item: Ingredient, recipe: Recipe, stack: ExitStack) -> Input:
        if isinstance(item.adapter, Recipe):
            nested = item.adapter
            name = nested.name or (Path(nested.where).stem if nested.where else "combination")
            return Input(item, self._open(check(nested), name, stack).adapter)
        if isinstance(item.adapter, str | Path):
            adapter = stack.enter_context(open_adapter(item.adapter, registry=self.registry))
        else:
            given = item.adapter.opened  # its owner may close or anchor it: read our own copy
            container = stack.enter_context(Container(given.folder))
            adapter = replace(given, container=container)
        if adapter.container.needs_source:
            _anchor(adapter, recipe, stack)
        return Input(item, adapter)

    def build(self, source: _Combined, out: Path, name: str) -> AdapterConfig:
        """Write the combined adapter."""
        agreement, recipe = source.agreement, source.recipe

        def describe(
            entries: Sequence[TensorEntry], codec: CodecSpec, fidelity: Fidelity
        ) -> AdapterConfig:
            return combined_config(agreement, recipe, name, entries, codec, fidelity)

        def companions(folder: Path) -> None:
            copy_companions(agreement, folder)

        builder = Builder(
            agreement.tensors,
            source.combination.stored,
            recipe,
            describe,
            companions,
            self.workers,
            self.progress,
        )
        return builder.build(out)

    def merge(self, source: _Combined, base: PathLike, out: Path, shard_size: int) -> MergeResult:
        """Write the merged checkpoint base + Δ."""
        with prepared(source.adapter, base, force=self.force) as target:
            return merge(
                source.adapter,
                target,
                out,
                dtype=source.recipe.dtype,
                max_shard_size=shard_size,
                workers=self.workers,
                progress=self.progress,
            )

    def greedy_soup(self, recipe: Recipe, beside: Path) -> Soup:
        """Choose the ingredients of a greedy soup by the scores of its command.

        The command gets the folder of a merged checkpoint as its last argument; the last line of
        its output is the score. Each folder is made beside the output and removed afterwards.

        Raises:
            RecipeError: There is no model to score on.
            ScoringError: The command fails or prints no number.
        """
        parameters, base = recipe.parameters, _scored_on(recipe)

        def score(mix: Sequence[Ingredient]) -> float:
            with writing(beside):
                beside.mkdir(parents=True, exist_ok=True)
                work = tempfile.TemporaryDirectory(prefix=".soup-", dir=beside)
            with work as path, self.opened(with_ingredients(recipe, mix), "soup") as mixed:
                folder = Path(path) / "model"
                with prepared(mixed.adapter, base, force=self.force) as target:
                    merge(mixed.adapter, target, folder, workers=self.workers)
                return run_command(parameters["command"], folder, parameters.get("timeout"))

        lower = parameters.get("lower_is_better", False)
        return choose(recipe.ingredients, score, lower_is_better=lower)


def _scored_on(recipe: Recipe) -> PathLike:
    """The model that a greedy soup is scored on."""
    base: PathLike | None = recipe.parameters.get("score_on") or recipe.target
    if base is None:
        raise RecipeError(
            "a greedy soup is scored on a model",
            where=recipe.where,
            hint="Name a target, or score_on among the parameters.",
        )
    beside = None if recipe.where is None else Path(recipe.where).parent / str(base)
    return beside if beside is not None and beside.is_dir() else base


def _anchor(adapter: Adapter, recipe: Recipe, stack: ExitStack) -> None:
    if recipe.source_base is None:
        raise RecipeError(
            "an anchored adapter decodes against its source base only",
            where=adapter.label,
            hint=f"Name it: source_base: {adapter.config.source_base.id}",
        )
    source, _ = open_model(recipe.source_base)
    stack.enter_context(source)
    adapter.container.anchor = Anchor(source.label, source.tensors, source.read_bits)
