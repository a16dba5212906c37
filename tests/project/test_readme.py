"""What README and documentation tell a user to type is what the program takes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ftt_hub.cli.main import cli
from models import make_family

import ftt_hub

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "examples/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, *languages: str) -> list[str]:
    """The code blocks of a page in one of the languages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for language, code in FENCE.findall(text) if language in languages]


def typed(page: str) -> Iterator[list[str]]:
    """The words of every command line on a page, comments left out."""
    for block in blocks(page, "bash", "console", "text", ""):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ").strip()
            if line.startswith(("ftt-hub ", "make ")):
                yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/cli.md"])
def test_the_program_takes_every_command_shown(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, options and the values that an option offers; nothing is run, no file needed."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, *_rest: value)
    for words in typed(page):
        if words[0] == "ftt-hub":
            command, name = cli, "ftt-hub"
            while isinstance(command, click.Group):
                name, *words = words[1:] if command is cli else words
                inner = command.get_command(click.Context(command), name)
                assert inner is not None, name
                command = inner
            command.make_context(name, words)


@pytest.mark.parametrize("page", PAGES)
def test_make_has_every_target_shown(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*):", makefile, re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    shown = {words[1] for words in typed(page) if words[0] == "make"}
    assert shown <= known


def dotted(node: ast.AST) -> str | None:
    """`ftt_hub.a.b` as text, for a chain of attributes that begins with `ftt_hub`."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id == "ftt_hub" and names:
        return ".".join(names)
    return None


@pytest.mark.parametrize("page", PAGES)
def test_python_on_the_pages_names_what_there_is(page: str) -> None:
    """Names of the package, and the keyword arguments of calls to it."""
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ftt_hub"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Call) and (name := dotted(node.func)) is not None:
                value: object = ftt_hub
                for part in name.split("."):
                    value = getattr(value, part)
                assert callable(value)
                parameters = inspect.signature(value).parameters
                open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert open_ended or given <= set(parameters), name


def test_the_quickstart_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands and its Python, on tiny models in the folders that it names."""
    family = make_family(tmp_path / "family")
    for model, name in (
        (family.source, "base-v1"),
        (family.tuned, "base-v1-turkish"),
        (family.target, "base-v2"),
    ):
        (tmp_path / name).symlink_to(model, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    shell = next(b for b in blocks("docs/quickstart.md", "bash") if "ftt-hub extract" in b)
    for line in shell.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            monkeypatch.setenv(*words[1].split("=", 1))
        elif words:
            done = CliRunner().invoke(cli, words[1:])
            assert done.exit_code == 0, done.output
    names: dict[str, object] = {}
    (python,) = blocks("docs/quickstart.md", "python")
    exec(compile(python, "quickstart.md", "exec"), names)
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained("base-v2-turkish").state_dict()
    loaded = names["model"].state_dict()  # type: ignore[attr-defined]
    assert all(bool((loaded[key] == value).all()) for key, value in merged.items())
