"""How extracting, and decoding with adding, grow with threads: 1 and 2, on the same model.

    python benchmarks/speed.py [--model 134M|1.1B] [--repeat 3]

`extract` is `ftt-hub extract --codec exact` in a process of its own, start and writing included.
`decode + add` is m_t + Δ a block at a time with nothing kept or written: frames and target come
from the page cache, frames are checked against their hashes, sums against overflow. MB and GB are
those of the fine-tuned or target weights; processor time is shown because the wall time of two
threads means nothing on a busy machine.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from measure import cache_folder, run
from synthetic import SIZES, family

from ftt_hub import torch_sum
from ftt_hub.adapter import open_adapter
from ftt_hub.assembly import Assembler, ranges
from ftt_hub.parallel import map_unordered
from ftt_hub.preparation import prepared
from ftt_hub.transfer import TensorPlan

COMMAND = "from ftt_hub.cli.main import main; main()"
SHARDS = {"134M": 200_000_000, "1.1B": 500_000_000}


def add_all(adapter: Path, target: Path, threads: int) -> tuple[float, float, int]:
    """Wall and processor seconds of m_t + Δ, and its bytes."""
    with open_adapter(adapter) as opened, prepared(opened, target) as ready:
        assembler = Assembler(ready.checkpoint.read_bits, opened.container, add=torch_sum.add)
        parts = [(p, *part) for p in ready.plan.tensors.values() for part in ranges(p)]
        parts.sort(key=lambda part: -part[2])

        def one(part: tuple[TensorPlan, int, int]) -> int:
            return assembler.bits(*part).nbytes

        begin, used = time.perf_counter(), time.process_time()
        total = sum(map_unordered(one, parts, threads))
        return time.perf_counter() - begin, time.process_time() - used, total


def main() -> None:
    """Print a line for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=SIZES, default="134M")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    source, tuned, target = family(cache_folder(), options.model, SHARDS[options.model])
    weights = sum(p.stat().st_size for p in tuned.glob("*.safetensors"))
    adapter = cache_folder() / "speed-adapter"
    print(f"{options.model}, {weights / 1e6:.0f} MB of bf16, best of {options.repeat}")
    print(f"{'':14} threads  wall s   cpu s   MB/s   peak MB")
    for threads in (1, 2):
        runs = []
        for _ in range(options.repeat):
            shutil.rmtree(adapter, ignore_errors=True)
            runs.append(run(COMMAND, "extract", source, tuned, adapter, "--workers", threads))
        wall, cpu = min(r.wall for r in runs), min(r.cpu for r in runs)
        print(
            f"{'extract':14} {threads:7} {wall:7.2f} {cpu:7.2f} {weights / 1e6 / wall:6.0f}"
            f" {max(r.peak for r in runs):9}"
        )
    for threads in (1, 2):
        times = [add_all(adapter, target, threads) for _ in range(options.repeat + 1)][1:]
        wall, cpu, total = (min(column) for column in zip(*times, strict=True))
        print(f"{'decode + add':14} {threads:7} {wall:7.2f} {cpu:7.2f} {total / 1e6 / wall:6.0f}")
    shutil.rmtree(adapter)


if __name__ == "__main__":
    main()
