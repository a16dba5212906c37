"""The commit endpoint: a stream of ndjson lines becomes one commit."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .accounts import Account, check_role, check_writes
from .blobs import Blob
from .endpoint import MODEL, Endpoint, flag, json_object, origin, segment, text
from .errors import HubError
from .hub import Message, checked_path
from .repos import Edit

_NO_LFS_OBJECT = (
    "Your push was rejected because an LFS pointer pointed to a file that does not exist."
)


class Commits(Endpoint):
    """Commits on branches and pull requests."""

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        return [Route(MODEL + "/commit/{revision}", self.commit, methods=["POST"])]

    async def commit(self, request: Request) -> Response:
        """Make one commit of all operations sent, or none."""
        new_pull = flag(request, "create_pr")
        author = self._author(request, new_pull=new_pull)
        message, edits = await self._read(request, author)
        ref = segment(request, "revision")
        with self.hub.lock:
            repo = self.repo(request)
            if new_pull:
                number, commit = self.hub.open_pull(repo, ref, edits, message)
            else:
                number, commit = "", self.hub.commit(repo, ref, edits, message)
        url = f"{origin(request)}/{repo.id}"
        view = {"success": True, "commitOid": commit.sha, "commitUrl": f"{url}/commit/{commit.sha}"}
        if new_pull:
            view["pullRequestUrl"] = f"{url}/discussions/{number}"
        return JSONResponse(view)

    def _author(self, request: Request, *, new_pull: bool) -> Account:
        repo, account = self.repo(request), self.account(request)
        return check_role(account) if new_pull else check_writes(account, repo.namespace)

    async def _read(self, request: Request, author: Account) -> tuple[Message, list[Edit]]:
        message: Message | None = None
        edits: list[Edit] = []
        async for line in _lines(request):
            operation = json_object(line)
            value = operation.get("value")
            if not isinstance(value, dict):
                raise HubError('"value" must be an object')
            if operation.get("key") == "header":
                message = _message(value, author)
            else:
                edits.append(self._edit(operation.get("key"), value))
        if message is None:
            raise HubError("A commit needs a header")
        return message, edits

    def _edit(self, key: object, value: Mapping[str, object]) -> Edit:
        path = checked_path(value.get("path"))
        if key == "file":
            return Edit(path, self.hub.store.add_regular(_content(value)))
        if key == "lfsFile":
            return Edit(path, self._lfs(value))
        if key == "deletedFile":
            return Edit(path, None)
        if key == "deletedFolder":
            return Edit(path.rstrip("/") + "/", None)
        raise HubError(f"Unknown operation: {key}")

    def _lfs(self, value: Mapping[str, object]) -> Blob:
        blob = self.hub.store.find(text(value, "oid"))
        if blob is None or value.get("size", blob.size) != blob.size:
            raise HubError(_NO_LFS_OBJECT)
        return blob


def _message(value: Mapping[str, object], author: Account) -> Message:
    description, parent = value.get("description", ""), value.get("parentCommit")
    if not isinstance(description, str) or not isinstance(parent, str | None):
        raise HubError('"description" and "parentCommit" must be strings')
    return Message(text(value, "summary"), description, author.name, parent)


def _content(value: Mapping[str, object]) -> bytes:
    content = text(value, "content")
    if value.get("encoding") != "base64":
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise HubError(f"Invalid base64 of {value.get('path')}") from error


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """Yield the non-empty lines of the body while it arrives."""
    rest = bytearray()
    async for piece in request.stream():
        rest += piece
        if b"\n" in piece:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in filter(None, lines):
                yield line
    if rest:
        yield bytes(rest)
