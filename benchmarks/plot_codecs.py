"""Plots of what `benchmarks/codecs.py` measured: plot_codecs.py RESULTS.json … FOLDER."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

FAMILIES = {
    "ours: stochastic": ("p-", "quantized, stochastic"),
    "ours: rotated": ("o-", "quantized, rotated"),
    "ours: nearest": ("s-", "quantized, nearest"),
    "DARE": ("v--", "DARE"),
    "SVD": ("^--", "SVD"),
    "mixed-precision SVD": ("<", "mixed-precision SVD"),
    "BitDelta": ("D", "BitDelta"),
    "T-Switch": ("P", "T-Switch"),
    "int4": ("X", "int4, groups of 64"),
}


def rows_of(results: dict[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """Family → (bits, relative error, mean loss), seeds averaged, by bits."""
    merged: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in results["lossy"]:
        merged[row["what"]].append(row)
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for name, rows in merged.items():
        for family in FAMILIES:
            if name.startswith(family):
                point = [np.mean([r[k] for r in rows]) for k in ("bits", "relative_error")]
                found[family].append((*point, np.mean([r["windows"] for r in rows])))
    return {family: sorted(points) for family, points in found.items()}


def main() -> None:
    """Draw both plots."""
    *files, out = (Path(given) for given in sys.argv[1:])
    results = json.loads(files[0].read_text(encoding="utf-8"))
    for more in files[1:]:
        results["lossy"] += json.loads(more.read_text(encoding="utf-8"))["lossy"]
    exact = np.mean(next(r["windows"] for r in results["lossy"] if r["what"] == "Δ itself"))
    for column, label, name in (
        (2, "loss of m_t + Δ̂ above m_t + Δ, nats (0.001: or less)", "codecs-loss.png"),
        (1, "relative error ‖Δ̂ − Δ‖ / ‖Δ‖", "codecs-error.png"),
    ):
        figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
        for family, points in rows_of(results).items():
            style, text = FAMILIES[family]
            shift = exact if column == 2 else 0.0
            axes.plot(
                [p[0] for p in points],
                [max(p[column] - shift, 1e-3) for p in points],
                style,
                label=text,
            )
        if column == 1:
            bits = np.geomspace(0.05, 4.5, 50)
            axes.plot(bits, 2.0**-bits, "k:", label="bound of a Gaussian of one variance")
        else:
            worst = np.mean(results["target"]) - exact
            axes.axhline(worst, color="0.6", lw=1)
            axes.text(0.5, worst * 0.9, "m_t without Δ", va="top", color="0.4")
        axes.set(xscale="log", yscale="log", xlabel="bits a weight", ylabel=label)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        figure.savefig(out / name, dpi=110)


if __name__ == "__main__":
    main()
