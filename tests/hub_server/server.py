"""The server as tests use it: start and stop, what to seed, what to look at."""

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.routing import Router
from starlette.types import Scope

from .accounts import EXPIRED_TOKEN, READ_TOKEN, STRANGER_TOKEN, WRITE_TOKEN, Account
from .commits import Commits
from .exchange import Transport
from .faults import Faults
from .files import Files
from .gateway import Gateway
from .hub import Hub, Message, Settings, checked_path
from .journal import RequestLog
from .models import Models
from .refs import Refs
from .repos import Edit, Repo
from .repositories import Repositories
from .uploads import Uploads

_START_SECONDS = 10
_GROUPS = (Repositories, Models, Refs, Commits, Uploads, Files)


class HubServer:
    """A Hub on 127.0.0.1, as a context manager; its state outlives `stop` and `start`.

    Args:
        root: folder for uploaded contents, the test's own.
        lfs_threshold: bytes from which every file goes under LFS (binary files and the suffixes
            in `.gitattributes` always do).
        multipart_threshold: bytes above which LFS objects are uploaded in parts.
        part_size: bytes of one part.
        page_size: most models in one page of a listing.
        ignore_filters: listings ignore `filter`, as poor Hub clones do.
        bare_listing: models have `tags=[]` and no card data, as with poor Hub clones.

    Attributes:
        settings: the same, changeable at any time.
        requests: the log of all requests.
        faults: where faults are injected.
        write_token, read_token: tokens of one user, `tester`, who owns every namespace.
        stranger_token: a write token of `stranger`, who owns nothing else.
        expired_token: a token that is refused.
    """

    write_token = WRITE_TOKEN
    read_token = READ_TOKEN
    stranger_token = STRANGER_TOKEN
    expired_token = EXPIRED_TOKEN

    def __init__(
        self,
        root: Path,
        *,
        lfs_threshold: int = Settings.lfs_threshold,
        multipart_threshold: int = Settings.multipart_threshold,
        part_size: int = Settings.part_size,
        page_size: int = Settings.page_size,
        ignore_filters: bool = False,
        bare_listing: bool = False,
    ) -> None:
        self.settings = Settings(
            lfs_threshold, multipart_threshold, part_size, page_size, ignore_filters, bare_listing
        )
        self.requests = RequestLog()
        self.faults = Faults()
        self._hub = Hub(root, self.settings)
        routes = [route for group in _GROUPS for route in group(self._hub).routes()]
        router = Router(routes, redirect_slashes=False)
        app = Gateway(router, self.requests, self.faults.take, self._transport_of)
        self._config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            proxy_headers=False,
            timeout_keep_alive=60,
        )
        self._port = 0
        self._running: _Running | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The endpoint, without a slash at its end; known once started."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen: on a free port, and after a `stop` on the same one again."""
        # asyncio turns Nagle's algorithm off (40 ms an answer) only where the protocol is explicit.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        self._port = listener.getsockname()[1]
        running = _Running(self._config)
        thread = threading.Thread(
            target=lambda: asyncio.run(running.serve([listener])),
            name=f"hub-server {self.url}",
            daemon=True,
        )
        self._running, self._thread = running, thread
        thread.start()
        if not running.ready.wait(_START_SECONDS):
            raise TimeoutError(f"The hub server did not start within {_START_SECONDS} s")

    def stop(self) -> None:
        """Cut all connections and refuse new ones; the state is kept. Idempotent."""
        if self._running is None or self._thread is None:
            return
        self._running.halt()
        self._thread.join()
        self._running = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def create_repo(
        self, repo_id: str, *, private: bool = False, gated: bool | str = False
    ) -> None:
        """Make a repo; as on the Hub, its first commit has a `.gitattributes`."""
        self._hub.create(repo_id, private=private, gated="auto" if gated is True else gated)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        revision: str = "main",
        message: str = "Seeded",
    ) -> str:
        """Add, change and (with None) delete files in one commit; return its sha.

        The repo and the branch are made if they are missing.
        """
        if repo_id not in self._hub.repos:
            self.create_repo(repo_id)
        repo = self._repo(repo_id)
        with self._hub.lock:
            if not repo.is_writable_ref(revision):
                repo.branches[revision] = repo.head.sha
            attributes = repo.resolve(revision).tree.get(".gitattributes")
            edits = [
                Edit(checked_path(path), self._hub.blob(path, data, attributes))
                if data is not None
                else Edit(path, None)
                for path, data in files.items()
            ]
            return self._hub.commit(repo, revision, edits, Message(message)).sha

    def bulk_seed(self, repos: Mapping[str, Mapping[str, bytes]]) -> None:
        """Make many repos at once, each with one commit: repo id to path to content."""
        with self._hub.lock:
            for repo_id, files in repos.items():
                self._hub.create(repo_id, files=files)

    def tag(self, repo_id: str, name: str, sha: str | None = None) -> None:
        """Set a tag, also one that exists, to a revision; None is the head of `main`."""
        repo = self._repo(repo_id)
        repo.tags[name] = repo.resolve(sha or "main").sha

    def set_likes(self, repo_id: str, likes: int) -> None:
        """Set the number of likes, which is also the trending score."""
        self._repo(repo_id).likes = likes

    def set_downloads(self, repo_id: str, downloads: int) -> None:
        """Set the number of downloads."""
        self._repo(repo_id).downloads = downloads

    def admit(self, repo_id: str, user: str) -> None:
        """Let a user download from a gated repo."""
        self._repo(repo_id).admitted.add(user)

    def rename(self, repo_id: str, new_id: str) -> None:
        """Give a repo another id; requests to the old one are redirected."""
        self._hub.rename(repo_id, new_id)

    def delete(self, repo_id: str) -> None:
        """Remove a repo."""
        del self._hub.repos[repo_id]

    def add_token(self, token: str, account: Account) -> None:
        """Make a token known, or change whose it is."""
        self._hub.accounts.tokens[token] = account

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """Return a file's content as it is stored."""
        return self._repo(repo_id).resolve(revision).tree[path].read()

    def head(self, repo_id: str, revision: str = "main") -> str:
        """Return the sha that a revision stands for."""
        return self._repo(repo_id).resolve(revision).sha

    def _repo(self, repo_id: str) -> Repo:
        return self._hub.repos[repo_id]

    def _transport_of(self, scope: Scope) -> Transport | None:
        """Return the connection that a request came on, None if it is closed already."""
        connections = self._running.server_state.connections if self._running else ()
        client = tuple(scope["client"])
        transports = (connection.transport for connection in connections)
        return next((t for t in transports if t.get_extra_info("peername") == client), None)


class _Running(uvicorn.Server):
    """One run of the server on its own event loop; `halt` ends it from any thread at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def halt(self) -> None:
        """Let `serve` return."""
        self._loop.call_soon_threadsafe(self._halted.set)

    async def main_loop(self) -> None:
        """Wait for `halt` instead of polling ten times a second."""
        self._loop = asyncio.get_running_loop()
        self._halted = asyncio.Event()
        await self.on_tick(0)
        self.ready.set()
        await self._halted.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut everything, and wait until it is closed."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        while self.server_state.connections:
            await asyncio.sleep(0)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
