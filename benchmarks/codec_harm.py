"""What a unit of noise power costs in loss, from `benchmarks/codecs.py`'s rows.

    python benchmarks/codec_harm.py RESULTS.json …

For every unbiased method: the loss above m_t + Δ divided by noise², noise being ‖Δ̂ − Δ‖/‖m_s‖;
then the ratio of rotated to stochastic rounding for rows whose noise is within a factor of two.
`HARM` in ftt_hub/codecs/lossy/rate.py is that ratio. In brackets 95% intervals by resampling
windows of text (the same for both rows) and seeds.
"""

from __future__ import annotations

import sys

import numpy as np
from codec_table import Seeds, read

UNBIASED = ("ours: stochastic", "ours: rotated", "DARE")
DRAWS = 2000


def cost(rows: Seeds, exact: np.ndarray, windows: np.ndarray, lots: np.random.Generator) -> float:
    """Loss increase over noise², on these windows and a resample of the seeds."""
    chosen = list(rows.values())
    chosen = [chosen[i] for i in lots.integers(0, len(chosen), len(chosen))]
    loss = np.mean([np.array(row["windows"])[windows] for row in chosen]) - exact[windows].mean()
    return float(loss / np.mean([row["noise"] ** 2 for row in chosen]))


def main() -> None:
    """Print both tables."""
    _, seeds = read(sys.argv[1:])
    exact = np.array(seeds["Δ itself"][0]["windows"])
    named = {name: rows for name, rows in seeds.items() if name.startswith(UNBIASED)}
    drawn: dict[str, list[float]] = {name: [] for name in named}
    everyone = np.arange(exact.size)
    for draw in range(DRAWS):
        windows = np.random.default_rng(draw).integers(0, exact.size, exact.size)
        lots = np.random.default_rng((draw, 1))
        for name, rows in named.items():
            drawn[name].append(cost(rows, exact, windows, lots))
    point, noise = {}, {}
    for name, rows in named.items():
        loss = np.mean([row["windows"] for row in rows.values()]) - exact.mean()
        noise[name] = float(np.mean([row["noise"] ** 2 for row in rows.values()])) ** 0.5
        point[name] = float(loss / noise[name] ** 2)
        low, high = np.quantile(drawn[name], (0.025, 0.975))
        print(
            f"{name}: noise {100 * noise[name]:.2f}%, loss {loss:+.4f}, "
            f"loss / noise² {point[name]:.1f} ({low:.1f}–{high:.1f}), {everyone.size} windows, "
            f"{len(rows)} seeds"
        )
    for left in (name for name in named if name.startswith("ours: rotated")):
        for right in (name for name in named if name.startswith("ours: stochastic")):
            if 0.5 <= noise[left] / noise[right] <= 2:
                ratios = np.array(drawn[left]) / np.array(drawn[right])
                low, high = np.quantile(ratios, (0.025, 0.975))
                print(f"{left} / {right}: {point[left] / point[right]:.2f} ({low:.2f}–{high:.2f})")


if __name__ == "__main__":
    main()
