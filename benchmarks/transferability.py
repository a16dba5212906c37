"""How well does each depth of `verify` predict what a transfer recovers?

Run from the repository: ``python benchmarks/transferability.py`` (minutes, two cores) or
``--large --model ID`` (a GPU). ``--write`` makes `ftt_hub/verdict/calibration.json`, from which
`verify` takes its thresholds. Every figure is printed with its interval.

For each seed, fine-tune and target: recovered share = (L(m_t) − L(m_t + Δ)) / (L(m_t) − L(FT(m_t)))
on held-out text of the task, against what each depth had said of the target. The first seed chooses
thresholds and bands, the second tests them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT)]

from scipy.stats import spearmanr  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402

import ftt_hub  # noqa: E402
from benchmarks.transfer_family import TASKS, Family, Settings  # noqa: E402
from ftt_hub.extraction.builder import Provenance  # noqa: E402
from ftt_hub.loss import measure, read_text  # noqa: E402
from ftt_hub.verdict.options import TextOptions  # noqa: E402
from ftt_hub.version import __version__  # noqa: E402

OUT = ROOT / "ftt_hub" / "verdict" / "calibration.json"
SEEDS = (0, 1)
TOKENS, WINDOW = 3000, 64
USEFUL = 0.5
LEVEL = 0.9
DRAWS = 2000

DEPTHS = {
    "sketch: distance": ("sketch_distance", -1),
    "sketch: cosine": ("sketch_cosine", 1),
    "sketch: sign agreement": ("sketch_signs", 1),
    "weights: distance": ("distance", -1),
    "weights: distance / Δ": ("relative_distance", -1),
    "weights: cos(Δ, m_t − m_s)": ("overlap", -1),
    "loss: gain at λ = 1": ("gain", 1),
    "loss: gain / gain at home": ("gain_at_home", 1),
    "loss: gain / (L(m_t) − L(m'_s))": ("kept", 1),
    "loss: best λ": ("best_scale", 1),
    "loss: barrier m_s + Δ to m_t + Δ": ("version_barrier", -1),
}
"""Label → figure, and whether a larger one promises more."""


@dataclass(frozen=True)
class Row:
    """One transfer: what was predicted from, and what it recovered."""

    seed: int
    target: str
    task: str
    recovered: float
    tuning_gain: float
    sketch_distance: float
    sketch_cosine: float
    sketch_signs: float
    distance: float
    relative_distance: float
    overlap: float
    gain: float
    gain_at_home: float
    kept: float
    best_scale: float
    version_barrier: float


def _loss(folder: Path, text: Path, family: Family) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(family.settings.device)
    held_out = read_text(text, family.tokenizer, tokens=TOKENS, window=WINDOW)
    return measure(model, held_out, where=folder.name).mean


def _row(family: Family, adapter: Any, target: tuple[str, Path], task: str) -> Row:
    name, folder = target
    text = family.held_out(task)
    options = TextOptions(text, TOKENS, WINDOW)
    exact = adapter.verify(folder, depth="weights", source_base=family.source, force=True)
    run = adapter.verify(folder, depth="loss", text=options, source_base=family.source, force=True)
    sketch, figures, loss = run.lineage.overall, exact.weights.figures, run.loss
    before = loss.curve.losses[0.0].mean
    tuned = _loss(family.tuned(folder, task), text, family)
    gain = loss.gain.value if loss.gain is not None else -math.inf
    relative = figures["distance"] / adapter.config.fidelity.relative_norm
    barrier = loss.version_barrier
    return Row(
        family.seed,
        name,
        task,
        gain / (before - tuned),
        before - tuned,
        sketch.distance.value,
        sketch.cosine.value,
        sketch.sign_agreement.value,
        figures["distance"],
        relative,
        figures["overlap"],
        gain,
        gain / loss.source_gain.value if loss.source_gain is not None else math.nan,
        loss.kept.value if loss.kept is not None else math.nan,
        loss.curve.best().value,
        barrier.value if barrier is not None else math.nan,
    )


def collect(root: Path, settings: Settings) -> list[Row]:
    """Train everything and measure every transfer."""
    rows = []
    for seed in SEEDS:
        family = Family(root, settings, seed)
        targets = family.targets()
        for task in TASKS:
            tuned = family.tuned(family.source, task)
            out = root / f"adapter{seed}-{task}"
            adapter = ftt_hub.extract(family.source, tuned, out, provenance=Provenance())
            for item in targets.items():
                rows.append(_row(family, adapter, item, task))
                print(f"  {asdict(rows[-1])}", file=sys.stderr, flush=True)
            adapter.close()
    return rows


def correlation(rows: list[Row], figure: str, sign: int) -> tuple[float, float, float]:
    """Spearman's ρ with the recovered share, and its interval.

    The bootstrap draws targets, not transfers: the three transfers onto one target are alike.
    """
    kept = [row for row in rows if math.isfinite(getattr(row, figure))]
    clusters: dict[tuple[int, str], list[Row]] = {}
    for row in kept:
        clusters.setdefault((row.seed, row.target), []).append(row)
    groups = list(clusters.values())

    def rho(chosen: list[Row]) -> float:
        values = [sign * getattr(row, figure) for row in chosen]
        return float(spearmanr(values, [row.recovered for row in chosen]).statistic)

    dice = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        picks = dice.integers(len(groups), size=len(groups))
        drawn.append(rho([row for pick in picks for row in groups[pick]]))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return rho(kept), float(low), float(high)


def threshold(rows: list[Row]) -> float:
    """The distance that parts useful transfers from the others best (balanced accuracy)."""
    values = sorted({row.sketch_distance for row in rows})
    middles = [math.sqrt(a * b) for a, b in pairwise(values)]
    return max(middles, key=lambda limit: accuracy(rows, limit))


def accuracy(rows: list[Row], limit: float) -> float:
    """Mean share of useful and of useless transfers that the threshold names rightly."""
    useful = [row.sketch_distance <= limit for row in rows if row.recovered >= USEFUL]
    useless = [row.sketch_distance > limit for row in rows if row.recovered < USEFUL]
    return float(np.mean([np.mean(part) for part in (useful, useless) if part]))


def _quantiles(values: list[float]) -> dict[str, float]:
    low, median, high = np.quantile(values, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    return {
        "median": float(median),
        "low": float(low),
        "high": float(high),
        "level": LEVEL,
        "count": len(values),
    }


def line(rows: list[Row]) -> dict[str, float]:
    """Recovered share as a line in the gain kept, with the band that holds 90%."""
    pairs = np.array([(r.kept, r.recovered) for r in rows if math.isfinite(r.kept)])
    slope, intercept = np.polyfit(pairs[:, 0], pairs[:, 1], 1)
    residuals = pairs[:, 1] - intercept - slope * pairs[:, 0]
    below, above = np.quantile(residuals, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "below": float(-below),
        "above": float(above),
        "level": LEVEL,
        "count": len(pairs),
    }


def calibrate(rows: list[Row], settings: Settings) -> dict[str, Any]:
    """Thresholds and bands from the first seed, tested on the second."""
    first, second = ([row for row in rows if row.seed == seed] for seed in SEEDS)
    limit, band = threshold(first), line(first)
    parts = {
        "near": [row.recovered for row in first if row.sketch_distance <= limit],
        "far": [row.recovered for row in first if row.sketch_distance > limit],
    }
    classes = {name: _quantiles(values) for name, values in parts.items()}

    def inside(row: Row) -> bool:
        held = classes["near" if row.sketch_distance <= limit else "far"]
        return bool(held["low"] <= row.recovered <= held["high"])

    def banded(row: Row) -> bool:
        value = band["intercept"] + band["slope"] * row.kept
        return bool(value - band["below"] <= row.recovered <= value + band["above"])

    table = {}
    for label, (figure, sign) in DEPTHS.items():
        value, low, high = correlation(rows, figure, sign)
        table[label] = {"spearman": value, "low": low, "high": high}
    return {
        "made_by": f"benchmarks/transferability.py, ftt-hub {__version__}",
        "family": {
            **asdict(settings),
            "model": settings.model or "Llama, 2 layers, hidden 96",
            "transfers": len(rows),
        },
        "distance": {
            "threshold": limit,
            "classes": classes,
            "useful_share": USEFUL,
            "accuracy": {"chosen_on": accuracy(first, limit), "tested_on": accuracy(second, limit)},
            "coverage": float(np.mean([inside(row) for row in second])),
        },
        "kept": {
            **band,
            "coverage": float(np.mean([banded(r) for r in second if math.isfinite(r.kept)])),
        },
        "correlations": table,
    }


def report(rows: list[Row], result: dict[str, Any]) -> str:
    """Markdown tables."""
    lines = [
        "| target | distance | cosine | recovered share, each fine-tune and seed |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.target for row in rows):
        mine = [row for row in rows if row.target == name]
        shares = ", ".join(f"{row.recovered:.2f}" for row in mine)
        distance, cosine = (
            np.mean([getattr(r, f) for r in mine]) for f in ("distance", "sketch_cosine")
        )
        lines.append(f"| {name} | {distance:.3f} | {cosine:.3f} | {shares} |")
    lines += ["", "| figure | Spearman ρ | 95% interval |", "|---|---|---|"]
    lines += [
        f"| {label} | {c['spearman']:.2f} | {c['low']:.2f} to {c['high']:.2f} |"
        for label, c in result["correlations"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print; write the calibration if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="a real model, on a GPU")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M", help="m_s of --large")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    given = parser.parse_args()
    settings = Settings()
    if given.large:
        settings = Settings(given.model, 0, 300, 5e-5, 16, 256, "cuda", 100)
    else:
        torch.set_num_threads(1)
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="forced in spite of")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = collect(Path(folder), settings)
    result = calibrate(rows, settings)
    print(report(rows, result))
    print(json.dumps(result, indent=2))
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    if given.write:
        OUT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
