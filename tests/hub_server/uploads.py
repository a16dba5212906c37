"""Endpoints for uploads: which way each file goes, and the LFS protocol, basic and multipart."""

import asyncio
import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .accounts import check_role, check_writes
from .blobs import CHUNK
from .endpoint import MODEL, Endpoint, flag, json_body, number, objects, origin, segment, text
from .errors import EntryNotFoundError, ForbiddenError, HubError
from .hub import Hub, checked_path
from .views import Json


@dataclass(frozen=True)
class _Upload:
    """An LFS object that is expected: its digest, its size and the file prefix of its parts."""

    oid: str
    size: int
    parts: Path

    def part(self, index: int) -> Path:
        return self.parts.with_name(f"{self.parts.name}.{index}")


class Uploads(Endpoint):
    """Preupload; LFS batch, upload, completion and verification."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._uploads: dict[str, _Upload] = {}

    def routes(self) -> list[Route]:
        """Return the routes of this group."""
        lfs = "/{namespace}/{name}.git/info/lfs/objects"
        return [
            Route(MODEL + "/preupload/{revision}", self.preupload, methods=["POST"]),
            Route(lfs + "/batch", self.batch, methods=["POST"]),
            Route(lfs + "/verify", self.verify, methods=["POST"]),
            Route("/lfs-uploads/{upload}", self.put_all, methods=["PUT"]),
            Route("/lfs-uploads/{upload}", self.complete, methods=["POST"]),
            Route("/lfs-uploads/{upload}/{index:int}", self.put_part, methods=["PUT"]),
        ]

    async def preupload(self, request: Request) -> Response:
        """Tell for each file whether it goes under LFS, and what the revision has there now."""
        body = await json_body(request)
        repo, commit = self.at_revision(request)
        if flag(request, "create_pr"):
            check_role(self.account(request))
        else:
            check_writes(self.account(request), repo.namespace)
        answers: list[Json] = []
        for file in objects(body, "files"):
            path = checked_path(file.get("path"))
            sample = base64.b64decode(text(file, "sample"))
            lfs = self.hub.is_lfs(
                path, number(file, "size"), sample, commit.tree.get(".gitattributes")
            )
            answer: Json = {"path": path, "uploadMode": "lfs" if lfs else "regular"}
            answer["shouldIgnore"] = False
            if path in commit.tree:
                answer["oid"] = commit.tree[path].etag
            answers.append(answer)
        return JSONResponse({"files": answers, "commitOid": commit.sha})

    async def batch(self, request: Request) -> Response:
        """Tell for each LFS object how to upload it; nothing for those stored already."""
        body = await json_body(request)
        repo = self.repo(request)
        # Without a ref it is for a pull request, which everybody who may read can open.
        if "ref" in body:
            check_writes(self.account(request), repo.namespace)
        else:
            check_role(self.account(request))
        settings = self.hub.settings
        asked = objects(body, "objects")
        many = any(number(item, "size") > settings.multipart_threshold for item in asked)
        answers = [self._instructions(request, repo.id, item) for item in asked]
        return JSONResponse(
            {"transfer": "multipart" if many else "basic", "objects": answers},
            media_type="application/vnd.git-lfs+json",
        )

    async def put_all(self, request: Request) -> Response:
        """Take a whole object."""
        upload = self._upload(request)
        path = upload.part(0)
        digest, size = await _receive(request, path)
        self._keep(upload, path, digest, size)
        return Response()

    async def put_part(self, request: Request) -> Response:
        """Take one part of an object and answer with its tag."""
        upload = self._upload(request)
        digest, _ = await _receive(request, upload.part(request.path_params["index"]))
        return Response(headers={"ETag": f'"{digest[:32]}"'})

    async def complete(self, request: Request) -> Response:
        """Put the parts together."""
        upload = self._upload(request)
        body = await json_body(request)
        parts = []
        for item in objects(body, "parts"):
            path = upload.part(number(item, "partNumber"))
            if not path.exists() or text(item, "etag") != f'"{_digest(path)[:32]}"':
                raise HubError(f"Part {item['partNumber']} is missing or differs from its etag")
            parts.append(path)
        whole = upload.part(0)
        digest, size = await asyncio.to_thread(_join, parts, whole)
        self._keep(upload, whole, digest, size)
        for path in parts:
            path.unlink()
        return JSONResponse({"success": True})

    async def verify(self, request: Request) -> Response:
        """Tell whether an object has arrived."""
        body = await json_body(request)
        check_role(self.account(request))
        self.repo(request)
        blob = self.hub.store.find(text(body, "oid"))
        if blob is None or blob.size != number(body, "size"):
            raise EntryNotFoundError(
                f"LFS object {body['oid']} of {body['size']} bytes is not stored"
            )
        return JSONResponse({})

    def _instructions(self, request: Request, repo_id: str, item: Mapping[str, object]) -> Json:
        oid, size = text(item, "oid"), number(item, "size")
        answer: Json = {"oid": oid, "size": size}
        if self.hub.store.find(oid) is not None:
            return answer
        key = uuid.uuid4().hex
        self._uploads[key] = _Upload(oid, size, self.hub.store.incoming / key)
        href = f"{origin(request)}/lfs-uploads/{key}"
        header: Json = {}
        if size > self.hub.settings.multipart_threshold:
            step = self.hub.settings.part_size
            count = -(-size // step)
            header = {f"{index:05d}": f"{href}/{index}" for index in range(1, count + 1)}
            header["chunk_size"] = str(step)
        verify = f"{origin(request)}/{repo_id}.git/info/lfs/objects/verify"
        answer["actions"] = {"upload": {"href": href, "header": header}, "verify": {"href": verify}}
        return answer

    def _upload(self, request: Request) -> _Upload:
        upload = self._uploads.get(segment(request, "upload"))
        if upload is None:
            raise ForbiddenError("The upload address is not one that this server gave.")
        return upload

    def _keep(self, upload: _Upload, path: Path, digest: str, size: int) -> None:
        if (digest, size) != (upload.oid, upload.size):
            path.unlink()
            raise HubError(
                f"Uploaded content has sha256 {digest} and {size} bytes; "
                f"{upload.oid} and {upload.size} bytes were announced."
            )
        self.hub.store.adopt(path, digest)


async def _receive(request: Request, path: Path) -> tuple[str, int]:
    """Write the body to a file; an aborted one leaves nothing. Return its SHA-256 and size."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    digest, size = hashlib.sha256(), 0
    try:
        with partial.open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest(), size


def _join(parts: list[Path], whole: Path) -> tuple[str, int]:
    """Concatenate files. Return the SHA-256 and size of the result."""
    digest, size = hashlib.sha256(), 0
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                while piece := source.read(CHUNK):
                    target.write(piece)
                    digest.update(piece)
                    size += len(piece)
    return digest.hexdigest(), size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
