"""Commits to the card on main: versions, deprecations and evaluations, which are no content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ftt_hub import hub
from ftt_hub.artifact.card_editing import (
    CARD_NAME,
    MAX_CARD_BYTES,
    History,
    evaluated_card,
    history_from,
    published_card,
    split_card,
)
from ftt_hub.artifact.card_results import EvaluationResult, results_from
from ftt_hub.errors import HubError

RACES = 4
"""So often a commit is tried on a branch that others move."""


def commit_card(name: str, change: Callable[[History], History], message: str) -> bool:
    """Change what main's card says of versions; False when it says so already.

    Raises:
        HubError: The Hub refuses or does not answer.
    """

    def edited(data: bytes | None) -> bytes | None:
        before = history_from(split_card(data or b"")[0])
        after = change(before or History())
        return None if before == after else published_card(data, name, after)

    return _commit(name, edited, message)


def commit_results(name: str, results: Sequence[EvaluationResult]) -> bool:
    """Add evaluation results to main's card; False when it has them already.

    Raises:
        HubError: The Hub refuses or does not answer.
    """

    def edited(data: bytes | None) -> bytes | None:
        held = results_from(split_card(data or b"")[0])
        return None if set(results) <= set(held) else evaluated_card(data, name, results)

    return _commit(name, edited, "Add evaluation results")


def _commit(name: str, edit: Callable[[bytes | None], bytes | None], message: str) -> bool:
    for _ in range(RACES):
        head = hub.describe(name, "main")
        card = edit(hub.read_file(name, head.commit, CARD_NAME, MAX_CARD_BYTES))
        if card is None:
            return False
        try:
            hub.commit_files(name, {CARD_NAME: card}, message, head.commit)
        except hub.StaleParentError:
            continue
        return True
    raise HubError("others keep changing its card", where=name, hint="Run the command again later.")
