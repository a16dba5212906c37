"""Tied tensors of a target: which delta each of them gets, and when the result must untie them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from ftt_hub.artifact.facts import TensorFacts
from ftt_hub.artifact.index import ADDED, ALIAS, DELTA, DROPPED, RESIZED, TensorEntry
from ftt_hub.support.findings import Finding, accepted, rejected, warned
from ftt_hub.tensors.header import TensorInfo

TIE = "tied embeddings"


@dataclass(frozen=True)
class Ties:
    """The tied groups of an adapter and a target.

    Attributes:
        source: The source base's facts, as the adapter records them.
        facts: The target's.
        entries: The adapter's index.
        stored: The target's tensors.
    """

    source: TensorFacts
    facts: TensorFacts
    entries: Mapping[str, TensorEntry]
    stored: Mapping[str, TensorInfo]

    def entry(self, name: str) -> TensorEntry | None:
        """The entry whose change a tensor gets: its own, else that of its tied group."""
        own = self.entries.get(name)
        if own is None:
            others = (self.entries.get(other) for other in self.facts.group(name))
            alive = (e for e in others if e is not None and e.role not in (DROPPED, ADDED))
            own = next(alive, None)
        if own is None or own.role == DROPPED:
            return None
        return self.entries.get(own.of) if own.role == ALIAS and own.of is not None else own

    def owner(self, name: str) -> TensorInfo | None:
        """The target's tensor that a name's value comes from: its own, or one it is tied to."""
        if name in self.stored:
            return self.stored[name]
        group = self.facts.group(name)
        active = [n for n in group if n == group[0] or n in self.facts.tied]
        if name not in active:
            return None
        return next((self.stored[n] for n in active if n in self.stored), None)

    @functools.cached_property
    def untied(self) -> tuple[str, ...]:
        """Copies that the target ties and to which fine-tuning gave a change of their own."""
        return tuple(
            name
            for name in sorted(self.facts.tied)
            if self._has_own(name) and self._has_own(self.facts.root(name), ALIAS)
        )

    def _has_own(self, name: str, *others: str) -> bool:
        entry = self.entries.get(name)
        return entry is not None and entry.role not in {ALIAS, DROPPED} - set(others)

    @functools.cached_property
    def extra(self) -> dict[str, TensorInfo]:
        """Tensors that the result needs besides the target's, and where their values come from.

        Where the result is untied, every name that the target tied is stored.
        """
        if not self.untied:
            return {}
        names = {n for copy in self.facts.tied for n in (copy, self.facts.root(copy))}
        missing = {n: self.owner(n) for n in sorted(names) if n not in self.stored}
        return {name: info for name, info in missing.items() if info is not None}

    @property
    def carried(self) -> frozenset[str]:
        """Changed tensors that the target has only as a part of a tied group."""
        changed = (n for n, e in self.entries.items() if e.role in (DELTA, RESIZED))
        return frozenset(n for n in changed if n not in self.stored and self.owner(n) is not None)

    def findings(self) -> list[Finding]:
        """What the user should know of the ties."""
        if any(name not in self.source.tied for name in self.untied):
            reason = (
                f"the adapter has its own delta for {self.untied[0]}, which the target ties to "
                f"{self.facts.root(self.untied[0])}"
            )
            return [rejected(TIE, reason)]
        if self.untied:
            reason = f"fine-tuning untied {', '.join(self.untied[:3])}, and so is the result"
            return [warned(TIE, reason)]
        apart = sorted(n for n in self.source.tied - self.facts.tied if n in self.stored)
        if apart:
            reason = f"{apart[0]} is tied in the source base and separate in the target"
            return [
                warned(TIE, f"{reason}: it gets the same change as {self.facts.root(apart[0])}")
            ]
        return [accepted(TIE, "same on both sides")]
