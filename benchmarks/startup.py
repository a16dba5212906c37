"""What a command costs before it works: processor and wall seconds beside those of bare imports.

Each line is a process of its own; the fewest of `--rounds` are shown, after one more round that
fills the caches (bytecode among them, in a folder of its own, as an installation has it).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import cache_folder
from synthetic import family

COMMAND = "from ftt_hub.cli.main import main; main()"


@dataclass(frozen=True)
class Cost:
    """Seconds of one process."""

    cpu: float
    wall: float


def run(code: str, words: Sequence[object], bytecode: Path) -> Cost:
    """Run Python code once.

    Raises:
        SystemExit: It failed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    command = [sys.executable, "-c", code, *map(str, words)]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"a measured command failed:\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, wall)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftt-hub-startup-") as folder:
        measure(Path(folder), options.rounds)


def measure(work: Path, rounds: int) -> None:
    """Make the adapters, run every line in turn, print."""
    pairs = {size: family(cache_folder(), size, 10**9) for size in ("tiny", "19M", "134M")}
    adapters = {size: work / size for size in pairs}
    bytecode, out = work / "bytecode", work / "out"
    for size, limit in (("tiny", ()), ("19M", ()), ("134M", ("--target-size", "10MB"))):
        words = ("extract", *pairs[size][:2], adapters[size], *limit)
        run(COMMAND, words, bytecode)
    stored = {
        size: (folder / "adapter_model.safetensors").stat().st_size / 1e6
        for size, folder in adapters.items()
    }
    lines: dict[str, tuple[str, tuple[object, ...]]] = {
        "python -c pass": ("pass", ()),
        "import numpy": ("import numpy", ()),
        "import torch": ("import torch", ()),
        "import transformers": ("import transformers", ()),
        "ftt-hub --help": (COMMAND, ("--help",)),
        "ftt-hub info": (COMMAND, ("info", adapters["tiny"])),
        "ftt-hub verify, integrity of a tiny one": (COMMAND, ("verify", adapters["tiny"])),
        "ftt-hub verify --target, tiny": (
            COMMAND,
            ("verify", adapters["tiny"], "--target", pairs["tiny"][2]),
        ),
        "ftt-hub extract, tiny pair": (COMMAND, ("extract", *pairs["tiny"][:2], out)),
    }
    for size, folder in adapters.items():
        label = f"ftt-hub apply, {stored[size]:.1f} MB on {size}"
        lines[label] = (COMMAND, ("apply", folder, "--target", pairs[size][2], "--out", out))
    best: dict[str, Cost] = {}
    for number in range(rounds + 1):
        for label, (code, words) in lines.items():
            found = run(code, words, bytecode)
            shutil.rmtree(out, ignore_errors=True)
            known = best.get(label, found)
            if number:
                best[label] = Cost(min(known.cpu, found.cpu), min(known.wall, found.wall))
    print(f"{'':44} {'processor s':>12} {'wall s':>8}")
    for label, cost in best.items():
        print(f"{label:44} {cost.cpu:12.2f} {cost.wall:8.2f}")


if __name__ == "__main__":
    main()
