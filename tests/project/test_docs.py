"""The documentation says what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ftt_hub.codecs.catalogue import CODECS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "make_cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.render(), (
        "run python scripts/make_cli_docs.py"
    )


def test_every_codec_has_its_section_in_the_format() -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    for name in CODECS:
        assert f"## Codec `{name}`" in text


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in DOCS.glob("*.md"))]
)
def test_links_to_files_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def test_the_recipe_in_the_documentation_is_the_example_s() -> None:
    recipe = (ROOT / "examples" / "recycling" / "recipe.yaml").read_text(encoding="utf-8")
    assert recipe in (ROOT / "docs" / "recycling.md").read_text(encoding="utf-8")
