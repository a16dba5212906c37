"""The page: Gradio's fields for the search, our own markup for the results.

Imports Gradio: `server.require_extra` comes first.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ftt_hub.catalogue.browse import SORTS, browse_page
from ftt_hub.catalogue.listed import listed_adapter
from ftt_hub.errors import FttError, RefError
from ftt_hub.support.paths import PathLike
from ftt_hub.support.refs import is_repository_name
from ftt_hub.web import views
from ftt_hub.web.cards import card_html
from ftt_hub.web.heat import heat_map
from ftt_hub.web.selection import MAX_TEXT, PAGE_ROWS, Selection
from ftt_hub.web.shelf import Facets, Shelf

HERE = Path(__file__).parent
TITLE = "Transfer adapters"
_ORDERS = dict(zip(SORTS, ("Name", "Updated", "Downloads", "Likes", "Size"), strict=True))
_FIELDS = (
    "search",
    "language",
    "source_base",
    "dataset",
    "license",
    "sort",
    "deprecated",
    "target",
)
_EMPTY = Facets({}, {}, {}, {})


class Browser:
    """Answers what the page asks, always with HTML and never with an exception of ours.

    Args:
        shelf: The registry's listing.
        folders: Whether a target may be a folder of this machine.
    """

    def __init__(self, shelf: Shelf, *, folders: bool) -> None:
        self.shelf, self.folders = shelf, folders

    def _check(self, target: str) -> None:
        name = target.partition("@")[0]
        if target and not self.folders and (not is_repository_name(name) or Path(name).exists()):
            raise RefError(
                "not a model on the Hub", where=target[:MAX_TEXT], expected="namespace/name"
            )

    def results(self, selection: Selection) -> str:
        """The list; without colours, and with the reason, where the target cannot be read."""
        trouble = None
        try:
            known = self.shelf.summaries()
            try:
                self._check(selection.target)
                page = self._page(selection, known, selection.target)
                return views.results(page, selection, PAGE_ROWS)
            except FttError as error:
                if not selection.target:
                    raise
                trouble = error
            page = self._page(selection, known, "")
            return views.results(page, selection, PAGE_ROWS, trouble)
        except FttError as error:
            return views.failure(error, "The registry does not answer")

    def _page(self, selection: Selection, known: Any, target: str) -> Any:
        return browse_page(
            selection.query(),
            target=target or None,
            registry=self.shelf.registry,
            sort=selection.sort,
            limit=PAGE_ROWS,
            page=selection.page,
            known=known,
        )

    def adapter(self, name: str, version: str, target: str) -> str:
        """The page of one adapter."""
        trouble = None
        try:
            try:
                self._check(target)
            except RefError as error:
                trouble, target = error, ""
            if not is_repository_name(name):
                raise RefError("not an adapter's name", where=name[:MAX_TEXT])
            description = listed_adapter(
                name,
                version=version or None,
                target=target or None,
                registry=self.shelf.registry,
                known=self.shelf.summaries(),
            )
            card, norms = description.notes.card, description.norms
            return views.adapter(
                description,
                target,
                None if card is None else card_html(card),
                None if norms is None else heat_map(norms),
                trouble,
            )
        except FttError as error:
            return views.failure(error, "This adapter cannot be shown", back="?")

    def facets(self) -> Facets:
        """What can be filtered by; nothing while the registry does not answer."""
        try:
            return self.shelf.facets()
        except FttError:
            return _EMPTY


def _choices(title: str, counts: dict[str, int], chosen: str) -> list[tuple[str, str]]:
    known = [(f"{value}  ({count})", value) for value, count in counts.items()]
    extra = [(chosen, chosen)] if chosen and chosen not in counts else []
    return [(title, ""), *known, *extra]


def build(browser: Browser) -> gr.Blocks:
    """The page, not yet mounted."""

    def opened(request: gr.Request) -> list[object]:
        values = dict(request.query_params)
        name = values.get("adapter", "")
        if name:
            version, target = values.get("version", ""), values.get("target", "").strip()
            html = browser.adapter(name, version[:MAX_TEXT], target[:MAX_TEXT])
            skipped: list[object] = [gr.skip() for _ in _FIELDS]
            return [gr.update(visible=False), html, *skipped]
        selection, facets = Selection.of(values), browser.facets()

        def drop(title: str, counts: dict[str, int], chosen: str) -> object:
            return gr.update(choices=_choices(title, counts, chosen), value=chosen)

        return [
            gr.update(visible=True),
            browser.results(selection),
            selection.search,
            drop("Any language", facets.languages, selection.language.lower()),
            drop("Any source base", facets.source_bases, selection.source_base),
            drop("Any dataset", facets.datasets, selection.dataset),
            drop("Any licence", facets.licenses, selection.license),
            selection.sort,
            selection.deprecated,
            selection.target,
        ]

    def changed(*values: object) -> str:
        return browser.results(Selection.of(dict(zip(_FIELDS, values, strict=True))))

    page: gr.Blocks = gr.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        gr.HTML(
            (HERE / "header.html").read_text("utf-8"), elem_id="ftt-header", apply_default_css=False
        )
        with gr.Column(visible=False, elem_id="ftt-filters") as filters:
            fields = _fields()
        results = gr.HTML(
            '<p class="ftt-wait" role="status">Looking at the registry…</p>',
            elem_id="ftt-found",
            apply_default_css=False,
        )
        quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 8}
        page.load(opened, None, [filters, results, *fields], show_progress="hidden", **quiet).then(
            None, None, None, js="() => fttHub.opened()", **quiet
        )
        search, *drops, target = fields
        triggers = [search.change, target.submit, target.blur, *(field.input for field in drops)]
        gr.on(
            triggers,
            changed,
            fields,
            results,
            trigger_mode="always_last",
            preprocess=False,
            show_progress="hidden",
            js="(...values) => fttHub.remember(values)",
            **quiet,
        )
    return page


def _fields() -> list[Any]:
    """The fields, in the order of `_FIELDS`."""

    def drop(label: str, title: str) -> gr.Dropdown:
        return gr.Dropdown([(title, "")], value="", label=label, min_width=120)

    with gr.Row(elem_classes="ftt-row ftt-first"):
        search = gr.Textbox(
            value="",
            label="Search",
            info="Name, base, language, data",
            max_length=MAX_TEXT,
            elem_id="ftt-search",
            lines=1,
        )
        target = gr.Textbox(
            label="Target model",
            info="Which adapters fit it? For example org/newer-base",
            max_length=MAX_TEXT,
            elem_id="ftt-target",
            lines=1,
        )
    with gr.Row(elem_classes="ftt-row ftt-second"):
        drops = [
            drop("Language", "Any language"),
            drop("Source base", "Any source base"),
            drop("Training data", "Any dataset"),
            drop("Licence", "Any licence"),
            gr.Dropdown(
                [(title, name) for name, title in _ORDERS.items()],
                value="name",
                label="Sort by",
                min_width=120,
            ),
            gr.Checkbox(label="Deprecated too", elem_id="ftt-deprecated", min_width=120),
        ]
    return [search, *drops, target]


def application(registry: PathLike | None = None, *, folders: bool = False) -> FastAPI:
    """The page as an ASGI application, for a server.

    Args:
        registry: ``"hf"`` or a folder.
        folders: Whether a target may be a folder of this machine; never where strangers come.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio's client logs every request
    page = build(Browser(Shelf(registry), folders=folders))
    fonts = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)
    script = (HERE / "page.js").read_text("utf-8")
    mounted: FastAPI = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        enable_monitoring=False,
        theme=theme,
        css=(HERE / "page.css").read_text("utf-8"),
        head=f"<script>{script}</script>",
    )
    return mounted
