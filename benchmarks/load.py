"""Loading m_t + Δ against loading m_t alone and against today's ways, each in its own process.

    python benchmarks/load.py [--model 134M|1.1B] [--repeat 3] [--threads 2] [--mergekit VENV]

Sides: `plain` is transformers' from_pretrained(target); `transfer` is AutoTransferModel;
`native` is from_pretrained(target) and load_adapter; `live` is from_pretrained(target) and
apply_to; `three models` is how it is done by hand; `mergekit` writes the merged model with the
mergekit of a virtual environment (`--mergekit`, or the variable MERGEKIT_VENV) and loads it.

Seconds are those of the call, of the call until every weight has been read once (a plain load only
maps them), of the processor in the call, and of the first forward pass after that (16 tokens, the
second of two); memory is the peak of anonymous pages, less what the imports took.

The models (7 GB for 1.1B) and the adapter are made on the first run and kept; the page cache is
warm from the round before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from measure import cache_folder
from synthetic import SIZES, family

import ftt_hub

SIDES = ("plain", "transfer", "native", "live", "three models", "mergekit")
SHARDS = {"134M": 200_000_000, "1.1B": 500_000_000}
REPEATS = {"134M": 3, "1.1B": 2}


def made(model: str) -> Path:
    """The folder of `source`, `tuned`, `target` and `adapter`, made on the first call and kept."""
    source, tuned, _ = family(cache_folder(), model, SHARDS[model])
    if not (source.parent / "adapter" / "adapter_config.json").is_file():
        ftt_hub.extract(source, tuned, source.parent / "adapter")
    return source.parent


class Watch(threading.Thread):
    """Peak of the anonymous memory of this process, or of the one it waits for."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.watched: str | int = "self"
        self.peak = 0

    def now(self) -> int:
        """Anonymous bytes now; 0 when the process has ended."""
        try:
            lines = Path(f"/proc/{self.watched}/status").read_text().splitlines()
        except OSError:
            return 0
        return 1024 * next((int(x.split()[1]) for x in lines if x.startswith("RssAnon")), 0)

    def run(self) -> None:
        """Look every few milliseconds."""
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.004)


def mergekit(venv: Path, root: Path, out: Path, watch: Watch) -> None:
    """Write m_t + m'_s − m_s with mergekit.

    What the environment lacks (torch, transformers) is taken from the one that runs this.
    """
    models = [(root / "target", 1.0), (root / "tuned", 1.0), (root / "source", -1.0)]
    recipe = {
        "merge_method": "linear",
        "dtype": "bfloat16",
        "parameters": {"normalize": False},
        "models": [{"model": str(m), "parameters": {"weight": w}} for m, w in models],
    }
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(recipe))  # JSON is YAML
    packages = [p for p in sys.path if p.endswith("site-packages")]
    command = [venv / "bin" / "python", "-m", "mergekit.scripts.run_yaml", path, out]
    process = subprocess.Popen(
        [*map(str, command), "--no-copy-tokenizer"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(packages)},
    )
    watch.watched = process.pid
    _, log = process.communicate()
    watch.watched = "self"
    if process.returncode:
        raise SystemExit(f"mergekit failed:\n{log[-2000:]}")


def load(side: str, root: Path, work: Path, watch: Watch, venv: Path | None) -> Any:
    """One side's way of getting m_t + Δ (m_t for the plain side)."""
    from transformers import AutoModelForCausalLM

    target, adapter = root / "target", root / "adapter"
    if side == "transfer":
        auto = ftt_hub.AutoTransferModelForCausalLM
        return auto.from_pretrained(adapter, base_model=target)
    if side == "mergekit" and venv is not None:
        mergekit(venv, root, work / "merged", watch)
        target = work / "merged"
    model = AutoModelForCausalLM.from_pretrained(target)
    if side == "native":
        model.load_adapter(str(adapter))
    elif side == "live":
        ftt_hub.TransferAdapter.from_pretrained(adapter).apply_to(model)
    elif side == "three models":
        tuned, source = (
            AutoModelForCausalLM.from_pretrained(root / x) for x in ("tuned", "source")
        )
        ours, theirs = dict(tuned.named_parameters()), dict(source.named_parameters())
        for name, p in model.named_parameters():
            p.data = (p.data.float() + (ours[name].data.float() - theirs[name].data.float())).to(
                p.dtype
            )
    return model


def measure(side: str, root: Path, threads: int, venv: Path | None) -> dict[str, float]:
    """Run in a process of its own."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    _ = ftt_hub.AutoTransferModelForCausalLM, transformers.AutoModelForCausalLM
    _ = transformers.LlamaForCausalLM
    watch = Watch()
    before = watch.now()
    watch.start()
    with tempfile.TemporaryDirectory(dir=root) as work:
        begin, used = time.perf_counter(), os.times()
        model = load(side, root, Path(work), watch, venv)
        loaded, spent = time.perf_counter(), os.times()
        for p in model.parameters():
            p.detach().view(-1).view(torch.int16).max()
        touched = time.perf_counter()
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        model(tokens)
        start = time.perf_counter()
        model(tokens)
        first = time.perf_counter() - start
    return {
        "load": loaded - begin,
        "touched": touched - begin,
        "cpu": sum(spent[:4]) - sum(used[:4]),
        "peak": watch.peak - before,
        "forward": first,
    }


def run(side: str, root: Path, options: argparse.Namespace) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--side", side, "--root", str(root)]
    command += ["--threads", str(options.threads)]
    command += ["--mergekit", str(options.mergekit)] if options.mergekit else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(side: str, r: dict[str, float], plain: dict[str, float], weights: int) -> str:
    """A row of the table."""
    return (
        f"{side:13} {r['load']:6.2f} {r['touched']:10.2f} {r['touched'] / plain['touched']:8.2f}"
        f" {r['cpu']:7.2f} {r['peak'] / 1e6:8.0f} {r['peak'] / weights:10.2f}"
        f" {1e3 * r['forward']:11.1f}"
    )


def main() -> None:
    """Make the models, run every side in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=SIZES, default="134M")
    parser.add_argument("--repeat", type=int, help="default 3, for 1.1B 2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument(
        "--mergekit",
        type=Path,
        default=os.environ.get("MERGEKIT_VENV"),
        metavar="VENV",
        help="virtual environment that holds mergekit",
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        venv = None if options.mergekit is None else Path(options.mergekit)
        print(json.dumps(measure(options.side, options.root, options.threads, venv)))
        return
    root = made(options.model)
    weights = sum(p.stat().st_size for p in (root / "target").glob("*.safetensors"))
    sides = ["plain", *(s for s in options.sides if s != "plain")]
    if options.mergekit is None and "mergekit" in sides:
        sides.remove("mergekit")
        print("mergekit is left out: name an environment that has it with --mergekit")
    best: dict[str, dict[str, float]] = {}
    repeat = options.repeat or REPEATS[options.model]
    for number in range(repeat):
        for side in sides:
            print(f"round {number + 1} of {repeat}: {side}", file=sys.stderr, flush=True)
            found = run(side, root, options)
            held = best.setdefault(side, found)
            best[side] = {key: min(held[key], found[key]) for key in found}
    print(f"{options.model}, {weights / 1e6:.0f} MB of bf16, {options.threads} threads,")
    print(f"best of {repeat}; × plain is of the seconds until all is touched")
    print("side          load s  touched s  × plain   cpu s  peak MB  × weights  forward ms")
    for side, r in best.items():
        print(line(side, r, best["plain"], weights))


if __name__ == "__main__":
    main()
