"""Plots of what `benchmarks/codecs.py` measured: plot_codecs.py RESULTS.json … FOLDER.

Each file with losses is a panel of codecs-loss.png and codecs-error.png; the first file with
lossless sizes makes codecs-speed.png.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

FAMILIES = {
    "ours: stochastic": ("p-", "quantized, stochastic"),
    "ours: rotated": ("o-", "quantized, rotated"),
    "ours: nearest": ("s-", "quantized, nearest"),
    "DARE": ("v--", "DARE"),
    "SVD": ("^--", "SVD"),
    "mixed-precision SVD": ("<", "Delta-CoMe"),
    "BitDelta": ("D", "BitDelta"),
    "T-Switch": ("P", "T-Switch"),
    "FlexSwitch": ("*", "FlexSwitch"),
    "int4": ("X", "int4, groups of 64"),
}
COLOURS = {family: f"C{number}" for number, family in enumerate(FAMILIES)}
LOSS = ("codecs-loss.png", "loss of m_t + Δ̂ above m_t + Δ, nats (0.001: or less)")
ERROR = ("codecs-error.png", "relative error ‖Δ̂ − Δ‖ / ‖Δ‖")
SPEED = ("codecs-speed.png", "MB of bf16 weights a second of processor time")
Panel = dict[str, list[tuple[float, float, float]]]


def rows_of(results: dict[str, Any]) -> Panel:
    """Family → (bits, relative error, mean loss), seeds averaged, by bits."""
    merged: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in results["lossy"]:
        merged[row["what"]].append(row)
    found: Panel = defaultdict(list)
    for name, rows in merged.items():
        for family in FAMILIES:
            if name.startswith(family):
                point = [np.mean([r[k] for r in rows]) for k in ("bits", "relative_error")]
                found[family].append((*point, np.mean([r["windows"] for r in rows])))
    return {family: sorted(points) for family, points in found.items()}


def size_of(results: dict[str, Any]) -> float:
    """‖Δ‖/‖m‖: the noise of a method over its relative error."""
    row = next(row for row in results["lossy"] if row["relative_error"])
    return float(row["noise"] / row["relative_error"])


def losses(axes: Any, results: dict[str, Any]) -> None:
    """Loss against bits."""
    exact = np.mean(next(r["windows"] for r in results["lossy"] if r["what"] == "Δ itself"))
    for family, points in rows_of(results).items():
        style, text = FAMILIES[family]
        above = [max(p[2] - exact, 1e-3) for p in points]
        axes.plot([p[0] for p in points], above, style, label=text, color=COLOURS[family])
    worst = np.mean(results["target"]) - exact
    axes.axhline(worst, color="0.6", lw=1)
    axes.text(0.03, worst * 0.93, "m_t without Δ", va="top", color="0.4")


def errors(axes: Any, results: dict[str, Any]) -> None:
    """Relative error against bits."""
    for family, points in rows_of(results).items():
        style, text = FAMILIES[family]
        relative = [p[1] for p in points]
        axes.plot([p[0] for p in points], relative, style, label=text, color=COLOURS[family])
    bits = np.geomspace(0.03, 4.5, 50)
    axes.plot(bits, 2.0**-bits, "k:", label="bound of a Gaussian of one variance")


def speeds(results: dict[str, Any], out: Path) -> None:
    """Speed against size of the lossless forms."""
    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for key, mark, text in (("encode_MB_s", "o", "encode"), ("decode_MB_s", "s", "decode")):
        rows = [row for row in results["lossless"] if row[key]]
        axes.plot([r["bits"] for r in rows], [r[key] for r in rows], mark, label=text)
        for row in rows:
            axes.annotate(
                row["what"].removeprefix("ours: ").split(",")[0],
                (row["bits"], row[key]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=8,
            )
    axes.set(yscale="log", xlabel="bits per weight", ylabel=SPEED[1], xlim=(1.5, 14))
    axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(out / SPEED[0], dpi=110)


def main() -> None:
    """Draw all plots."""
    *files, out = (Path(given) for given in sys.argv[1:])
    read = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    panels = [results for results in read if "target" in results and results["lossy"]]
    for (name, label), draw in ((LOSS, losses), (ERROR, errors)):
        figure, row = plt.subplots(
            1, len(panels), figsize=(6 * len(panels), 4.8), sharey=True, constrained_layout=True
        )
        for axes, results in zip(np.atleast_1d(row), panels, strict=True):
            draw(axes, results)
            axes.set(xscale="log", yscale="log", xlabel="bits per weight", xlim=(0.025, 6))
            axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
            axes.set_title(f"‖Δ‖/‖m‖ = {size_of(results):.2g}", fontsize=10)
            axes.grid(alpha=0.3)
        np.atleast_1d(row)[0].set_ylabel(label)
        entries = {  # of all panels, each once
            text: line
            for axes in np.atleast_1d(row)
            for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=4, fontsize=8
        )
        figure.savefig(out / name, dpi=110)
    for results in (results for results in read if "lossless" in results):
        speeds(results, out)
        break


if __name__ == "__main__":
    main()
