"""Run the zoo, print what is not right, and write the page of the docs.

`python -m zoo --only causal/llama --variant tied` from the folder `tests`; everything without
options. Rows that are in the results file already are not run again.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from zoo.architectures import selected
from zoo.page import page
from zoo.run import Results, run
from zoo.spellings import VARIANTS
from zoo.trial import ABSENT, CRASH, RIGHT, WRONG


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zoo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", action="append", default=[], help="causal/llama, llama or causal/"
    )
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), default=[])
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="resumed if there")
    parser.add_argument("--ways", action="store_true", help="also streaming load and apply_to")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--page", type=Path, help="write this page of the results, and run nothing")
    parser.add_argument(
        "--older", type=Path, action="append", default=[], help="results to show beside, for --page"
    )
    return parser.parse_args()


def main() -> int:
    """Run what is chosen and not yet in the results file."""
    arguments = _arguments()
    results = Results(arguments.results)
    if arguments.page:
        runs = [r.latest for r in (results, *map(Results, arguments.older)) if r.all]
        arguments.page.write_text(page(runs))
        return 0
    chosen = arguments.variant or list(VARIANTS)
    work = [
        (a, [v for v in chosen if (a.name, v) not in results.done])
        for a in selected(arguments.only)
    ]
    todo = [(architecture, variants) for architecture, variants in work if variants]
    todo.sort(key=lambda item: zlib.crc32(item[0].name.encode()))  # a part says something of all
    for outcome in run(todo, jobs=arguments.jobs, ways=arguments.ways):
        results.add(outcome)
        if outcome.outcome not in (RIGHT, ABSENT):
            print(
                f"{outcome.architecture:40} {outcome.variant:12} {outcome.outcome:8}"
                f" {outcome.detail[:150]}",
                flush=True,
            )
    counts = Counter(outcome.outcome for outcome in results.latest)
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return int(bool(counts[WRONG] or counts[CRASH]))


if __name__ == "__main__":
    sys.exit(main())
