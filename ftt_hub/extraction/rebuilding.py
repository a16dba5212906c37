"""The last check of an extraction: does source base + Δ load as the fine-tuned model loads?

Every frame was decoded and compared when it was made. What is left to ask is whether each parameter
of the model class would get the value that belongs to it, ties resolved as the loader resolves
them. Neither model is held or read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ftt_hub.artifact.index import ADDED, TensorEntry
from ftt_hub.errors import ExtractionError
from ftt_hub.extraction.identity import owner
from ftt_hub.extraction.pairs import BUFFER, Pair, Side
from ftt_hub.tensors.header import TensorInfo
from ftt_hub.transfer.ties import Ties


@dataclass(frozen=True)
class Rebuilding:
    """Source base + Δ, as it would be stored and loaded.

    Attributes:
        source: The source base.
        tuned: The fine-tuned model.
        pairs: How their tensors were paired, by name.
        ties: Which delta each tensor of the source base gets.
    """

    source: Side
    tuned: Side
    pairs: Mapping[str, Pair]
    ties: Ties

    def _names(self) -> set[str]:
        """Names to which the fine-tuned model gives a value, stored or tied."""
        tied = self.tuned.facts.tied
        names = {*self.tuned.model.tensors, *tied, *(self.tuned.facts.root(n) for n in tied)}
        return {n for n in names if n not in self.pairs or self.pairs[n].role != BUFFER}

    def _stored(self) -> dict[str, TensorInfo | None]:
        """Tensors of the result → where their weights come from in the source base."""
        added = {name: None for name, e in self.ties.entries.items() if e.role == ADDED}
        return {**added, **self.ties.stored, **self.ties.extra}

    def _value(self, name: str, info: TensorInfo | None) -> str | None:
        """The fine-tuned model's tensor whose bits a tensor of the result has, if any."""
        entry = self.ties.entry(name)
        pair = None if entry is None else self.pairs.get(entry.name)
        if pair is None or pair.tuned is None:
            return None
        if pair.source is not None and info is not None:
            same = self.source.value(pair.source.name) == self.source.value(info.name)
            if not same:
                return None
        return self.tuned.value(pair.tuned.name)

    def wrong(self) -> list[str]:
        """Parameters that would load with another value than the fine-tuned model's, or none."""
        stored = self._stored()
        active = frozenset() if self.ties.untied else self.ties.facts.tied
        facts = replace(self.ties.facts, tied=active)
        wrong = []
        for name in sorted(self._names()):
            theirs = self.tuned.value(name)
            ours = owner(name, facts, stored)
            if theirs is None:
                continue
            if ours is None or self._value(ours, stored[ours]) != theirs:
                wrong.append(name)
        return wrong


def check_rebuilding(
    sides: tuple[Side, Side], pairs: Sequence[Pair], ties: Ties, entries: Sequence[TensorEntry]
) -> None:
    """Refuse a Δ that does not give the fine-tuned model back when it is loaded.

    Args:
        sides: Source base and fine-tuned model.
        pairs: How their tensors were paired.
        ties: Which delta each tensor of the source base gets.
        entries: The index that was made.

    Raises:
        ExtractionError: Lists the parameters that would load with another value.
    """
    by_name = {pair.name: pair for pair in pairs}
    wrong = Rebuilding(*sides, by_name, replace(ties, entries={e.name: e for e in entries})).wrong()
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ExtractionError(
            f"{len(wrong)} parameters of source base + Δ would not load as in the fine-tuned model",
            where=sides[1].model.label,
            expected="every parameter as transformers loads it from the fine-tuned model",
            found=", ".join(wrong[:5]) + more,
            hint="Save both models again with the same version of transformers, then extract.",
        )
