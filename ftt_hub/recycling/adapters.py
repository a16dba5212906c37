"""The adapter of a step: extracted with its provenance, then published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftt_hub.errors import ExtractionError, FttError, RecycleError
from ftt_hub.extraction.builder import Provenance
from ftt_hub.extraction.extract import extract_full
from ftt_hub.recycling.recipe import RecycleRecipe
from ftt_hub.recycling.steps import Step, variants_of
from ftt_hub.registry.push import push
from ftt_hub.support.paths import PathLike
from ftt_hub.support.progress import Progress


def provenance(
    recipe: RecycleRecipe, step: Step, parent: tuple[Mapping[str, Any], str] | None
) -> Provenance:
    """Where the adapter of a step comes from.

    Args:
        recipe: The recipe.
        step: The step.
        parent: Recorded result of the step whose Δ was recycled, and the digest of its adapter.
    """
    training = asdict(recipe.training)
    for key in ("report_to", "logging_steps", "device"):
        del training[key]
    given = {key: value for key, value in training.items() if value not in (None, {})}
    parents: tuple[dict[str, str], ...] = ()
    if step.parent is not None and parent is not None:
        result, digest = parent
        ref = (result.get("published") or [f"{recipe.name}-{step.parent.name}"])[0]
        parents = ({"ref": ref, "content_digest": digest},)
    return Provenance(
        languages=recipe.languages,
        datasets=recipe.datasets,
        hyperparameters={"optimizer": "AdamW", **given},
        license=recipe.license,
        fine_tuned_id=f"{recipe.name}-{step.name}",
        parents=parents,
    )


def extract_step(
    recipe: RecycleRecipe,
    step: Step,
    base: PathLike,
    tuned: Path,
    folder: Path,
    origin: Provenance,
    progress: Progress,
) -> None:
    """Extract Δ_i = fine-tuned − M_i into a folder.

    Raises:
        RecycleError: Training changed no weight.
        ExtractionError: Anything else that is wrong with the two models.
    """
    try:
        extract_full(
            base, tuned, folder, recipe.coding, provenance=origin, resume=True, progress=progress
        )
    except ExtractionError as error:
        if "Δ is zero" not in error.what:
            raise
        raise RecycleError(
            f"step {step.name}: training changed no weight",
            where=recipe.where,
            hint="Raise learning_rate or max_steps; the first steps warm up from zero.",
        ) from error


def publish(recipe: RecycleRecipe, step: Step, folder: Path) -> list[str]:
    """Publish a variant's Δ_i as version i.0.0; the same content again changes nothing.

    Returns:
        The references, one per variant that this step serves.

    Raises:
        FttError: The registry refuses; the adapter in `folder` stays.
    """
    target = recipe.publishing
    if target is None:
        return []
    refs = []
    for variant in variants_of(step, recipe.variants):
        name = target.name if len(recipe.variants) == 1 else f"{target.name}-{variant}"
        try:
            publication = push(
                folder,
                name,
                version=f"{step.version}.0.0",
                private=target.private,
                registry=target.registry,
            )
        except FttError as error:
            error.add_note("The adapter is made; the next run publishes it.")
            raise
        refs.append(publication.ref)
    return refs
