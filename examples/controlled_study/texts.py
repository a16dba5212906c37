"""General text: what comes with every Python, the help topics and the docstrings."""

from __future__ import annotations

import ast
import random
import sysconfig
import warnings
from pathlib import Path

from demo.materials import english_text

_SHORTEST = 100
_SKIPPED = {"site-packages", "test", "tests", "idlelib"}


def general_text() -> str:
    """Paragraphs in English, in an order that does not follow the modules."""
    paragraphs = english_text().split("\n\n")
    for docstring in _docstrings(Path(sysconfig.get_paths()["stdlib"])):
        paragraphs.extend(docstring.split("\n\n"))
    once = dict.fromkeys(paragraph.strip("\n") for paragraph in paragraphs)
    chosen = [paragraph for paragraph in once if paragraph.strip()]
    random.Random(0).shuffle(chosen)
    return "\n\n".join(chosen)


def _docstrings(library: Path) -> list[str]:
    """All long docstrings of the standard library, by file name."""
    found: list[str] = []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in sorted(library.rglob("*.py")):
        if _SKIPPED.intersection(path.relative_to(library).parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # files of other Pythons, kept as examples
            continue
        texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        found.extend(text for text in texts if text and len(text) >= _SHORTEST)
    return found
