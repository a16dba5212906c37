"""The search for a step by measured loss, on harm that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftt_hub.codecs.quantized import QuantizedCodec
from ftt_hub.extraction.choice import Coding
from ftt_hub.extraction.trials.bench import Passage, evenly
from ftt_hub.extraction.trials.search import ROUNDINGS, Search
from ftt_hub.extraction.trials.trial import TrialPoint
from ftt_hub.loss import Estimate, HeldOutText, Loss, Window

HARM = {"stochastic": 60.0, "rotated": 100.0, "nearest": 9000.0}
BITS = {"stochastic": 4e-5, "rotated": 8e-6, "nearest": 2e-6}


def passage(tokens: int) -> Passage:
    windows = tuple(Window((0,) * 512, (True,) * 512) for _ in range(tokens // 512))
    return Passage(HeldOutText(windows, "text", ""), Loss(np.zeros(1), np.ones(1)))


@dataclass
class KnownHarm:
    """Bench and chooser in one: harm · noise^power, an interval that falls with √tokens."""

    power: float = 2.0
    spread: float = 0.3
    norm: float = 0.005
    points: list[TrialPoint] = field(default_factory=list)
    all: Passage = field(default_factory=lambda: passage(16_384))
    part: Passage = field(default_factory=lambda: passage(4096))

    def codec(self, coding: Coding) -> QuantizedCodec:
        assert coding.noise is not None
        return QuantizedCodec(coding.noise, coding.rounding or "")

    def bits_per_weight(self, codec: QuantizedCodec) -> float:
        return BITS[codec.rounding] / codec.step**2

    def survey(self, *, turned: bool) -> Any:
        total = SimpleNamespace(delta_square=self.norm**2, source_square=1.0)
        return SimpleNamespace(total=total)

    def try_(self, codec: QuantizedCodec, passage: Passage) -> TrialPoint:
        noise, tokens = codec.step, passage.text.tokens
        value = HARM[codec.rounding] * 0.01**2 * (noise / 0.01) ** self.power
        half = self.spread * noise * math.sqrt(16_384 / tokens)
        loss = Estimate(3 + value, 3, 4)
        increase = Estimate(value, value - half, value + half)
        point = TrialPoint(
            codec.rounding, noise, self.bits_per_weight(codec), noise, tokens, loss, increase
        )
        self.points.append(point)
        return point


def searched(known: KnownHarm, limit: float, kinds: tuple[str, ...] = ROUNDINGS) -> TrialPoint:
    found = Search(known, known, Coding("auto"), limit).run(kinds)  # type: ignore[arg-type]
    assert found is not None
    return found.point


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_a_few_measurements_lead_near_the_limit(power: float, limit: float) -> None:
    known = KnownHarm(power)
    found = searched(known, limit)
    assert 0.6 * limit < found.increase.high <= limit
    assert len([point for point in known.points if point.tokens == 16_384]) <= 4
    assert len([point for point in known.points if point.tokens == 4096]) <= 6


def test_a_rounding_that_cannot_win_is_measured_on_the_sample_only() -> None:
    known = KnownHarm()
    found = searched(known, 0.01)
    assert found.rounding == "rotated"
    assert {point.rounding for point in known.points if point.tokens == 16_384} == {"rotated"}
    assert {point.rounding for point in known.points} == set(ROUNDINGS)


def test_nearest_rounding_is_not_asked_for_more_noise_than_delta_has() -> None:
    known = KnownHarm(norm=0.002)
    searched(known, 0.01, ("nearest",))
    assert max(point.noise for point in known.points[:1]) <= 0.001


def test_no_noise_is_small_enough_for_a_limit_below_the_interval() -> None:
    known = KnownHarm(spread=50.0)
    assert Search(known, known, Coding("auto"), 1e-6).run(ROUNDINGS) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("total", "count"), [(93, 33), (8, 8), (9, 3), (5, 1)])
def test_windows_are_spread_over_the_text(total: int, count: int) -> None:
    places = evenly(total, count)
    assert len(set(places)) == count
    assert 0 <= min(places) < max(total // count, 1)
    gaps = np.diff([*places, total])
    assert gaps.max() - gaps.min() <= 1
