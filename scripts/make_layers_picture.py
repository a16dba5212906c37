"""Writes docs/img/layers.svg from the layers contract in pyproject.toml; a test keeps it true."""

from __future__ import annotations

import ast
import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "img" / "layers.svg"
ELSEWHERE = {"cli": ROOT / "cli"}  # installed as ftt_hub.cli

WIDTH, MARGIN, GAP = 1080, 38, 8
LINE, PADDING, TITLE = 17, 11, 22
CHARACTER = 6.9  # width of an average letter
SIDE_BY_SIDE = 4
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" role="img"
 aria-label="The layers of ftt_hub, the command line at the top and support at the bottom">
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #222 }}
  .name {{ font: 600 15px ui-monospace, monospace }}
  .note {{ fill: #777 }}
  .layer {{ fill: #eef1fb }}
  .package {{ fill: #fff; stroke: #7a86c8 }}
  .arrow {{ stroke: #7a86c8; stroke-width: 2; marker-end: url(#head) }}
</style>
<defs><marker id="head" markerWidth="8" markerHeight="8" refX="4" refY="4" orient="auto">
  <path d="M0 0 L8 4 L0 8 z" fill="#7a86c8"/></marker></defs>
<rect width="{width}" height="{height:g}" fill="#fff"/>
<path class="arrow" d="M{arrow:g} 8 V{end:g}"/>
<text class="note" transform="translate({note:g} {middle:g}) rotate(90)">imports point down</text>
"""


def layers() -> list[list[str]]:
    """The layers of the contract, top first; each is a list of packages and modules."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["type"] == "layers")
    return [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]


def summary(name: str) -> str:
    """The first line of a package's docstring, without marks."""
    base = ELSEWHERE.get(name, ROOT / "ftt_hub" / name)
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or name
    return docstring.splitlines()[0].rstrip(".").replace("`", "")


def _wrapped(text: str, width: float) -> list[str]:
    """Lines of a text that fit into a box."""
    lines = [""]
    for word in text.split():
        if lines[-1] and (len(lines[-1]) + 1 + len(word)) * CHARACTER > width - 2 * PADDING:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _box(kind: str, left: float, top: float, width: float, height: float) -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect class="{kind}" x="{left:g}" y="{top:g}" {size} rx="5"/>'


def _text(kind: str, left: float, top: float, text: str) -> str:
    return f'<text class="{kind}" x="{left:g}" y="{top:g}">{escape(text)}</text>'


def _rows(names: list[str]) -> list[list[str]]:
    """Packages side by side: few enough that their words can be read."""
    count = -(-len(names) // SIDE_BY_SIDE)
    size = -(-len(names) // count)
    return [names[i : i + size] for i in range(0, len(names), size)]


def _row(names: list[str], top: float) -> tuple[list[str], float]:
    """The boxes of a row, and their height."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(names) + 1)) / len(names)
    words = [_wrapped(summary(name), width) for name in names]
    height = 2 * PADDING + TITLE + max(map(len, words)) * LINE
    parts = []
    for column, (name, lines) in enumerate(zip(names, words, strict=True)):
        left = MARGIN + GAP + column * (width + GAP)
        inner, first = left + PADDING, top + PADDING + 15
        parts += [_box("package", left, top, width, height), _text("name", inner, first, name)]
        parts += [_text("", inner, first + TITLE + i * LINE, s) for i, s in enumerate(lines)]
    return parts, height


def _layer(number: int, names: list[str], top: float) -> tuple[list[str], float]:
    """A layer's parts, and where it ends."""
    parts: list[str] = []
    end = top + GAP
    for row in _rows(names):
        boxes, height = _row(row, end)
        parts += boxes
        end += height + GAP
    frame = _box("layer", MARGIN, top, WIDTH - 2 * MARGIN, end - top)
    return [frame, _text("note", 10, (top + end) / 2 + 5, str(number)), *parts], end


def render() -> str:
    """The picture's text."""
    parts: list[str] = []
    top = float(GAP)
    for number, names in enumerate(layers(), 1):
        layer, end = _layer(number, names, top)
        parts += layer
        top = end + GAP
    arrow = WIDTH - MARGIN / 2
    head = HEAD.format(
        width=WIDTH, height=top, arrow=arrow, end=top - 2 * GAP, note=arrow + 5, middle=top / 2
    )
    return head + "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")
