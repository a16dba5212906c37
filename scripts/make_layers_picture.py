"""Writes docs/img/layers.svg from the layers contract in pyproject.toml; a test keeps it true."""

from __future__ import annotations

import ast
import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "img" / "layers.svg"
MOVED = {"cli": "cli", "schemas": "schemas"}  # installed as ftt_hub.cli and ftt_hub.schemas

WIDTH, MARGIN, GAP = 1080, 34, 8
LINE, PADDING, TITLE = 17, 11, 22
STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 13px; fill: #222 }
  .name { font-weight: 600; font-size: 15px; font-family: ui-monospace, monospace }
  .number { fill: #777; font-size: 13px }
  .layer { fill: #eef1fb }
  .package { fill: #fff; stroke: #7a86c8 }
  .arrow { stroke: #7a86c8; stroke-width: 2; marker-end: url(#head) }
"""


def layers() -> list[list[str]]:
    """The layers of the contract, top first; each a list of packages and modules."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]


def summary(name: str) -> str:
    """The first sentence of a package's docstring, without marks."""
    base = ROOT / MOVED[name] if name in MOVED else ROOT / "ftt_hub" / name
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=\w\.)\s", paragraph)[0].rstrip(".").replace("`", "")


def _wrapped(text: str, characters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > characters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _package(name: str, left: float, top: float, width: float, height: float) -> str:
    characters = int((width - 2 * PADDING) / 6.9)
    lines = [
        f'<text x="{left + PADDING:g}" y="{top + PADDING + TITLE + 15 + i * LINE:g}">'
        f"{escape(line)}</text>"
        for i, line in enumerate(_wrapped(summary(name), characters))
    ]
    return "\n".join(
        [
            f'<rect class="package" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="4"/>',
            f'<text class="name" x="{left + PADDING:g}" y="{top + PADDING + 15:g}">{escape(name)}</text>',
            *lines,
        ]
    )


def _rows(names: list[str]) -> list[list[str]]:
    """At most four packages side by side, so that their words can be read."""
    count = -(-len(names) // 4)
    size = -(-len(names) // count)
    return [names[i : i + size] for i in range(0, len(names), size)]


def _row(names: list[str], top: float) -> tuple[list[str], float]:
    """A row of packages, and its height."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(names) + 1)) / len(names)
    characters = int((width - 2 * PADDING) / 6.9)
    most = max(len(_wrapped(summary(name), characters)) for name in names)
    height = 2 * PADDING + TITLE + most * LINE
    left = MARGIN + GAP
    return [
        _package(name, left + i * (width + GAP), top, width, height)
        for i, name in enumerate(names)
    ], height


def render() -> str:
    """The picture's text."""
    parts: list[str] = []
    top = float(GAP)
    for number, names in enumerate(layers(), 1):
        inner, y = [], top + GAP
        for row in _rows(names):
            drawn, height = _row(row, y)
            inner += drawn
            y += height + GAP
        parts.append(
            f'<rect class="layer" x="{MARGIN}" y="{top:g}" width="{WIDTH - 2 * MARGIN}" '
            f'height="{y - top:g}" rx="6"/>\n'
            f'<text class="number" x="8" y="{(top + y) / 2 + 5:g}">{number}</text>'
        )
        parts += inner
        top = y + GAP
    arrow = WIDTH - MARGIN / 2
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}" role="img" '
        f'aria-label="The layers of ftt_hub, from the command line at the top to support at the bottom">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="4" refY="4" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#7a86c8"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{top:g}" fill="#fff"/>\n'
        f'<path class="arrow" d="M{arrow:g} {GAP} V{top - 2 * GAP:g}"/>'
    )
    return "\n".join([head, *parts, "</svg>\n"])


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
