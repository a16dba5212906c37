"""Hooks of the documentation site: files of the repository, and a check that it asks nobody else.

A page may link to a file outside docs/, such as `../schemas/index.schema.json`. That link works
where the repository is read. For the site the file is copied to `repository/`, and the link leads
there.
"""

from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
COPIES = "repository/"
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


def _in_repository(page: str) -> str:
    """Where a page of the site lies in the repository."""
    return page.removeprefix(COPIES) if page.startswith(COPIES) else f"docs/{page}"


def _in_site(path: str) -> str:
    """Where a file of the repository lies in the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else COPIES + path


def _linked(link: str, page: str) -> str | None:
    """The file of the repository that a link leads to, if it leads to one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(_in_repository(page)), link))
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file of the repository that a page links to, and what those pages link to."""
    pages = list(files.documentation_pages())
    for page in pages:
        for link in LINK.findall(page.content_string):
            path = _linked(link, page.src_uri)
            if path is None or files.get_file_from_path(_in_site(path)) is not None:
                continue
            file = File.generated(config, _in_site(path), abs_src_path=str(ROOT / path))
            files.append(file)
            if file.is_documentation_page():
                pages.append(file)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to their copies in the site."""
    folder = posixpath.dirname(page.file.src_uri) or "."

    def renew(match: re.Match[str]) -> str:
        path = _linked(match[1], page.file.src_uri)
        return match[1] if path is None else posixpath.relpath(_in_site(path), folder)

    return LINK.sub(renew, markdown)


class _Requests(HTMLParser):
    """Collects the addresses that a browser asks for when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag loads; a link that waits for a click loads nothing."""
        values = dict(attrs)
        attribute = LOADING.get(tag)
        if tag == "link" and values.get("rel") not in {"canonical", "next", "prev"}:
            attribute = "href"
        if attribute is not None:
            self.addresses.append(values.get(attribute) or "")


def third_parties(html: str) -> list[str]:
    """The addresses of other servers that a browser asks for when it opens the page."""
    requests = _Requests()
    requests.feed(html)
    return [address for address in requests.addresses if re.match(r"(https?:)?//", address)]


def on_post_build(*, config: MkDocsConfig) -> None:
    """Fail if a page loads something from another server.

    Raises:
        PluginError: One does.
    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        addresses = third_parties(path.read_text(encoding="utf-8"))
        if addresses:
            raise PluginError(f"{path.relative_to(config.site_dir)} loads {', '.join(addresses)}")
