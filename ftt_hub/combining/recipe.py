"""Recipes: what to combine and how, from YAML or from Python, checked before anything is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ftt_hub.errors import FttError
from ftt_hub.extraction.choice import Coding
from ftt_hub.support.paths import PathLike
from ftt_hub.support.yaml_lines import LinedYaml, check_value, read_yaml
from ftt_hub.tensors.dtypes import DType, parse_dtype

if TYPE_CHECKING:
    from ftt_hub.registry.open import HasAdapter

SCHEMA = "combine_recipe"
GREEDY = "greedy_soup"
"""Not a method of its own: it chooses ingredients and averages them."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks?|layer)\.(\d+)\.")
_POSITIVE = ("ties", "dare_ties")
_UNWEIGHTED = ("average", GREEDY, "slerp")


class RecipeError(FttError):
    """A recipe does not say what to combine, or says something impossible."""


@dataclass(frozen=True)
class Ingredient:
    """One input of a combination.

    Attributes:
        adapter: Folder, ``namespace/name[@revision]``, an opened adapter, or a `Recipe`.
        weight: λ.
        layers: Ranges of layer numbers (first, last) outside of which the weight is zero;
            ``None`` for all.
        outside_layers: With `layers`: whether the weight also holds for tensors that belong to no
            layer, such as embeddings and the final norm.
        where: File and line, for messages.
    """

    adapter: PathLike | HasAdapter | Recipe
    weight: float = 1.0
    layers: tuple[tuple[int, int], ...] | None = None
    outside_layers: bool = False
    where: str | None = None

    def weight_of(self, tensor: str) -> float:
        """The weight for a tensor, by its checkpoint name."""
        if self.layers is None:
            return self.weight
        match = _LAYER.search(tensor)
        if match is None:
            return self.weight if self.outside_layers else 0.0
        number = int(match[1])
        return self.weight if any(a <= number <= b for a, b in self.layers) else 0.0


@dataclass(frozen=True)
class Recipe:
    """A combination to be made.

    Attributes:
        ingredients: The inputs.
        method: Id of a method in the catalogue, or ``greedy_soup``.
        parameters: Parameters of the method.
        coding: How the result is stored.
        dtype: Dtype of the result; default the widest of the inputs.
        target: Model for a merged checkpoint instead of an adapter.
        source_base: m_s, for ``anchored`` inputs.
        allow_different_bases: Combine adapters of different source bases.
        license: Licence of the result; default combined from the inputs'.
        name: Name of the result; default the output folder's.
        where: The recipe's file, for messages.
        provenance: Further keys of the manifest's `combination`.
    """

    ingredients: tuple[Ingredient, ...]
    method: str = "linear"
    parameters: dict[str, Any] = field(default_factory=dict)
    coding: Coding = field(default_factory=Coding)
    dtype: DType | None = None
    target: PathLike | None = None
    source_base: PathLike | None = None
    allow_different_bases: bool = False
    license: str | None = None
    name: str | None = None
    where: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def check(recipe: Recipe) -> Recipe:
    """The recipe itself, when its method and weights make sense.

    Raises:
        RecipeError: They do not.
    """
    given = {"method": recipe.method, "parameters": recipe.parameters}
    named = [{"adapter": "a/b"} for _ in recipe.ingredients]
    check_value({**given, "adapters": named}, SCHEMA, RecipeError, lambda *keys: recipe.where)
    if recipe.coding.codec == "anchored":
        raise RecipeError(
            "there is no fine-tuned model to anchor",
            where=recipe.where,
            expected="codec exact, quantized or auto",
            found="anchored",
        )
    for key, value in recipe.parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{key}: a number must be finite", where=recipe.where, found=value)
    for item in recipe.ingredients:
        _check_weight(item, recipe.method)
    if not any(item.weight for item in recipe.ingredients):
        raise RecipeError(
            "all weights are zero, so the result would be nothing", where=recipe.where
        )
    if recipe.method == "slerp" and len(recipe.ingredients) != 2:
        raise RecipeError(
            "slerp takes two adapters", where=recipe.where, found=len(recipe.ingredients)
        )
    return recipe


