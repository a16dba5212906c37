"""What transfers within a measured family of models predict for others.

The numbers come from `calibration.json`, which `benchmarks/transferability.py --write` makes; the
method and its limits are in docs/verdict.md. *Recovered share* is the part of fine-tuning's gain
that the transfer has: (L(m_t) − L(m_t + Δ)) / (L(m_t) − L(FT(m_t))).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ftt_hub.loss import Estimate


@dataclass(frozen=True)
class Prediction:
    """The share of fine-tuning's gain that a transfer is expected to recover.

    Attributes:
        share: With the interval that held 90% of the calibration's transfers of this kind.
        basis: Depth of the figure: ``sketch``, ``weights`` or ``loss``.
        figure: The figure it was made from, by its name in the report.
        value: That figure's value.
    """

    share: Estimate
    basis: str
    figure: str
    value: float

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "recovered_share": self.share.to_json(),
            "basis": self.basis,
            "figure": self.figure,
            "value": self.value,
        }


@cache
def calibration() -> dict[str, Any]:
    """The calibration's figures."""
    text = Path(__file__).with_name("calibration.json").read_text(encoding="utf-8")
    value: dict[str, Any] = json.loads(text)
    return value


def far_above() -> float:
    """‖m_t − m_s‖ / ‖m_s‖ above which most transfers kept less than half of the gain."""
    return float(calibration()["distance"]["threshold"])


def from_distance(distance: float, basis: str) -> Prediction:
    """The prediction for a target at that relative distance from the source base.

    Args:
        distance: ‖m_t − m_s‖ / ‖m_s‖.
        basis: ``sketch`` where it is estimated, ``weights`` where it is exact.
    """
    table = calibration()["distance"]["classes"]
    shares = table["near" if distance <= far_above() else "far"]
    share = Estimate(shares["median"], shares["low"], shares["high"], shares["level"])
    return Prediction(share, basis, "distance", distance)


def from_kept(kept: Estimate) -> Prediction:
    """The prediction from the measured gain as a share of L(m_t) − L(m'_s).

    The calibration's band is widened by the uncertainty of `kept`, taken as independent.
    """
    line = calibration()["kept"]
    value = line["intercept"] + line["slope"] * kept.value
    slope = abs(line["slope"])
    low = (line["below"] ** 2 + (slope * (kept.value - kept.low)) ** 2) ** 0.5
    high = (line["above"] ** 2 + (slope * (kept.high - kept.value)) ** 2) ** 0.5
    return Prediction(
        Estimate(value, value - low, value + high, line["level"]), "loss", "kept", kept.value
    )
