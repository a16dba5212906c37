"""Loading m_t + Δ with AutoTransferModelForCausalLM against plain from_pretrained(m_t).

Plain loading maps the file and reads no weight before its first use, so a forward pass is measured
as well: both sides then have every weight in memory. Whole processes include the imports that any
user of transformers pays.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys

from measure import cache_folder, run
from synthetic import family

COMMAND = "from ftt_hub.cli.main import main; main()"
LOADER = """
import json, sys, time
start = time.perf_counter()
import torch, transformers
from transformers import AutoModelForCausalLM
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(2)
adapter, target = sys.argv[1:]
if adapter == "plain":
    from transformers.models.llama import modeling_llama
else:
    import ftt_hub.loading, ftt_hub.slices
    from transformers.models.llama import modeling_llama
imported = time.perf_counter()
if adapter == "plain":
    model = AutoModelForCausalLM.from_pretrained(target, dtype="auto")
else:
    model = ftt_hub.AutoTransferModelForCausalLM.from_pretrained(adapter, base_model=target)
loaded = time.perf_counter()
with torch.inference_mode():
    model(torch.arange(8)[None])
first = time.perf_counter()
with torch.inference_mode():
    model(torch.arange(8)[None])
second = time.perf_counter()
status = open("/proc/self/status").read()
anonymous = sum(int(status.split(key)[1].split()[0]) for key in ("RssAnon:", "RssShmem:")) // 1024
print(json.dumps({"import": imported - start, "load": loaded - imported,
                  "load + first token": first - imported, "second token": second - first,
                  "process": first - start, "resident MB": anonymous}))
"""


def measure(adapter: object, target: object) -> dict[str, float]:
    """One process; its own clock."""
    words = [sys.executable, "-W", "ignore", "-c", LOADER, str(adapter), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print medians of both sides and the ratio of each figure, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="134M", choices=["134M", "1.1B"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    source, tuned, target = family(cache_folder(), options.size, 500_000_000)
    work = cache_folder() / "work-load"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    run(COMMAND, "extract", source, tuned, work / "adapter")
    plain, ours = [], []
    for number in range(options.rounds + 1):
        pair = measure("plain", target), measure(work / "adapter", target)
        if number:  # the first round warms the page cache
            plain.append(pair[0])
            ours.append(pair[1])
    print(f"{options.size:22} {'plain':>9} {'with Δ':>9}   ratio (median, min–max)")
    for key in plain[0]:
        ratios = [b[key] / a[key] for a, b in zip(plain, ours, strict=True)]
        print(
            f"{key:22} {statistics.median(r[key] for r in plain):9.3f} "
            f"{statistics.median(r[key] for r in ours):9.3f}   {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}–{max(ratios):.2f})"
        )
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