def _check_weight(item: Ingredient, method: str) -> None:
    if not math.isfinite(item.weight):
        raise RecipeError("a weight must be a finite number", where=item.where, found=item.weight)
    if method in _POSITIVE and item.weight < 0:
        raise RecipeError(
            f"{method} takes weights above zero",
            where=item.where,
            found=item.weight,
            hint="Only linear, dare and breadcrumbs can subtract.",
        )
    if method in _UNWEIGHTED and item.weight != 1.0:
        raise RecipeError(f"{method} takes no weights", where=item.where, found=item.weight)


def read_recipe(path: PathLike) -> Recipe:
    """A recipe from a YAML file, and the recipes that it names.

    Relative paths in it are relative to its folder.

    Raises:
        RecipeError: Not readable, not YAML, not as the schema says (with the line), or it names
            itself.
    """
    return _read(Path(path), ())


def _read(path: Path, above: tuple[Path, ...]) -> Recipe:
    resolved = path.expanduser().resolve()
    if resolved in above:
        chain = " → ".join(p.name for p in (*above[above.index(resolved) :], resolved))
        raise RecipeError("the recipe contains itself", where=path, found=chain)
    lined = read_yaml(path, SCHEMA, RecipeError)
    value = lined.value
    ingredients = tuple(
        _ingredient(item, lined, number, path, (*above, resolved))
        for number, item in enumerate(value["adapters"])
    )
    codec = dict(value.get("codec", {"id": "exact"}))
    recipe = Recipe(
        ingredients,
        value.get("method", "linear"),
        value.get("parameters", {}),
        Coding(codec.pop("id"), **codec),
        parse_dtype(value["dtype"]) if "dtype" in value else None,
        _beside(path, value.get("target")),
        _beside(path, value.get("source_base")),
        value.get("allow_different_bases", False),
        value.get("license"),
        value.get("name"),
        str(path),
    )
    return check(recipe)


def _ingredient(
    item: dict[str, Any], lined: LinedYaml, number: int, path: Path, above: tuple[Path, ...]
) -> Ingredient:
    line = lined.place("adapters", number, *(["weight"] if "weight" in item else []))
    adapter: PathLike | Recipe
    if "recipe" in item:
        adapter = _read(path.parent / Path(item["recipe"]).expanduser(), above)
        if adapter.target is not None or adapter.method == GREEDY:
            raise RecipeError(
                "a recipe within a recipe makes an adapter: no target and no greedy_soup",
                where=lined.place("adapters", number, "recipe"),
            )
    else:
        adapter = _beside(path, item["adapter"]) or ""
    layers = item.get("layers")
    return Ingredient(
        adapter,
        float(item.get("weight", 1.0)),
        None
        if layers is None
        else parse_layers(str(layers), lined.place("adapters", number, "layers")),
        item.get("outside_layers", False),
        line,
    )


def _beside(recipe: Path, text: str | None) -> PathLike | None:
    """A reference as it stands, or a folder beside the recipe."""
    if text is None:
        return None
    folder = recipe.parent / Path(text).expanduser()
    return folder if folder.is_dir() or text.startswith((".", "/", "~")) else text


def parse_layers(text: str, where: str | None = None) -> tuple[tuple[int, int], ...]:
    """Ranges of layers: ``"0-3, 28"`` → ((0, 3), (28, 28)).

    Raises:
        RecipeError: Not of this form, or a range ends before it begins.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise RecipeError(
                "not a range of layers",
                where=where,
                expected="such as 0-3,28-31",
                found=part.strip(),
            )
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges)


Given: TypeAlias = "PathLike | HasAdapter | Ingredient | tuple[PathLike | HasAdapter, float]"
"""An input as Python users write it: an adapter, an adapter with its weight, or an ingredient."""


def recipe_of(items: PathLike | Sequence[Given] | Recipe) -> Recipe:
    """A recipe from what Python users pass: a file, a recipe, or adapters with weights."""
    if isinstance(items, Recipe):
        return items
    if isinstance(items, str | Path):
        return read_recipe(items)
    return Recipe(tuple(_given(item) for item in items))


def _given(item: Given) -> Ingredient:
    if isinstance(item, Ingredient):
        return item
    if isinstance(item, tuple):
        return Ingredient(item[0], float(item[1]))
    return Ingredient(item)


def with_ingredients(recipe: Recipe, chosen: Sequence[Ingredient]) -> Recipe:
    """The plain average of some of a recipe's ingredients."""
    return replace(recipe, ingredients=tuple(chosen), method="average", parameters={})
