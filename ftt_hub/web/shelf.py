"""The registry's listing, asked for at most twice a minute however many visitors there are."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ftt_hub.catalogue.browse import told
from ftt_hub.registry.abc import Facts, Summary
from ftt_hub.registry.choose import choose_registry
from ftt_hub.support.paths import PathLike

SECONDS = 30.0


@dataclass(frozen=True)
class Facets:
    """The values to filter by: value → number of adapters that have it, most frequent first."""

    languages: dict[str, int]
    source_bases: dict[str, int]
    datasets: dict[str, int]
    licenses: dict[str, int]


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts = Counter(value for value in values if value)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0].lower())))


def facets_of(facts: Iterable[Facts]) -> Facets:
    """Count the values of some adapters."""
    known = list(facts)
    return Facets(
        _counted(tag.lower() for f in known for tag in set(f.languages)),
        _counted(f.source_base for f in known),
        _counted(dataset for f in known for dataset in set(f.datasets)),
        _counted(f.license or "" for f in known),
    )


class Shelf:
    """A registry and its last listing.

    Args:
        registry: ``"hf"`` or a folder; default `FTT_HUB_REGISTRY`, else the Hub.
        seconds: How long a listing is used.
    """

    def __init__(self, registry: PathLike | None, seconds: float = SECONDS) -> None:
        self.registry, self._seconds = registry, seconds
        self._lock = threading.Lock()
        self._summaries: tuple[Summary, ...] = ()
        self._until = 0.0

    def summaries(self) -> tuple[Summary, ...]:
        """All adapters, each with its facts.

        Raises:
            HubError: The Hub does not answer.
        """
        with self._lock:  # visitors who come at once wait for one listing
            if time.monotonic() >= self._until:
                listed = choose_registry(self.registry).summaries()
                self._summaries = tuple(told(listed, registry=self.registry))
                self._until = time.monotonic() + self._seconds
            return self._summaries

    def facets(self) -> Facets:
        """The values that its adapters can be filtered by.

        Raises:
            HubError: The Hub does not answer.
        """
        return facets_of(s.facts for s in self.summaries() if s.facts is not None)
