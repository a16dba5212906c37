"""Endpoints for branches, tags and history."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import views
from .endpoint import MODEL, Endpoint, flag, json_body, segment, several, text
from .errors import ConflictError, HubError, RevisionNotFoundError
from .paging import page

_COMMITS_PAGE = 50


class Refs(Endpoint):
    """Refs, commits, tags, branches."""

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        return [
            Route(MODEL + "/refs", self.refs, methods=["GET"]),
            Route(MODEL + "/commits/{revision}", self.commits, methods=["GET"]),
            Route(MODEL + "/tag/{revision}", self.add_tag, methods=["POST"]),
            Route(MODEL + "/tag/{ref}", self.remove_tag, methods=["DELETE"]),
            Route(MODEL + "/branch/{ref}", self.add_branch, methods=["POST"]),
            Route(MODEL + "/branch/{ref}", self.remove_branch, methods=["DELETE"]),
        ]

    async def refs(self, request: Request) -> Response:
        """List branches and tags, and pull requests if asked for."""
        with self.hub.lock:
            refs = sorted(self.repo(request).refs().items())
        view: views.Json = {"converts": []}
        for key, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
            view[key] = [views.ref(name, sha) for name, sha in refs if name.startswith(prefix)]
        if flag(request, "include_prs"):
            pulls = [(name, sha) for name, sha in refs if name.startswith("refs/pr/")]
            view["pullRequests"] = [views.ref(name, sha) for name, sha in pulls]
        return JSONResponse(view)

    async def commits(self, request: Request) -> Response:
        """List a revision's history, newest first."""
        repo, commit = self.at_revision(request)
        history = list(repo.history(commit))
        found, headers = page(request, history, _COMMITS_PAGE)
        formatted = "formatted" in several(request, "expand")
        items = [views.commit_item(item, formatted=formatted) for item in found]
        return JSONResponse(items, headers={**headers, "X-Total-Count": str(len(history))})

    async def add_tag(self, request: Request) -> Response:
        """Tag a revision."""
        name = text(await json_body(request), "tag")
        with self.hub.lock:
            repo, _ = self.writable_repo(request)
            if name in repo.tags:
                raise ConflictError(f"Tag {name} already exists")
            repo.tags[name] = repo.resolve(segment(request, "revision")).sha
        return Response()

    async def remove_tag(self, request: Request) -> Response:
        """Remove a tag; its commit stays."""
        with self.hub.lock:
            repo, _ = self.writable_repo(request)
            if repo.tags.pop(segment(request, "ref"), None) is None:
                raise RevisionNotFoundError(segment(request, "ref"))
        return Response()

    async def add_branch(self, request: Request) -> Response:
        """Start a branch at a revision, `main` if none is given."""
        body = await json_body(request)
        start = text(body, "startingPoint") if "startingPoint" in body else "main"
        name = segment(request, "ref")
        with self.hub.lock:
            repo, _ = self.writable_repo(request)
            if name in repo.branches:
                raise ConflictError(f"Reference already exists: refs/heads/{name}")
            repo.branches[name] = repo.resolve(start).sha
        return Response()

    async def remove_branch(self, request: Request) -> Response:
        """Remove a branch other than `main`; its commits stay."""
        name = segment(request, "ref")
        with self.hub.lock:
            repo, _ = self.writable_repo(request)
            if name == "main":
                raise HubError("Cannot delete the main branch")
            if repo.branches.pop(name, None) is None:
                raise RevisionNotFoundError(name)
        return Response()
