"""`combine`: several adapters in, one adapter or one merged checkpoint out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftt_hub.combining.building import Builder
from ftt_hub.combining.catalogue import GREEDY
from ftt_hub.combining.greedy import Soup, as_average, greedy_soup
from ftt_hub.combining.opening import Opened, Settings, opened
from ftt_hub.combining.recipe import Given, Recipe, check, recipe_of
from ftt_hub.extraction.choice import Coding
from ftt_hub.support.progress import Progress, Silent
from ftt_hub.support.staging import require_free
from ftt_hub.transfer.merge import DEFAULT_SHARD_BYTES, MergeResult, merge, parse_dtype
from ftt_hub.transfer.prepare import prepared


@dataclass(frozen=True)
class CombineResult:
    """What was written.

    Attributes:
        folder: The adapter, or the merged model.
        parents: As in the manifest: ref, content digest and weight of each input.
        license: Of the result, as far as it can be told.
        notes: What a user should know: bases, licences, names that differ.
        merged: Figures of the merged model, ``None`` for an adapter.
        soup: What a greedy soup tried and kept.
    """

    folder: Path
    parents: tuple[Mapping[str, Any], ...]
    license: str | None
    notes: tuple[str, ...]
    merged: MergeResult | None = None
    soup: Soup | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        value: dict[str, Any] = {
            "folder": str(self.folder),
            "kind": "adapter" if self.merged is None else "checkpoint",
            "parents": [dict(parent) for parent in self.parents],
            "license": self.license,
            "notes": list(self.notes),
        }
        if self.merged is not None:
            value.update(
                bytes=self.merged.nbytes, tensors=self.merged.tensors, changed=self.merged.changed
            )
        if self.soup is not None:
            tried = [{"adapters": list(mix), "score": score} for mix, score in self.soup.tried]
            value["soup"] = {"score": self.soup.score, "tried": tried}
        return value


def combine(
    recipe: str | Path | Recipe | Sequence[Given],
    out_dir: str | Path,
    *,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    target: str | Path | None = None,
    codec: str | Coding | None = None,
    dtype: str | None = None,
    source_base: str | Path | None = None,
    allow_different_bases: bool | None = None,
    license: str | None = None,  # noqa: A002 - as in a manifest
    registry: str | Path | None = None,
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
        parameters: Of the method.
        target: Write the merged checkpoint target + Δ instead of an adapter.
        codec: How the adapter stores Δ: ``exact``, ``quantized``, ``auto`` or a `Coding`.
        dtype: Of the adapter's Δ or of the merged checkpoint; default the widest of the inputs, or
            the target's.
        source_base: m_s, which only ``anchored`` inputs read.
        allow_different_bases: Combine adapters of different source bases.
        license: Of the result; default combined from the inputs'.
        registry: ``"hf"`` or a folder.
        force: Go on in spite of a rejection by the target.
        max_shard_size: Bytes of a weight file of a merged checkpoint.
        workers: Threads.
        progress: Watches.

    Raises:
        RecipeError: The recipe makes no sense; the message names file and line.
        IncompatibleError: The adapters do not fit together, or not the target.
        IntegrityError: An adapter is damaged.
        OutputError: `out_dir` is not empty, or the disk is full.
    """
    given: dict[str, Any] = {
        "method": method,
        "parameters": None if parameters is None else dict(parameters),
        "target": target,
        "coding": Coding(codec) if isinstance(codec, str) else codec,
        "dtype": None if dtype is None else parse_dtype(dtype),
        "source_base": source_base,
        "allow_different_bases": allow_different_bases,
        "license": license,
    }
    wanted = replace(recipe_of(recipe), **{k: v for k, v in given.items() if v is not None})
    check(wanted)
    out = Path(out_dir)
    require_free(out)
    settings = Settings(registry, workers, progress or Silent())
    soup = None
    if wanted.method == GREEDY:
        soup = greedy_soup(wanted, out.absolute().parent, settings, force=force)
        wanted = as_average(wanted, soup)
    name = wanted.name or out.absolute().name
    with opened(wanted, name, settings) as source:
        merged = None
        if wanted.target is None:
            config = Builder(source, out, name, settings).build()
        else:
            config = source.adapter.config
            merged = _merge(source, wanted.target, out, force, max_shard_size, settings)
    parents = tuple(config.combination["parents"])
    return CombineResult(out, parents, config.license, source.notes, merged, soup)


def _merge(
    source: Opened,
    base: str | Path,
    out: Path,
    force: bool,
    max_shard_size: int,
    settings: Settings,
) -> MergeResult:
    with prepared(source.adapter, base, force=force) as target:
        return merge(
            source.adapter,
            target,
            out,
            dtype=source.recipe.dtype,
            max_shard_size=max_shard_size,
            workers=settings.workers,
            progress=settings.progress,
        )
