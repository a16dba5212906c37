"""``python -m zoo``: run the zoo and print what is not right."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from zoo.architectures import selected
from zoo.run import Results, outcomes, quiet
from zoo.spellings import VARIANTS


def main() -> int:
    """Run what is chosen and not yet in the results file."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="causal/llama, llama or causal/")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), default=[])
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="resumed if there")
    arguments = parser.parse_args()
    quiet()
    results = Results(arguments.results)
    for architecture in selected(arguments.only):
        chosen = arguments.variant or list(VARIANTS)
        missing = [v for v in chosen if (architecture.name, v) not in results.rows]
        for outcome in outcomes(architecture, missing) if missing else ():
            results.add(outcome)
            if outcome.outcome != "right":
                print(f"{outcome.architecture:40} {outcome.variant:12} {outcome.outcome:8} "
                      f"{outcome.detail[:150]}", flush=True)  # fmt: skip
    counts = Counter(row["outcome"] for row in results.rows.values())
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return int(bool(counts["wrong"] or counts["crash"]))


if __name__ == "__main__":
    sys.exit(main())
