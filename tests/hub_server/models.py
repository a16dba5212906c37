"""Endpoints that describe models: one of them, or a filtered and sorted list."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import views
from .accounts import sees
from .endpoint import MODEL, Endpoint, flag, several
from .errors import HubError
from .paging import page
from .repos import Repo

_SORT_KEYS = ("createdAt", "downloads", "lastModified", "likes", "trendingScore")


class Models(Endpoint):
    """Model info and the listing."""

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        return [
            Route("/api/models", self.listing, methods=["GET"]),
            Route(MODEL, self.info, methods=["GET"]),
            Route(MODEL + "/revision/{revision}", self.info, methods=["GET"]),
        ]

    async def info(self, request: Request) -> Response:
        """Describe one model at a revision."""
        repo, commit = self.at_revision(request)
        bare = self.hub.settings.bare_listing
        view = views.model(repo, commit, several(request, "expand") or views.INFO, bare=bare)
        if flag(request, "blobs"):
            view["siblings"] = views.siblings(commit, blobs=True)
        return JSONResponse(view)

    async def listing(self, request: Request) -> Response:
        """List the models that match, one page at a time."""
        account = self.account(request)
        with self.hub.lock:
            # Newest first; the sorts below are stable.
            repos = [repo for repo in reversed(self.hub.repos.values()) if sees(account, repo)]
        matching = _sorted(request, [repo for repo in repos if self._matches(request, repo)])
        found, headers = page(request, matching, self.hub.settings.page_size)
        fields = several(request, "expand") or (
            views.FULL if flag(request, "full") else views.LISTED
        )
        if flag(request, "cardData"):
            fields = [*fields, "cardData"]
        bare = self.hub.settings.bare_listing
        return JSONResponse(
            [views.model(repo, repo.head, fields, bare=bare) for repo in found], headers=headers
        )

    def _matches(self, request: Request, repo: Repo) -> bool:
        query = request.query_params
        if "author" in query and repo.namespace != query["author"]:
            return False
        if query.get("search", "").lower() not in repo.id.lower():
            return False
        if "gated" in query and flag(request, "gated") != bool(repo.gated):
            return False
        wanted = several(request, "filter") + several(request, "pipeline_tag")
        return self.hub.settings.ignore_filters or set(wanted) <= set(repo.head.tags)


def _sorted(request: Request, repos: list[Repo]) -> list[Repo]:
    key = request.query_params.get("sort", "trendingScore")
    if key not in _SORT_KEYS:
        raise HubError(f'"sort" must be one of {", ".join(_SORT_KEYS)}')
    ascending = request.query_params.get("direction") == "1"
    return sorted(repos, key=lambda repo: _rank(repo, key), reverse=not ascending)


def _rank(repo: Repo, key: str) -> int | datetime:
    if key == "downloads":
        return repo.downloads
    if key == "createdAt":
        return repo.created
    return repo.head.date if key == "lastModified" else repo.likes
