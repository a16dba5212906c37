"""Endpoints for repos as a whole, for accounts, and for checking cards."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import cards
from .accounts import check_downloads, check_writes
from .endpoint import MODEL, Endpoint, json_body, origin, text
from .errors import ConflictError, HubError, UnauthorizedError


class Repositories(Endpoint):
    """Create, delete, move, settings, auth-check; whoami; validate-yaml."""

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        return [
            Route("/api/whoami-v2", self.whoami, methods=["GET"]),
            Route("/api/validate-yaml", self.validate_yaml, methods=["POST"]),
            Route("/api/repos/create", self.create, methods=["POST"]),
            Route("/api/repos/delete", self.delete, methods=["DELETE"]),
            Route("/api/repos/move", self.move, methods=["POST"]),
            Route(MODEL + "/settings", self.settings, methods=["PUT"]),
            Route(MODEL + "/auth-check", self.auth_check, methods=["GET"]),
        ]

    async def whoami(self, request: Request) -> Response:
        """Tell whose token it is."""
        account = self.account(request)
        if account is None:
            raise UnauthorizedError("Invalid username or password.")
        token = {"displayName": account.role, "role": account.role}
        return JSONResponse(
            {
                "type": "user",
                "id": account.name,
                "name": account.name,
                "fullname": account.name.title(),
                "isPro": False,
                "orgs": [{"type": "org", "name": org} for org in sorted(account.namespaces or ())],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    async def validate_yaml(self, request: Request) -> Response:
        """Check the front matter of a card."""
        errors, warnings = cards.check(text(await json_body(request), "content"))
        return JSONResponse(
            {
                "errors": [{"message": message} for message in errors],
                "warnings": [{"message": message} for message in warnings],
            },
            400 if errors else 200,
        )

    async def create(self, request: Request) -> Response:
        """Make an empty repo."""
        body = await json_body(request)
        repo_id = self._owned(request, body)
        private = body.get("visibility") == "private" or body.get("private") is True
        url = f"{origin(request)}/{repo_id}"
        try:
            self.hub.create(repo_id, private=private)
        except ConflictError as conflict:
            conflict.extra["url"] = url
            raise
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    async def delete(self, request: Request) -> Response:
        """Remove a repo for good."""
        repo_id = self._owned(request, await json_body(request))
        self.hub.find(repo_id, self.account(request))
        self.hub.repos.pop(repo_id)
        return Response("OK")

    async def move(self, request: Request) -> Response:
        """Rename a repo."""
        body = await json_body(request)
        repo = self.hub.find(text(body, "fromRepo"), self.account(request))
        new_id = text(body, "toRepo")
        check_writes(self.account(request), repo.namespace)
        check_writes(self.account(request), new_id.split("/")[0])
        self.hub.rename(repo.id, new_id)
        return JSONResponse({})

    async def settings(self, request: Request) -> Response:
        """Change who may see and download a repo."""
        body = await json_body(request)
        repo, _ = self.writable_repo(request)
        if "visibility" in body or "private" in body:
            repo.private = body.get("visibility") == "private" or body.get("private") is True
        gated = body.get("gated", repo.gated)
        if gated not in (False, "auto", "manual"):
            raise HubError('"gated" must be false, "auto" or "manual"')
        repo.gated = gated if isinstance(gated, str) else False
        return JSONResponse({"private": repo.private, "gated": repo.gated})

    async def auth_check(self, request: Request) -> Response:
        """Tell whether the asker may download."""
        check_downloads(self.account(request), self.repo(request))
        return Response("OK")

    def _owned(self, request: Request, body: Mapping[str, object]) -> str:
        """Return the id of the repo named in the body, in a namespace of the asker's."""
        if body.get("type") not in (None, "model"):
            raise HubError("This server has model repos only.")
        account = self.account(request)
        organization = body.get("organization")
        namespace = organization if isinstance(organization, str) else account and account.name
        check_writes(account, namespace or "")
        return f"{namespace}/{text(body, 'name')}"
