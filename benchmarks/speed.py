"""How fast Δ is extracted, and decoded and added: by threads, with and without compiled code.

    python benchmarks/speed.py [--model 134M|1.1B] [--models SOURCE TUNED TARGET] [--repeat 3]
                               [--residuals VENV]

All sides are run in turn, in one run. `extract` is `ftt-hub extract` in a process of its own, start
and writing included; `residuals` is the extraction of that package, in bf16, in a virtual
environment that has it (it saves the tokenizer too, so that it needs --models with one).
`decode + add` is m_t + Δ a block at a time with nothing kept or written: frames and target come
from the page cache, frames are checked against their hashes, sums against overflow; once for the
exact adapter, once for one of 0.1 bit a weight. MB are those of the fine-tuned or target weights;
processor time is shown because the wall time of two threads means nothing on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from measure import Run, alternate, cache_folder, run
from synthetic import SIZES, family

from ftt_hub import kernels
from ftt_hub.registry.open import open_adapter
from ftt_hub.support.parallel import map_unordered
from ftt_hub.tensors import torch_delta
from ftt_hub.transfer.assemble import Assembler, ranges
from ftt_hub.transfer.plan import TensorPlan
from ftt_hub.transfer.prepare import prepared

COMMAND = "from ftt_hub.cli.main import main; main()"
SHARDS = {"134M": 200_000_000, "1.1B": 500_000_000}
COMPILED, PURE = "compiled", "NumPy only"
RESIDUALS = """
import sys, torch
from residuals import Residuals
base, tuned, out = sys.argv[1:]
made = Residuals.from_models(
    base_model=base, instruct_model=tuned, dtype=torch.bfloat16, instruct_tokenizer_name=tuned
)
made.save_pretrained(out)
"""


@contextlib.contextmanager
def loops(kind: str) -> Iterator[None]:
    """Compiled code or none, in this process and in those it starts."""
    before = kernels.COMPILED
    try:
        if kind == PURE:
            kernels.COMPILED = None
            os.environ["FTT_HUB_PURE_PYTHON"] = "1"
        yield
    finally:
        kernels.COMPILED = before
        os.environ.pop("FTT_HUB_PURE_PYTHON", None)


def extract(source: Path, tuned: Path, out: Path, kind: str, *options: object) -> Run:
    """One extraction, its output left there."""
    shutil.rmtree(out, ignore_errors=True)
    with loops(kind):
        return run(COMMAND, "extract", source, tuned, out, *options)


def residuals(venv: Path, source: Path, tuned: Path, out: Path) -> Run:
    """The same by the package residuals."""
    shutil.rmtree(out, ignore_errors=True)
    words = [venv / "bin" / "python", "-c", RESIDUALS, source, tuned, out]
    before, begin = os.times(), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    wall, after = time.perf_counter() - begin, os.times()
    used = after.children_user + after.children_system
    return Run(wall, used - before.children_user - before.children_system, 0)


def add_all(adapter: Path, target: Path, threads: int, kind: str) -> Run:
    """m_t + Δ, every tensor once."""
    with loops(kind), open_adapter(adapter) as opened, prepared(opened, target) as ready:
        assembler = Assembler(ready.checkpoint.read_bits, opened.container, add=torch_delta.add)
        parts = [(p, *part) for p in ready.plan.tensors.values() for part in ranges(p)]
        parts.sort(key=lambda part: -part[2])

        def one(part: tuple[TensorPlan, int, int]) -> int:
            return assembler.bits(*part).nbytes

        begin, used = time.perf_counter(), time.process_time()
        sum(map_unordered(one, parts, threads))
        return Run(time.perf_counter() - begin, time.process_time() - used, 0)


def show(results: dict[str, list[Run]], megabytes: float) -> None:
    """A line for each side: the medians."""
    for name, runs in results.items():
        wall, cpu = statistics.median(r.wall for r in runs), statistics.median(r.cpu for r in runs)
        peak = max(r.peak for r in runs)
        print(
            f"{name:44} {wall:7.2f} {cpu:7.2f} {megabytes / wall:7.0f} {peak or '':>9}", flush=True
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=SIZES, default="134M")
    parser.add_argument("--models", type=Path, nargs=3, metavar=("SOURCE", "TUNED", "TARGET"))
    parser.add_argument("--residuals", type=Path, metavar="VENV")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if kernels.COMPILED is None:
        sys.exit("there is no compiled code here: nothing to compare")
    models = options.models or family(cache_folder(), options.model, SHARDS[options.model])
    source, tuned, target = models
    weights = sum(p.stat().st_size for p in tuned.glob("*.safetensors")) / 1e6
    exact, small = (cache_folder() / f"speed-{name}" for name in ("exact", "small"))
    print(f"{weights:.0f} MB of bf16, medians of {options.repeat}")
    print(f"{'':44} {'wall s':>7} {'cpu s':>7} {'MB/s':>7} {'peak MB':>9}")
    sides: dict[str, Callable[[], Run]] = {
        f"extract, {kind}, {threads} threads": partial(
            extract, source, tuned, exact, kind, "--workers", threads
        )
        for kind in (COMPILED, PURE)
        for threads in (1, 2)
    }
    if options.residuals:
        out = cache_folder() / "speed-residuals"
        sides["residuals: extract"] = partial(residuals, options.residuals, source, tuned, out)
    show(alternate(sides, options.repeat), weights)
    bits = partial(extract, source, tuned, small, COMPILED, "--bits", 0.1)
    show(alternate({"extract --bits 0.1, compiled, 2 threads": bits}, 1), weights)
    sides = {
        f"decode + add, {name}, {kind}, {threads} threads": partial(
            add_all, adapter, target, threads, kind
        )
        for name, adapter in (("exact", exact), ("0.1 bit", small))
        for kind in (COMPILED, PURE)
        for threads in (1, 2)
    }
    show(alternate(sides, options.repeat), weights)
    for path in cache_folder().glob("speed-*"):
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
