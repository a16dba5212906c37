"""Which fine-tunings the variants need: each is done once, whoever asks for it.

Let FT(M) be the model that fine-tuning M gives (Lin et al. 2025, §6 and Algorithm 1):

- ``none``: FT(M_i), nothing recycled; Δ_i = FT(M_i) − M_i.
- ``direct``: FT(M_i + Δ_{i−1}^dir) with Δ_{i−1}^dir = FT(M_{i−1}) − M_{i−1}, the diff vector of the
  version before, which itself recycled nothing.
- ``iterative``: FT(M_i + Δ_{i−1}^iter), where Δ_{i−1}^iter came out of the same loop.

For i = 1 all three are FT(M_1), and for i = 2 direct and iterative are the same. A step is named
by the versions that it was trained on: ``3``, ``2-3`` (direct), ``1-2-3`` (iterative).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One fine-tuning.

    Attributes:
        versions: Numbers of the base versions, from 1, whose fine-tunings led here.
    """

    versions: tuple[int, ...]

    @property
    def name(self) -> str:
        """The versions, joined."""
        return "-".join(map(str, self.versions))

    @property
    def version(self) -> int:
        """Number i of the base version M_i."""
        return self.versions[-1]

    @property
    def parent(self) -> Step | None:
        """The step whose Δ is added to M_i before training."""
        return Step(self.versions[:-1]) if len(self.versions) > 1 else None


def result_step(variant: str, version: int) -> Step:
    """The step whose adapter is a variant's Δ_i."""
    if variant == "none" or version == 1:
        return Step((version,))
    if variant == "direct":
        return Step((version - 1, version))
    return Step(tuple(range(1, version + 1)))


def steps_of(variants: Sequence[str], count: int) -> tuple[Step, ...]:
    """All steps for `count` base versions, each after the one that it starts from."""
    needed: set[Step] = set()
    for variant in variants:
        for version in range(1, count + 1):
            step: Step | None = result_step(variant, version)
            while step is not None:
                needed.add(step)
                step = step.parent
    return tuple(sorted(needed, key=lambda step: (step.version, len(step.versions))))


def variants_of(step: Step, variants: Sequence[str]) -> tuple[str, ...]:
    """The variants whose Δ_i this step gives."""
    return tuple(v for v in variants if result_step(v, step.version) == step)
