"""Commits to main that change no content: versions, deprecations and evaluations in the card."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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

_log = logging.getLogger(__name__)

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
        recorded = results_from(split_card(data or b"")[0])
        return None if set(results) <= set(recorded) else evaluated_card(data, name, results)

    return _commit(name, edited, "Add evaluation results")


def _commit(name: str, edit: Callable[[bytes | None], bytes | None], message: str) -> bool:
    def files(data: bytes | None) -> dict[str, Path | bytes]:
        card = edit(data)
        return {} if card is None else {CARD_NAME: card}

    return commit_beside(name, files, message) is not None


def commit_beside(
    name: str, files: Callable[[bytes | None], Mapping[str, Path | bytes]], message: str
) -> str | None:
    """Commit files that lie beside an adapter's content to main, its card among them.

    Args:
        name: ``namespace/name``.
        files: Called with main's card, returns what to commit; again when others moved main.
        message: Commit message.

    Returns:
        Address of the commit; ``None`` when there is nothing to commit.

    Raises:
        HubError: The Hub refuses or does not answer.
    """
    for _ in range(RACES):
        head = hub.describe(name, "main")
        changed = files(hub.read_file(name, head.commit, CARD_NAME, MAX_CARD_BYTES))
        if not changed:
            return None
        try:
            return hub.commit_files(name, changed, message, head.commit).address
        except hub.StaleParentError:
            _log.info("%s: main moved meanwhile; committing again", name)
    raise HubError("others keep changing its card", where=name, hint="Run the command again later.")
