"""`ftt-hub convert to-lora` against mergekit-extract-lora: rank 64, the same pair, in one run.

mergekit wants an environment of its own: `python -m venv --system-site-packages DIR`, then
`DIR/bin/pip install --no-deps mergekit pydantic …`; name its Python with `--mergekit`. Without it
the baseline is mergekit's algorithm written down: a full SVD of every linear layer, no file read.
Ours starts from the transfer adapter, which has to be made once (its time is printed).
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
from pathlib import Path

import torch
from measure import cache_folder
from safetensors.torch import load_file
from synthetic import family

COMMAND = "from ftt_hub.cli.main import main; main()"
MERGEKIT = "from mergekit.scripts.extract_lora import main; main()"
FULL_SVD = """
import glob, os, sys, torch
from safetensors.torch import load_file, save_file
source, tuned, out, rank = *sys.argv[1:4], int(sys.argv[4])
def read(folder):
    return {n: t for f in sorted(glob.glob(folder + '/*.safetensors')) for n, t in load_file(f).items()}
s, t = read(source), read(tuned)
made = {}
for name in t:
    if not name.endswith('proj.weight'):
        continue
    u, v, w = torch.linalg.svd((t[name] - s[name]).float(), full_matrices=False)
    root, key = v[:rank].sqrt(), 'base_model.model.' + name.removesuffix('.weight')
    made[key + '.lora_A.weight'] = (root[:, None] * w[:rank]).bfloat16().contiguous()
    made[key + '.lora_B.weight'] = (u[:, :rank] * root).bfloat16().contiguous()
os.makedirs(out)
save_file(made, out + '/adapter_model.safetensors')
"""  # noqa: E501


def timed(python: str, code: str, *words: object, path: str | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = {**os.environ, **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(
        [python, "-c", code, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"a measured command failed:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def error_of(lora: Path, source: Path, tuned: Path) -> tuple[float, int]:
    """‖Δ − BA‖/‖Δ‖ over the layers of a LoRA file as stored, and how many they are."""
    first, second = (
        {n: t for f in sorted(p.glob("*.safetensors")) for n, t in load_file(f).items()}
        for p in (source, tuned)
    )
    held = load_file(lora / "adapter_model.safetensors")
    residual = square = 0.0
    names = [n for n in held if n.endswith(".lora_A.weight")]
    for name in names:
        key = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        change = second[key].float() - first[key].float()
        product = held[name.replace("lora_A", "lora_B")].float() @ held[name].float()
        residual += float((change - product).double().square().sum())
        square += float(change.double().square().sum())
    return (residual / square) ** 0.5, len(names)


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--mergekit", help="Python of an environment with mergekit")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    source, tuned, _ = family(cache_folder(), "134M", 200 << 20)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        adapter = root / "adapter"
        wall, _ = timed(sys.executable, COMMAND, "extract", source, tuned, adapter)
        print(f"making the transfer adapter, once: {wall:.1f} s")
        site = str(Path(torch.__file__).parent.parent)
        best: dict[str, tuple[float, float]] = {}
        for _round in range(arguments.rounds):
            for name in ("theirs", "ours"):
                out = root / name
                shutil.rmtree(out, ignore_errors=True)
                if name == "ours":
                    words = ["convert", "to-lora", adapter, out, "--rank", arguments.rank]
                    found = timed(sys.executable, COMMAND, *words)
                elif arguments.mergekit:
                    words = ["--model", tuned, "--base-model", source, "--out-path", out]
                    words += ["--max-rank", arguments.rank, "--skip-undecomposable"]
                    found = timed(arguments.mergekit, MERGEKIT, *words, path=site)
                else:
                    found = timed(sys.executable, FULL_SVD, source, tuned, out, arguments.rank)
                best[name] = min(best.get(name, found), found)
        labels = {
            "theirs": "mergekit-extract-lora" if arguments.mergekit else "full SVD",
            "ours": "ftt-hub convert to-lora",
        }
        print(f"{'':26} {'wall s':>8} {'cpu s':>8} {'layers':>7} {'error':>10}")
        for name, (seconds, cpu) in best.items():
            error, layers = error_of(root / name, source, tuned)
            print(f"{labels[name]:26} {seconds:8.2f} {cpu:8.2f} {layers:7} {error:10.7f}")
        ours, theirs = best["ours"], best["theirs"]
        print(f"ours / theirs: wall {ours[0] / theirs[0]:.2f}, cpu {ours[1] / theirs[1]:.2f}")


if __name__ == "__main__":
    main()
