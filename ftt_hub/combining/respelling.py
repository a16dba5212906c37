"""Inputs made from differently spelled copies of one base, under the names of the first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from ftt_hub.artifact.index import DELTA, UNCHANGED, Block, TensorEntry
from ftt_hub.artifact.reader import Container
from ftt_hub.checkpoint.arrangement import Arrangement
from ftt_hub.checkpoint.spelling import Respelling, respell
from ftt_hub.combining.inputs import Input
from ftt_hub.errors import IncompatibleError, UnsupportedError
from ftt_hub.tensors.delta_block import DeltaBlock
from ftt_hub.tensors.dtypes import wider
from ftt_hub.transfer.assemble import BLOCK_ELEMENTS, gathered, whole_rows
from ftt_hub.transfer.own_words import source_of


def in_words_of_first(inputs: Sequence[Input]) -> list[Input]:
    """The inputs, of which each has the first one's names for the tensors of its source base.

    Raises:
        UnsupportedError: Two source bases cannot be matched.
        IncompatibleError: Rows were added to a tensor that the first stores in another layout.
    """
    first = source_of(inputs[0].adapter.headers)
    result = [inputs[0]]
    for item in inputs[1:]:
        respelling = respell(first, source_of(item.adapter.headers))
        if respelling is None:
            result.append(item)
            continue
        container = RespelledContainer(item.adapter.container, respelling)
        adapter = replace(item.adapter, container=container)
        result.append(replace(item, adapter=adapter, is_respelled=True))
    return result


@dataclass(frozen=True)
class _Made:
    """One tensor under its new name.

    Attributes:
        entry: Its index entry.
        own: The entry that it is, ``None`` where it is a rearrangement.
        arrangement: What it is made of.
    """

    entry: TensorEntry
    own: TensorEntry | None
    arrangement: Arrangement


class RespelledContainer(Container):
    """An adapter's deltas under other names and in other layouts; only decoded, never stored.

    Args:
        container: The adapter's own frames; whoever opened it closes it.
        respelling: Its source base under the other names.
    """

    def __init__(self, container: Container, respelling: Respelling) -> None:
        self.folder, self.anchor = container.folder, None
        self._files, self._slots = [], {}
        self._container = container
        self._made = dict(self._all(respelling))
        self.entries = {name: made.entry for name, made in self._made.items()}

    def _all(self, respelling: Respelling) -> Iterator[tuple[str, _Made]]:
        own: Mapping[str, TensorEntry] = self._container.entries
        used: set[str] = set()
        renamed = {name: respelling.renamed(name) or name for name in own}
        for name, made in respelling.tensors.items():
            used.update(made.names)
            entry = own[made.names[0]]
            if renamed[entry.name] == name and len(made.names) == 1:
                of = None if entry.of is None else renamed.get(entry.of, entry.of)
                yield name, _Made(replace(entry, name=name, of=of), entry, made)
            else:
                yield name, _Made(self._rearranged(name, made), None, made)
        for name, entry in own.items():
            if name not in used and name not in respelling.tensors:
                yield name, _Made(entry, entry, Arrangement.whole(name, entry.shape))

    def _rearranged(self, name: str, made: Arrangement) -> TensorEntry:
        parts = [self._container.entries[n] for n in made.names]
        moved = [e.name for e in parts if e.role not in (DELTA, UNCHANGED)]
        if moved:
            raise IncompatibleError(
                f"the adapters store {name} in different layouts, and one changed its shape",
                where=moved[0],
                hint="Make both adapters from the same copy of the source base.",
            )
        dtype = reduce(wider, (entry.dtype for entry in parts))
        if all(entry.slot is None for entry in parts):
            return TensorEntry(name, UNCHANGED, dtype, made.shape)
        ranges = whole_rows(made.shape, BLOCK_ELEMENTS)
        blocks = tuple(Block(0, 0, count, "") for _, count in ranges)
        return TensorEntry(
            name, DELTA, dtype, made.shape, slot=1, blocks=blocks, norm=_norm(parts, made)
        )

    @property
    def needs_source(self) -> bool:
        """Never: the container it reads from has got it."""
        return False

    def frame(self, entry: TensorEntry, number: int) -> bytes:
        """There are none.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("a respelled adapter has no frames", where=entry.name)

    def decode(self, entry: TensorEntry, number: int) -> DeltaBlock:
        """Δ of one block, with its elements where the other layout has them."""
        made = self._made[entry.name]
        if made.own is not None:
            return self._container.decode(made.own, number)
        start = sum(block.elements for block in made.entry.blocks[:number])
        section = made.arrangement.section(start, made.entry.blocks[number].elements)
        return gathered(self._container, self._container.entries, section, made.entry.dtype)

    def close(self) -> None:
        """Nothing is open here."""


def _norm(parts: Sequence[TensorEntry], made: Arrangement) -> tuple[float, float] | None:
    """(‖Δ‖, ‖m_s‖) of tensors put together whole; ``None`` where a part of one was taken."""
    norms = [entry.norm for entry in parts if entry.norm is not None]
    if len(norms) < len(parts) or sum(entry.count for entry in parts) != made.count:
        return None
    return math.hypot(*(n for n, _ in norms)), math.hypot(*(n for _, n in norms))
