"""A model card as HTML. Cards are written by anyone: no markup of theirs reaches the page.

Raw HTML is shown as text, pictures become links (a picture would tell a third party who reads the
card), and links lead only to http, https and mailto.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ftt_hub.artifact.card_editing import split_card

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_CARD = 200_000
_SCHEMES = ("http://", "https://", "mailto:")
_DEEPEST = 6


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table")
    parser.validateLink = _is_link  # type: ignore[method-assign]
    return parser


def _is_link(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


def card_html(card: bytes) -> str:
    """The body of a card as HTML that is safe to show."""
    parser = _markdown()
    _, body = split_card(card)
    tokens = parser.parse(body[:MAX_CARD])
    _tame(tokens)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _tame(tokens: Sequence[Token]) -> None:
    """Open links in a new tab without a referrer; put headings below those of the page."""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 2, _DEEPEST)}"
        if token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow ugc")
            token.attrSet("target", "_blank")
        if token.children:
            token.children = _without_pictures(token.children)
            _tame(token.children)


def _without_pictures(tokens: Sequence[Token]) -> list[Token]:
    from markdown_it.token import Token

    kept: list[Token] = []
    inside = 0  # a link within a link is no link
    for token in tokens:
        inside += token.nesting if token.type.startswith("link_") else 0
        if token.type != "image":
            kept.append(token)
            continue
        address: Any = token.attrGet("src") or ""
        text = Token("text", "", 0, content=f"[picture: {token.content or address}]")
        if inside:
            kept.append(text)
        else:
            start = Token("link_open", "a", 1, attrs={"href": address})
            kept += [start, text, Token("link_close", "a", -1)]
    return kept
