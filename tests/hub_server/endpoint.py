"""What every group of endpoints needs: the hub, who asks, and for what."""

import json
from collections.abc import Mapping
from urllib.parse import unquote

from starlette.requests import Request

from .accounts import Account, check_writes
from .errors import HubError
from .hub import Hub
from .repos import Commit, Repo

MODEL = "/api/models/{namespace}/{name}"


class Endpoint:
    """Base of the groups; a handler is an async method from request to response."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def account(self, request: Request) -> Account | None:
        """Return who asks, None for nobody in particular."""
        return self.hub.accounts.identify(request.headers.get("authorization"))

    def repo(self, request: Request) -> Repo:
        """Return the repo of the path, if the asker may see it."""
        repo_id = f"{request.path_params['namespace']}/{request.path_params['name']}"
        return self.hub.find(repo_id, self.account(request))

    def writable_repo(self, request: Request) -> tuple[Repo, Account]:
        """Return the repo of the path, if the asker may change it, and the asker."""
        repo = self.repo(request)
        return repo, check_writes(self.account(request), repo.namespace)

    def at_revision(self, request: Request) -> tuple[Repo, Commit]:
        """Return the repo of the path and the commit of its revision, `main` without one."""
        with self.hub.lock:
            repo = self.repo(request)
            return repo, repo.resolve(segment(request, "revision") or "main")


def segment(request: Request, name: str) -> str:
    """Return an unquoted part of the path, empty if the route has none of that name."""
    return unquote(request.path_params.get(name, ""))


def origin(request: Request) -> str:
    """Return scheme, host and port as the client wrote them."""
    return f"http://{request.headers['host']}"


def flag(request: Request, name: str) -> bool:
    """Return whether a query parameter is on."""
    return request.query_params.get(name, "false").lower() in ("true", "1")


def several(request: Request, name: str) -> list[str]:
    """Return the values of a parameter given as `name=a&name=b`, `name[]=a` or `name=a,b`."""
    values = request.query_params.getlist(name) + request.query_params.getlist(f"{name}[]")
    return [part for value in values for part in value.split(",") if part]


async def json_body(request: Request) -> Mapping[str, object]:
    """Return the JSON object that was sent.

    Raises:
        HubError: if it is not one.
    """
    return json_object(await request.body())


def json_object(text: bytes) -> Mapping[str, object]:
    """Return the JSON object in a text.

    Raises:
        HubError: if it is not one.
    """
    try:
        value = json.loads(text or b"{}")
    except ValueError as error:
        raise HubError(f"Invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise HubError("Invalid JSON: an object was expected")
    return value


def text(body: Mapping[str, object], name: str) -> str:
    """Return a string of a JSON object.

    Raises:
        HubError: if it is missing or something else.
    """
    value = body.get(name)
    if not isinstance(value, str):
        raise HubError(f'"{name}" must be a string')
    return value


def number(body: Mapping[str, object], name: str) -> int:
    """Return an integer of a JSON object.

    Raises:
        HubError: if it is missing or something else.
    """
    value = body.get(name)
    if not isinstance(value, int):
        raise HubError(f'"{name}" must be an integer')
    return value


def objects(body: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """Return a list of JSON objects.

    Raises:
        HubError: if it is missing or something else.
    """
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise HubError(f'"{name}" must be a list of objects')
    return value
