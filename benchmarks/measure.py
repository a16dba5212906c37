"""Running a command and reading its wall time, CPU time and peak resident memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_WRAPPER = (
    "import atexit, pathlib, resource, runpy, sys\n"
    "def _report():\n"
    "    status = pathlib.Path('/proc/self/status').read_text()\n"
    "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
    "    peak = int(status.split('VmHWM:')[1].split()[0]) // 1024\n"
    "    print('MEASURED', usage.ru_utime + usage.ru_stime, peak, file=sys.stderr)\n"
    "atexit.register(_report)\n"
)


def cache_folder() -> Path:
    """Where benchmarks keep their models: `FTT_HUB_BENCH_CACHE`, else the user's cache."""
    root = os.environ.get("FTT_HUB_BENCH_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(root) if root else home / "ftt-hub" / "bench"


@dataclass(frozen=True)
class Run:
    """One run: wall seconds, CPU seconds, peak resident MB."""

    wall: float
    cpu: float
    peak: int


def run(code: str, *arguments: object) -> Run:
    """Run Python code in a process of its own; raises when it fails."""
    words = [sys.executable, "-c", _WRAPPER + code, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"a measured command failed:\n{done.stderr}")
    _, cpu, peak = next(
        line for line in done.stderr.splitlines() if line.startswith("MEASURED")
    ).split()
    return Run(wall, float(cpu), int(peak))


def alternate(sides: dict[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Run the sides in turn, A B A B …, so that a change in the machine's speed hits both."""
    results: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            found = side()
            if number:  # the first round warms the page cache
                results[name].append(found)
    return results


def print_table(results: dict[str, list[Run]], reference: str) -> None:
    """Medians, and the ratio to the reference pair by pair."""
    print(f"{'':46} {'wall s':>8} {'cpu s':>8} {'peak MB':>8}   wall ratio (median, min–max)")
    base = results[reference]
    for name, runs in results.items():
        ratios = [mine.wall / theirs.wall for mine, theirs in zip(runs, base, strict=True)]
        print(
            f"{name:46} {_median(r.wall for r in runs):8.2f} {_median(r.cpu for r in runs):8.2f} "
            f"{max(r.peak for r in runs):8}   {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}–{max(ratios):.2f})"
        )


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
