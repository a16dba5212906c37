"""Each peer beside the best of ours that takes no more bits, from `benchmarks/codecs.py`'s rows.

    python benchmarks/codec_versus.py RESULTS.json …

Several files of the same models and text are taken together. The difference is our loss minus the
peer's, seeds averaged; ± is half of its 95% interval, from the windows of text, paired, and from
the spread of both sides' seeds. "Better" or "worse" is said where the interval does not hold zero.
The last column counts the pairs of seeds, one of ours and one of theirs, in which ours is better.
"""

from __future__ import annotations

import sys

import numpy as np
from codec_table import Seeds, read


def bits(rows: Seeds) -> float:
    """Mean bits per weight."""
    return float(np.mean([row["bits"] for row in rows.values()]))


def losses(rows: Seeds) -> np.ndarray:
    """Loss of each seed and window."""
    return np.array([row["windows"] for row in rows.values()])


def seed_variance(each: np.ndarray) -> float:
    """Variance of the mean over seeds that comes from their draw; none with a single one."""
    return float(each.mean(1).var(ddof=1)) / len(each) if len(each) > 1 else 0.0


def main() -> None:
    """Print the table."""
    _, seeds = read(sys.argv[1:])
    ours = {name: rows for name, rows in seeds.items() if name.startswith("ours: ")}
    print(
        "| peer | bits/weight | `quantized`, the best at no more | bits/weight "
        "| loss, ours − peer's | verdict | better in |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, rows in seeds.items():
        if name in ours or name == "Δ itself":
            continue
        allowed = {mine: r for mine, r in ours.items() if bits(r) <= bits(rows)}
        if not allowed:
            print(f"| {name} | {bits(rows):.4g} | none measured | | | | |")
            continue
        best = min(allowed, key=lambda mine: float(losses(allowed[mine]).mean()))
        left, right = losses(allowed[best]), losses(rows)
        windows = left.mean(0) - right.mean(0)
        variance = float(windows.var(ddof=1)) / windows.size
        half = 1.96 * (variance + seed_variance(left) + seed_variance(right)) ** 0.5
        difference = float(windows.mean())
        verdict = "better" if difference < -half else "worse" if difference > half else "–"
        pairs = np.subtract.outer(left.mean(1), right.mean(1)) < 0
        print(
            f"| {name} | {bits(rows):.4g} | {best.removeprefix('ours: ')} "
            f"| {bits(allowed[best]):.4g} | {difference:+.4f} ± {half:.4f} "
            f"| {verdict.replace('–', 'not separable')} | {pairs.sum()} of {pairs.size} |"
        )


if __name__ == "__main__":
    main()
