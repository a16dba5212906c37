"""Run the study, and make its page: `python examples/controlled_study/run.py --help`."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

# Read by the libraries when they are imported, which is why `main` imports them late.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin while they wait make a step seven times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_HERE = Path(__file__).resolve().parent
_PAGE = _HERE.parents[1] / "docs" / "study.md"
"""The page in the repository, which is also the template of others."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, do the work, and return the exit code."""
    given = _parser().parse_args(arguments)
    os.environ.update(_ENVIRONMENT)
    from ftt_hub.errors import FttError

    try:
        (_report if given.what == "report" else _study)(given)
    except FttError as error:
        return _failed(str(error), code=error.exit_code)
    except ModuleNotFoundError as error:
        return _failed(f"{error.name} is not installed: run pip install 'ftt-hub[study]'")
    except KeyboardInterrupt:
        return _failed("interrupted; finished stages are kept, run again to go on", code=130)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="The paper's §4 to §6 in miniature: pretrain a family of versions, fine-tune "
        "them, transfer the diff vectors, and measure."
    )
    verbs = parser.add_subparsers(dest="what", required=True)
    train = verbs.add_parser("train", help="do what is left of a study; write its results")
    train.add_argument("config", type=Path, help="such as examples/controlled_study/small.yaml")
    train.add_argument("--cache", type=Path, help="default $FTT_HUB_STUDY_CACHE, else ~/.cache/…")
    train.add_argument("--results", type=Path, help="default results/NAME.json in the cache")
    train.add_argument("--workers", type=int, help="seeds at a time; default as configured")
    train.add_argument("--dry-run", action="store_true", help="print the stages; train nothing")
    report = verbs.add_parser("report", help="make pictures and tables from results; no training")
    report.add_argument("results", type=Path)
    report.add_argument("--out", type=Path, help="folder of the page and of img/; default docs/")
    return parser


def _study(given: argparse.Namespace) -> None:
    from controlled_study.cache import Cache, cache_dir
    from controlled_study.settings import read_settings
    from controlled_study.study import plan, run_study

    settings = read_settings(given.config)
    if given.workers is not None:
        settings = replace(settings, workers=max(1, given.workers))
    root = given.cache or cache_dir()
    if given.dry_run:
        cache = Cache(root)
        stages = plan(settings, cache)
        for stage in stages:
            state = "done" if cache.path(stage.node).is_dir() else "to do"
            print(f"{state:6} {stage.label}")
        done = sum(cache.path(stage.node).is_dir() for stage in stages)
        tokens = sum(stage.tokens for stage in stages)
        print(
            f"{len(stages)} stages, {done} done; {tokens / 1e6:.1f} million tokens in all; {root}"
        )
        return
    results = run_study(settings, root, say)
    path = given.results or root / "results" / f"{settings.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"results: {path}")


def say(line: str) -> None:
    """A line of progress, at once, also from other processes."""
    print(line, file=sys.stderr, flush=True)


def _report(given: argparse.Namespace) -> None:
    from controlled_study.figures import draw
    from controlled_study.page import read_results, renew

    results = read_results(given.results)
    out = given.out or _PAGE.parent
    for path in draw(results["families"], out / "img"):
        print(path)
    page = out / _PAGE.name
    page.write_text(renew(_PAGE.read_text("utf-8"), results), encoding="utf-8")
    print(page)


def _failed(message: str, *, code: int = 1) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.path[0] = str(_HERE.parent)  # examples/, as the tests have it
    # `say` must be found by other processes under a name that they can import.
    from controlled_study.run import main as _main

    sys.exit(_main())
