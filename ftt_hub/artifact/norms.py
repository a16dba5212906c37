"""The size of Δ in each part of a model: ‖Δ‖/‖m_s‖ by layer and kind of module."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ftt_hub.artifact.index import UNCHANGED, TensorEntry

_LAYER = re.compile(r"\.(?:layers|h|blocks?|layer)\.(\d+)\.")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_WITHIN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate", "up_proj", "down_proj")


@dataclass(frozen=True)
class NormGrid:
    """‖Δ‖/‖m_s‖ of a model.

    Attributes:
        layers: Numbers of the layers that Δ changes or leaves alone, in order.
        kinds: Kinds of module within a layer, ``self_attn.q_proj``; experts are taken together.
        cells: (layer, kind) → ratio; a pair that the model lacks, or without a norm, is absent.
        outside: Tensor outside the layers → ratio.
    """

    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    cells: Mapping[tuple[int, str], float]
    outside: Mapping[str, float]

    @property
    def largest(self) -> float:
        """The largest ratio within the layers; 0 when there is none."""
        return max(self.cells.values(), default=0.0)


class _Sums:
    """Squares of the norms of tensors that are taken together."""

    def __init__(self) -> None:
        self.delta, self.source = 0.0, 0.0

    def add(self, norm: tuple[float, float]) -> None:
        self.delta += norm[0] ** 2
        self.source += norm[1] ** 2

    @property
    def ratio(self) -> float | None:
        if self.source == 0:
            return 0.0 if self.delta == 0 else None
        value = math.sqrt(self.delta / self.source)
        return value if math.isfinite(value) else None


def _ratios(sums: Mapping[str, _Sums]) -> dict[str, float]:
    return {key: s.ratio for key, s in sorted(sums.items()) if s.ratio is not None}


def layer_norms(entries: Iterable[TensorEntry]) -> dict[str, float]:
    """‖Δ‖/‖m_s‖ by layer number, tensors outside the layers by name."""
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for entry in entries:
        if entry.norm is not None:
            match = _LAYER.search(entry.name)
            sums[f"layer {int(match[1]):3}" if match else entry.name].add(entry.norm)
    return _ratios(sums)


def norm_grid(entries: Iterable[TensorEntry]) -> NormGrid:
    """‖Δ‖/‖m_s‖ by layer and kind of module.

    The stack with most tensors gives its kinds plain names; those of others, such as a vision
    tower, begin with the stack's name. An unchanged tensor counts as 0; among changed ones of its
    kind, such as other experts, it is left out, since nobody measured its ‖m_s‖.
    """
    measured = [entry for entry in entries if entry.norm is not None or entry.role == UNCHANGED]
    places = {entry.name: _LAYER.search(entry.name) for entry in measured}
    stacks = Counter(match.string[: match.start()] for match in places.values() if match)
    main = max(stacks, key=lambda stack: stacks[stack], default="")
    cells: dict[tuple[int, str], _Sums] = defaultdict(_Sums)
    outside: dict[str, _Sums] = defaultdict(_Sums)
    for entry in measured:
        match, norm = places[entry.name], entry.norm or (0.0, 0.0)
        if match is None:
            outside[entry.name].add(norm)
        else:
            stack = entry.name[: match.start()]
            kind = _kind(entry.name[match.end() :])
            cells[int(match[1]), kind if stack == main else f"{stack}.{kind}"].add(norm)
    ratios = {key: s.ratio for key, s in cells.items() if s.ratio is not None}
    return NormGrid(
        tuple(sorted({layer for layer, _ in ratios})),
        tuple(sorted({kind for _, kind in ratios}, key=_rank)),
        ratios,
        _ratios(outside),
    )


def _kind(rest: str) -> str:
    """``mlp.experts.3.up_proj.weight`` → ``mlp.experts.up_proj``; a bias keeps its name."""
    return _NUMBER.sub("", f".{rest}").removeprefix(".").removesuffix(".weight")


def _rank(kind: str) -> tuple[int, int, str]:
    """Attention, then the feed-forward part, then the norms, as data flows within each."""
    within = next((i for i, word in enumerate(_WITHIN) if word in kind), len(_WITHIN))
    if "norm" in kind or kind.startswith("ln_"):
        return 3, within, kind
    if "attn" in kind or "attention" in kind:
        return 0, within, kind
    forward = any(word in kind for word in ("mlp", "expert", "feed_forward", "ffn"))
    return 1 if forward else 2, within, kind
