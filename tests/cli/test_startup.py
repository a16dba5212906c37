"""Start-up: a command imports what it needs, so that small work is done at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from models import TinyFamily

from ftt_hub.api.extract import extract

LIBRARIES = {"torch", "transformers", "peft", "huggingface_hub", "matplotlib", "scipy", "gradio"}
SLOW = {"jsonschema", "unittest"}
RUN = """
import atexit, sys
atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))
from ftt_hub.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def adapter(family: TinyFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("startup") / "adapter"
    extract(family.source, family.tuned, out)
    return out


def imported(*words: object) -> set[str]:
    """Modules that a command has imported by its end."""
    command = [sys.executable, "-c", RUN, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_extract_imports_no_heavy_module(family: TinyFamily, tmp_path: Path) -> None:
    seen = imported("extract", family.source, family.tuned, tmp_path / "a", "--bits", "1")
    assert seen & (LIBRARIES | SLOW | {"rich"}) == set()
    assert not {name for name in seen if name.startswith(("ftt_hub.registry.hf", "ftt_hub.loss"))}


def test_apply_imports_no_heavy_module(family: TinyFamily, adapter: Path, tmp_path: Path) -> None:
    seen = imported("apply", adapter, "--target", family.target, "--out", tmp_path / "m")
    assert seen & (LIBRARIES | SLOW | {"rich", "yaml"}) == set()
    unused = (
        "ftt_hub.extraction",
        "ftt_hub.registry.hf",
        "ftt_hub.verdict",
        "ftt_hub.catalogue.browse",
    )
    assert not {name for name in seen if name.startswith(unused)}


def test_info_imports_no_heavy_module(adapter: Path) -> None:
    seen = imported("info", adapter)
    assert seen & (LIBRARIES | SLOW | {"rich", "yaml"}) == set()


def test_verify_imports_no_heavy_module(family: TinyFamily, adapter: Path) -> None:
    assert imported("verify", adapter) & (LIBRARIES | SLOW | {"rich", "yaml"}) == set()
    assert imported("verify", adapter, "--target", family.target) & (LIBRARIES | SLOW) == set()
