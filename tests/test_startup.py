"""Start-up: a command imports what it needs, so that small work is done at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from models import TinyFamily

from ftt_hub.api import extract
from ftt_hub.imports import after_import

LIBRARIES = {"torch", "transformers", "peft", "huggingface_hub", "matplotlib", "scipy", "gradio"}
SLOW = {"asyncio", "wrapt", "jsonschema", "ssl", "unittest"}
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
    assert seen & (LIBRARIES | SLOW | {"rich", "yaml", "importlib.metadata"}) == set()
    unused = ("ftt_hub.extraction", "ftt_hub.registry.hf", "ftt_hub.verdict", "ftt_hub.browsing")
    assert not {name for name in seen if name.startswith(unused)}


def test_info_imports_no_heavy_module(adapter: Path) -> None:
    seen = imported("info", adapter)
    assert seen & (LIBRARIES | SLOW | {"rich", "yaml", "importlib.metadata"}) == set()


def test_verify_imports_no_heavy_module(family: TinyFamily, adapter: Path) -> None:
    assert imported("verify", adapter) & (LIBRARIES | SLOW | {"rich", "yaml"}) == set()
    assert imported("verify", adapter, "--target", family.target) & (LIBRARIES | SLOW) == set()


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that can be imported and has not been."""
    (tmp_path / "imported_late.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield "imported_late"
    sys.meta_path[:] = finders
    sys.modules.pop("imported_late", None)


def test_an_action_waits_for_the_import_and_happens_once(late: str) -> None:
    seen: list[object] = []
    after_import(late, lambda module: seen.append(vars(module)["value"]))
    assert importlib.util.find_spec(late) is not None
    assert seen == []
    module = importlib.import_module(late)
    assert seen == [1]
    importlib.reload(module)
    assert seen == [1]
    after_import(late, seen.append)
    assert seen == [1, module]


def test_two_actions_on_one_module_both_happen(late: str) -> None:
    seen: list[int] = []
    for number in (1, 2):
        after_import(late, lambda _, number=number: seen.append(number))  # type: ignore[misc]
    importlib.import_module(late)
    assert seen == [1, 2]


def test_a_module_that_fails_to_import_fails_as_ever(late: str, tmp_path: Path) -> None:
    (tmp_path / "imported_late.py").write_text("raise ImportError('not today')\n")
    seen: list[object] = []
    after_import(late, seen.append)
    with pytest.raises(ImportError, match="not today"):
        importlib.import_module(late)
    after_import("no_such_module_here", seen.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_here")
    assert seen == []
