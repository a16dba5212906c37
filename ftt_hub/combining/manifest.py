"""The manifest of a combined adapter: parents, licence, and what travels with the weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftt_hub.artifact import sketch
from ftt_hub.artifact.adapter import Adapter
from ftt_hub.artifact.index import TensorEntry
from ftt_hub.artifact.manifest import AdapterConfig, CodecSpec, Fidelity, ModelIdentity
from ftt_hub.checkpoint.headers import BEHAVIOUR_FILES, TOKENIZER_FILES
from ftt_hub.combining.inputs import Agreement, Input
from ftt_hub.combining.recipe import Recipe
from ftt_hub.extraction.summary import digest, summary
from ftt_hub.support.licences import combine_licences
from ftt_hub.version import __version__

NOTHING_MEASURED = Fidelity(False, 0.0, 0.0, 0.0, 0, 0, 0.0, 0.0)
NO_CODEC = CodecSpec("none", {}, 1, {})
"""Of a combination that is not stored but computed."""


def ref_of(adapter: Adapter) -> str:
    """How a manifest names a parent: ``namespace/name@revision``, or the last part of a path."""
    if adapter.revision is not None:
        return f"{adapter.label.partition('@')[0]}@{adapter.revision}"
    return Path(adapter.label).name or adapter.label


def _parent(item: Input) -> dict[str, Any]:
    given = item.ingredient
    value: dict[str, Any] = {
        "ref": ref_of(item.adapter),
        "content_digest": item.key,
        "weight": given.weight,
    }
    if given.layers is not None:
        value["layers"] = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in given.layers)
        value["outside_layers"] = given.outside_layers
    if item.adapter.config.combination:
        value["combination"] = item.adapter.config.combination
    return value


def _union(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))


def combined_licence(agreement: Agreement, recipe: Recipe) -> tuple[str | None, list[str]]:
    """The licence of the result, and conflicts between those of the parents."""
    licences = {ref_of(i.adapter): i.adapter.config.license for i in agreement.inputs}
    combined, conflicts = combine_licences(licences)
    return recipe.license or combined, conflicts


def travelling(agreement: Agreement) -> tuple[dict[str, Path], list[str]]:
    """The files that go into the result by name, and where inputs disagree.

    The tokenizer is that of the input that changed it; of other files the first in the recipe's
    order is taken.
    """
    files: dict[str, Path] = {}
    notes = []
    order = (agreement.vocabulary, *(i for i in agreement.inputs if i is not agreement.vocabulary))
    holder = next((i for i in order if _carries(i, TOKENIZER_FILES)), None)
    if holder is not None:
        files.update(_carries(holder, TOKENIZER_FILES))
    for name in BEHAVIOUR_FILES:
        having = [i for i in agreement.inputs if name in _carries(i, (name,))]
        if not having:
            continue
        files[name] = having[0].adapter.folder / name
        hashes = {i.adapter.config.files[name]["sha256"] for i in having}
        if len(hashes) > 1:
            notes.append(f"{name} differs between adapters: that of {having[0].label} is used")
    return files, notes


def _carries(item: Input, names: Sequence[str]) -> dict[str, Path]:
    files = item.adapter.config.files
    return {name: item.adapter.folder / name for name in names if name in files}


def copy_companions(agreement: Agreement, folder: Path) -> list[str]:
    """Write tokenizer, behaviour files and sketch into a folder; says where inputs disagree."""
    files, notes = travelling(agreement)
    base = agreement.inputs[0].adapter.config.source_base.digest
    for item in agreement.inputs:
        path = item.adapter.folder / sketch.SKETCH_NAME
        if item.adapter.config.source_base.digest == base and path.is_file():
            files[sketch.SKETCH_NAME] = path
            break
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    return notes


def combined_config(
    agreement: Agreement,
    recipe: Recipe,
    name: str,
    entries: Sequence[TensorEntry],
    codec: CodecSpec = NO_CODEC,
    fidelity: Fidelity = NOTHING_MEASURED,
) -> AdapterConfig:
    """The manifest, without its list of files."""
    configs = [i.adapter.config for i in agreement.inputs]
    licence, conflicts = combined_licence(agreement, recipe)
    methods = {config.method for config in configs}
    parents = [_parent(i) for i in agreement.inputs]
    combination: dict[str, Any] = {
        "method": recipe.method,
        "parameters": recipe.parameters,
        "parents": parents,
        **recipe.provenance,
    }
    if conflicts:
        combination["licence_notes"] = conflicts
    return AdapterConfig(
        source_base=configs[0].source_base,
        fine_tuned=ModelIdentity(name, None, digest(entries, "fine_tuned")),
        codec=codec,
        fidelity=fidelity,
        tensors=summary(entries),
        num_slots=1 + sum(e.slot is not None for e in entries),
        task_type=configs[0].task_type,
        languages=_union(config.languages for config in configs),
        datasets=_union(config.datasets for config in configs),
        method=methods.pop() if len(methods) == 1 else "other",
        license=licence,
        differences=_differences(agreement, configs),
        vocabulary=agreement.vocabulary.adapter.config.vocabulary,
        generation_config=next((c.generation_config for c in configs if c.generation_config), {}),
        combination=combination,
        extra={"x-generator": f"ftt-hub {__version__}"},
    )


def _differences(agreement: Agreement, configs: Sequence[AdapterConfig]) -> dict[str, Any]:
    """Differences from the source base: the first input to name a key wins."""
    merged: dict[str, Any] = {}
    for config in reversed(configs):
        merged.update(config.differences.get("config", {}))
    tokenizer = agreement.vocabulary.adapter.config.differences.get("tokenizer", {})
    return {"config": merged, "tokenizer": tokenizer}
