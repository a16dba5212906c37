"""A Markdown table of what `benchmarks/codecs.py` measured.

    python benchmarks/codec_table.py RESULTS.json …

Several files of the same models and text are taken together. The loss of a method that draws lots
is averaged over its seeds; ± is half of a 95% interval of the difference to m_t + Δ, paired by
windows of text.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

Results = dict[str, Any]
Seeds = dict[int, dict[str, Any]]


def read(names: list[str]) -> tuple[list[Results], dict[str, Seeds]]:
    """The files, and all their rows: what → seed → row."""
    files = [json.loads(Path(name).read_text(encoding="utf-8")) for name in names]
    seeds: dict[str, Seeds] = defaultdict(dict)
    for row in (row for results in files for row in results["lossy"]):
        seeds[row["what"]][row["seed"]] = row
    return files, seeds


def main() -> None:
    """Print it."""
    files, seeds = read(sys.argv[1:])
    exact = np.array(seeds["Δ itself"][0]["windows"])
    gain = float(np.mean(files[0]["target"]) - exact.mean())
    print(
        f"m_t {np.mean(files[0]['target']):.4f}, m_t + Δ {exact.mean():.4f}; {exact.size} windows\n"
    )
    print("| what | bits/weight | rel-err | noise | loss above m_t + Δ | gain kept | seeds |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in seeds.items():
        each = list(rows.values())
        difference = np.mean([row["windows"] for row in each], 0) - exact
        error = 1.96 * float(difference.std(ddof=1)) / difference.size**0.5
        bits, relative, noise = (
            float(np.mean([row[key] for row in each]))
            for key in ("bits", "relative_error", "noise")
        )
        kept = [100 * (1 - float((row["windows"] - exact).mean()) / gain) for row in each]
        spread = f" ({min(kept):.1f}–{max(kept):.1f})" if len(kept) > 1 else ""
        print(
            f"| {name} | {bits:.3g} | {relative:.3g} | {100 * noise:.2f}% "
            f"| {float(difference.mean()):+.4f} ± {error:.4f} "
            f"| {np.mean(kept):.1f}%{spread} | {len(each)} |"
        )


if __name__ == "__main__":
    main()
