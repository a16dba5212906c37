"""Run the demo: `python examples/demo/run.py [--backport] [--fresh]`, or `make demo`."""

import argparse
import os
import sys
from pathlib import Path

# Read by the libraries when they are imported, which is why `main` imports them late.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",  # a bar for each model loaded would bury the demo's own
    # Threads that spin while they wait make a step seven times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main() -> int:
    """Parse the arguments, tell the story, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Make, publish, find, check and load a transfer adapter for SmolLM2-135M: "
        "recycling, from an older to a newer version of the base.",
    )
    parser.add_argument(
        "--backport", action="store_true", help="the other direction: from the newer to the older"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="train and extract again; downloads are kept"
    )
    arguments = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    try:
        from demo.terminal import err

        with err.status("loading PyTorch and transformers"):
            from demo.errors import DemoError
            from demo.story import tell
    except ModuleNotFoundError as error:
        return _failed(f"{error.name} is not installed: run `make demo`, or pip install '.[demo]'")
    try:
        tell(backport=arguments.backport, fresh=arguments.fresh)
    except DemoError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return _failed("interrupted; what was finished is kept, run again to go on", code=130)
    return 0


def _failed(message: str, *, code: int = 1) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # examples/, as the tests have it
    sys.exit(main())
