"""Peak resident memory of extract and apply: the 1.1B model against the 134M one.

Reads VmHWM of each process at its end, so page cache is not counted. The 1.1B family takes 7 GB on
disk; it is made once.
"""

from __future__ import annotations

import argparse
import shutil

from measure import cache_folder, run
from synthetic import family

COMMAND = "from ftt_hub.cli.main import main; main()"
SHARDS = {"134M": 200_000_000, "1.1B": 500_000_000}


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["134M", "1.1B"], choices=list(SHARDS))
    options = parser.parse_args()
    print(f"{'model':8} {'bf16 MB':>8} {'extract MB':>11} {'s':>6} {'apply MB':>9} {'s':>6}")
    for size in options.sizes:
        source, tuned, target = family(cache_folder(), size, SHARDS[size])
        work = cache_folder() / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        weights = sum(p.stat().st_size for p in tuned.glob("*.safetensors")) / 1e6
        extract = run(COMMAND, "extract", source, tuned, work / "adapter")
        out = ("--target", target, "--out", work / "out", "--max-shard-size", "500MB")
        apply = run(COMMAND, "apply", work / "adapter", *out)
        print(
            f"{size:8} {weights:8.0f} {extract.peak:11} {extract.wall:6.1f} "
            f"{apply.peak:9} {apply.wall:6.1f}"
        )
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
