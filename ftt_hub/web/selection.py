"""A visitor's search, as the page's address holds it: every view can be linked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from ftt_hub.catalogue.browse import SORTS, Query

MAX_TEXT = 200
PAGE_ROWS = 20
PAGE = "p"
"""Name of the page's number in an address; Gradio keeps `page` for itself."""


@dataclass(frozen=True)
class Selection:
    """Filters, order, page and target of the list.

    Attributes:
        search: Text to search for.
        language: BCP-47 tag.
        source_base: Id of the source base.
        dataset: Id of a training dataset.
        license: Licence id.
        target: Model to check the rows against.
        sort: One of `SORTS`.
        deprecated: Show deprecated adapters, too.
        page: From 1.
    """

    search: str = ""
    language: str = ""
    source_base: str = ""
    dataset: str = ""
    license: str = ""
    target: str = ""
    sort: str = "name"
    deprecated: bool = False
    page: int = 1

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Selection:
        """A selection from an address or from the page's fields; nonsense counts as absent."""

        def text(name: str) -> str:
            return str(values.get(name) or "").strip()[:MAX_TEXT]

        page = text(PAGE)
        return cls(
            search=text("search"),
            language=text("language"),
            source_base=text("source_base"),
            dataset=text("dataset"),
            license=text("license"),
            target=text("target"),
            sort=text("sort") if text("sort") in SORTS else "name",
            deprecated=text("deprecated") in ("1", "True"),
            page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )

    @property
    def is_filtered(self) -> bool:
        """Whether something is left out."""
        return any((self.search, self.language, self.source_base, self.dataset, self.license))

    def query(self) -> Query:
        """The filters, as browsing takes them."""
        return Query(
            self.language or None,
            self.source_base or None,
            self.dataset or None,
            self.license or None,
            self.search or None,
            self.deprecated,
        )

    def address(self, **changes: object) -> str:
        """``?language=tr&…``, with only what differs from the default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)} | changes
        default = {f.name: f.default for f in fields(self)}
        kept = {
            PAGE if name == "page" else name: 1 if value is True else value
            for name, value in values.items()
            if value != default.get(name) and value not in ("", None)
        }
        return f"?{urlencode(kept)}" if kept else "?"
