"""`record_evaluations`: add evaluation results to an adapter's card."""

from __future__ import annotations

from collections.abc import Sequence

from ftt_hub.artifact.card_editing import evaluated_card, split_card
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.artifact.folder import CARD_NAME
from ftt_hub.artifact.manifest import read_config
from ftt_hub.errors import RefError
from ftt_hub.registry.choose import choose_registry
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import parse_ref
from ftt_hub.support.staging import write_atomic


def record_evaluations(
    adapter: PathLike, results: Sequence[EvaluationResult], *, registry: PathLike | None = None
) -> bool:
    """Add evaluation results to an adapter's card; its content and digest stay as they are.

    A result of the same task, dataset, metric, target and scale is replaced.

    Args:
        adapter: A folder, before it is published, or ``namespace/name``: the card on main.
        results: What was measured.
        registry: ``"hf"`` or a folder.

    Returns:
        False when the card has them already.

    Raises:
        RefError: It names nothing, or a revision: published revisions never change.
        RegistryError: The registry refuses.
        OutputError: The card cannot be written.
    """
    ref = parse_ref(adapter)
    if ref.folder is None:
        if ref.revision not in (None, "main"):
            raise RefError("only main's card can gain results", where=ref, expected=ref.name)
        return choose_registry(registry).add_results(ref.name or "", results)
    name = read_config(ref.folder).fine_tuned.id.rsplit("/", 1)[-1]
    path = ref.folder / CARD_NAME
    data = path.read_bytes() if path.is_file() else b""
    if set(results) <= set(results_from(split_card(data)[0])):
        return False
    write_atomic(path, evaluated_card(data, name, results))
    return True
