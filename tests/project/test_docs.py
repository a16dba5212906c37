"""The documentation says what the code does, and its generated parts are up to date."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import ftt_hub
from ftt_hub.codecs.catalogue import CODECS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
ALL_PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", *PAGES]
PACKAGES = {path.name for path in (ROOT / "ftt_hub").iterdir() if path.is_dir()}
FOLDERS = PACKAGES | {path.name for path in ROOT.iterdir() if path.is_dir()}


def script(name: str) -> ModuleType:
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def site() -> dict[str, Any]:
    value = yaml.safe_load(text("mkdocs.yml"))
    assert isinstance(value, dict)
    return value


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    """In a process of its own: click keeps how another test showed the help of a command."""
    code = "import make_cli_docs, sys; sys.stdout.buffer.write(make_cli_docs.render().encode())"
    rendered = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    assert text("docs/cli.md").encode() == rendered, "run python scripts/make_cli_docs.py"


def test_the_picture_of_the_layers_is_drawn_from_the_contract() -> None:
    picture = script("make_layers_picture")
    assert text("docs/img/layers.svg") == picture.render(), (
        "run python scripts/make_layers_picture.py"
    )


def test_the_contract_names_every_package() -> None:
    """What is not in the contract would be missing from the picture."""
    names = {name for layer in script("make_layers_picture").layers() for name in layer}
    packages = {p.name for p in (ROOT / "ftt_hub").iterdir() if (p / "__init__.py").is_file()}
    assert packages | {"cli"} <= names


def test_every_codec_has_its_section_in_the_format() -> None:
    for name in CODECS:
        assert f"## Codec `{name}`" in text("docs/format.md")
        assert f"| `{name}`" in text("docs/codecs.md")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_to_files_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(page)):
        assert ((ROOT / page).parent / link).is_file(), link


@pytest.mark.parametrize("page", ALL_PAGES)
def test_files_named_in_the_text_exist(page: str) -> None:
    """`transfer/plan.py` is one of the package, `benchmarks/speed.py` one of the repository."""
    for name in re.findall(r"`([\w/.-]+/[\w.-]+\.(?:py|json|yaml|md|sh))`", text(page)):
        if name.split("/")[0] in FOLDERS and "NAME" not in name:
            assert (ROOT / name).is_file() or (ROOT / "ftt_hub" / name).is_file(), name


def test_the_navigation_lists_every_page_once() -> None:
    def listed(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [path for value in inner for path in listed(value)]

    assert sorted(f"docs/{path}" for path in listed(site()["nav"])) == PAGES


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    entries = {
        name
        for page in PAGES
        if page.startswith("docs/api/")
        for name in re.findall(r"^::: ftt_hub\.(\w+)$", text(page), re.MULTILINE)
    }
    assert entries - {"errors"} == set(ftt_hub.__all__) - {"__version__", "FttError"}


def test_broken_links_stop_the_build_of_the_site() -> None:
    assert site()["strict"] is True
    assert {site()["validation"][kind] for kind in ("unrecognized_links", "anchors")} == {"warn"}
    assert "mkdocs build --quiet" not in text("Makefile"), "a quiet build counts no warnings"
    assert site()["theme"]["font"] is False


def test_the_build_sees_what_a_page_loads_from_other_servers() -> None:
    page = """<link rel="stylesheet" href="//fonts.example/a.css"><link rel="next" href="b.html">
    <script src="https://cdn.example/x.js"></script><img src="img/layers.svg">
    <a href="https://example.org/">a link</a><script src="assets/y.js"></script>"""
    loaded = script("docs_hooks").third_parties(page)
    assert loaded == ["//fonts.example/a.css", "https://cdn.example/x.js"]


def test_the_recipe_in_the_documentation_is_the_example_s() -> None:
    assert text("examples/recycling/recipe.yaml") in text("docs/recycling.md")
