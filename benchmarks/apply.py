"""`ftt-hub apply` against the naive loop: safetensors, a tensor at a time, writing the same bytes.

The naive loop gets Δ as a plain bf16 safetensors file: nothing to decode, but 4 × the size.
"""

from __future__ import annotations

import argparse
import shutil

from measure import Run, alternate, cache_folder, print_table, run
from synthetic import family

NAIVE_DELTA = """
import sys
from safetensors import safe_open
from safetensors.torch import save_file
source, tuned, out = sys.argv[1:]
import glob
def tensors(folder):
    for file in sorted(glob.glob(folder + '/*.safetensors')):
        with safe_open(file, 'pt') as f:
            for name in f.keys():
                yield name, f.get_tensor(name)
base = dict(tensors(source))
save_file({n: t - base[n] for n, t in tensors(tuned)}, out)
"""

NAIVE_APPLY = """
import sys, os, glob
from safetensors import safe_open
from safetensors.torch import save_file
target, delta, out = sys.argv[1:]
os.makedirs(out)
with safe_open(delta, 'pt') as d:
    for file in sorted(glob.glob(target + '/*.safetensors')):
        with safe_open(file, 'pt') as f:
            result = {name: f.get_tensor(name) + d.get_tensor(name) for name in f.keys()}
        save_file(result, os.path.join(out, os.path.basename(file)), metadata={'format': 'pt'})
"""

NAIVE_END_TO_END = """
import sys, os, glob
from safetensors import safe_open
from safetensors.torch import save_file
source, tuned, target, out = sys.argv[1:]
os.makedirs(out)
def files(folder):
    return {n: f for file in sorted(glob.glob(folder + '/*.safetensors'))
            for f in [safe_open(file, 'pt')] for n in f.keys()}
s, t = files(source), files(tuned)
for file in sorted(glob.glob(target + '/*.safetensors')):
    with safe_open(file, 'pt') as f:
        result = {n: (f.get_tensor(n).float() + (t[n].get_tensor(n).float()
                  - s[n].get_tensor(n).float())).bfloat16() for n in f.keys()}
    save_file(result, os.path.join(out, os.path.basename(file)), metadata={'format': 'pt'})
"""

COMMAND = "from ftt_hub.cli.main import main; main()"


def main() -> None:
    """Print both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="134M", choices=["134M", "1.1B"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    source, tuned, target = family(cache_folder(), options.size, 200_000_000)
    work = cache_folder() / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    out, adapter, plain = work / "out", work / "adapter", work / "delta.safetensors"
    shards = ("--max-shard-size", "200MB")

    def fresh(code: str, *words: object) -> Run:
        shutil.rmtree(out, ignore_errors=True)
        return run(code, *words)

    def extract() -> Run:
        shutil.rmtree(adapter, ignore_errors=True)
        return run(COMMAND, "extract", source, tuned, adapter)

    first = extract()
    weights = sum(p.stat().st_size for p in tuned.glob("*.safetensors"))
    run(NAIVE_DELTA, source, tuned, plain)
    stored = sum(p.stat().st_size for p in adapter.iterdir())
    naive = plain.stat().st_size
    print(f"{options.size}: adapter {stored / 1e6:.1f} MB, plain Δ {naive / 1e6:.1f} MB")
    speed = weights / 1e6 / first.wall
    print(
        f"extract once: {first.wall:.2f} s wall, {speed:.0f} MB/s of bf16, peak {first.peak} MB\n"
    )
    results = alternate(
        {
            "naive loop, Δ in a plain file": lambda: fresh(NAIVE_APPLY, target, plain, out),
            "ftt-hub apply": lambda: fresh(
                COMMAND, "apply", adapter, "--target", target, "--out", out, *shards
            ),
            "naive loop, Δ made on the way (three models)": lambda: fresh(
                NAIVE_END_TO_END, source, tuned, target, out
            ),
            "import torch": lambda: run("import torch"),
        },
        options.rounds,
    )
    print_table(results, "naive loop, Δ in a plain file")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
