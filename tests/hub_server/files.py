"""Endpoints for files: downloading, and looking at trees."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import views
from .accounts import check_downloads
from .blobs import Blob
from .endpoint import MODEL, Endpoint, flag, segment
from .errors import EntryNotFoundError
from .paging import page
from .repos import Commit

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_TREE_PAGE = 1000
_EXPANDED_TREE_PAGE = 50


class Files(Endpoint):
    """Resolve, tree, paths-info."""

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        resolve = "/{namespace}/{name}/resolve/{revision}/{path:path}"
        return [
            Route(MODEL + "/tree/{revision}", self.tree, methods=["GET"]),
            Route(MODEL + "/tree/{revision}/{path:path}", self.tree, methods=["GET"]),
            Route(MODEL + "/paths-info/{revision}", self.paths_info, methods=["POST"]),
            Route(resolve, self.resolve, methods=["GET"]),
        ]

    async def resolve(self, request: Request) -> Response:
        """Send a file, or a range of it; to HEAD the headers only."""
        repo, commit = self.at_revision(request)
        check_downloads(self.account(request), repo)
        path = segment(request, "path")
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        blob = commit.tree.get(path)
        if blob is None:
            raise EntryNotFoundError("Entry not found", headers=headers)
        headers["ETag"] = f'"{blob.etag}"'
        if blob.sha256 is not None:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
        name = path.rsplit("/", 1)[-1]
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(name)};"
        asked = request.headers.get("range") if request.method == "GET" else None
        return _ranged(blob, asked, headers)

    async def tree(self, request: Request) -> Response:
        """List a folder, or all below it."""
        repo, commit = self.at_revision(request)
        folder = segment(request, "path").strip("/")
        expand = flag(request, "expand")
        paths = sorted(_below(commit, folder, recursive=flag(request, "recursive")))
        if folder and not paths:
            raise EntryNotFoundError(f"{folder} does not exist on {segment(request, 'revision')}")
        found, headers = page(request, paths, _EXPANDED_TREE_PAGE if expand else _TREE_PAGE)
        entries = [views.entry(repo, commit, path, expand=expand) for path in found]
        return JSONResponse(entries, headers=headers)

    async def paths_info(self, request: Request) -> Response:
        """Describe those of the given paths that exist; the request is a form."""
        form = parse_qs((await request.body()).decode())
        repo, commit = self.at_revision(request)
        expand = form.get("expand", ["false"])[0].lower() in ("true", "1")
        paths = [path.strip("/") for path in form.get("paths", [])]
        entries = [views.entry(repo, commit, path, expand=expand) for path in paths if path]
        return JSONResponse([entry for entry in entries if entry is not None])


class _Content(Response):
    """Streams a part of a blob without holding it in memory."""

    def __init__(
        self, blob: Blob, start: int, stop: int, status: int, headers: dict[str, str]
    ) -> None:
        length = {"Content-Length": str(stop - start), "Content-Type": "application/octet-stream"}
        super().__init__(status_code=status, headers={**headers, **length})
        self._blob, self._start, self._stop = blob, start, stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            for piece in self._blob.chunks(self._start, self._stop):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _ranged(blob: Blob, asked: str | None, headers: dict[str, str]) -> Response:
    """Return all of a blob, one range of it, or 416; several ranges are ignored, as allowed."""
    match = _RANGE.fullmatch(asked or "")
    if match is None or match.groups() == ("", ""):
        return _Content(blob, 0, blob.size, 200, headers)
    first, last = match.groups()
    start = int(first) if first else max(0, blob.size - int(last))
    stop = min(blob.size, int(last) + 1) if first and last else blob.size
    if start >= stop:
        return Response(
            status_code=416, headers={**headers, "Content-Range": f"bytes */{blob.size}"}
        )
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    return _Content(blob, start, stop, 206, headers)


def _below(commit: Commit, folder: str, *, recursive: bool) -> set[str]:
    """Return the paths of the files and folders in a folder."""
    prefix = f"{folder}/" if folder else ""
    paths: set[str] = set()
    for path in commit.tree:
        if path.startswith(prefix):
            rest = path.removeprefix(prefix)
            ends = list(_ends(rest))
            paths.update(prefix + rest[:end] for end in (ends if recursive else ends[:1]))
    return paths


def _ends(path: str) -> Iterator[int]:
    """Yield where each of a path's parts ends."""
    yield from (index for index, letter in enumerate(path) if letter == "/")
    yield len(path)
