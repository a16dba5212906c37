"""The outermost layer: logs every request, lets faults strike, and turns refusals into answers."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import HubError, RepoMovedError
from .exchange import ConnectionGoneError, Exchange, Transport
from .journal import LoggedRequest, RequestLog


class _Action(Protocol):
    async def perform(self, exchange: Exchange) -> None: ...


class Gateway:
    """An ASGI app around the router."""

    def __init__(
        self,
        app: ASGIApp,
        journal: RequestLog,
        take_fault: Callable[[str, str], _Action | None],
        transport_of: Callable[[Scope], Transport | None],
    ) -> None:
        self._app = app
        self._journal = journal
        self._take_fault = take_fault
        self._transport_of = transport_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The router matches the path as sent: a quoted revision stays one segment.
        scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        headers = dict(scope["headers"])
        entry = self._journal.open(
            LoggedRequest(
                method=scope["method"],
                path=scope["path"],
                query=scope["query_string"].decode(),
                range=headers.get(b"range", b"").decode() or None,
            )
        )
        transport = self._transport_of(scope)
        if transport is None:
            return
        exchange = _logged(self._answer, scope, receive, send, entry, transport)
        action = self._take_fault(scope["method"], scope["path"])
        try:
            await (exchange.answer() if action is None else action.perform(exchange))
        except (ConnectionGoneError, ClientDisconnect):
            await exchange.gone()
        except asyncio.CancelledError:
            # `stop` has cut the connection; uvicorn would log a cancelled request as an error.
            return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except RepoMovedError as moved:
            path = scope["path"].replace(f"/{moved.old_id}", f"/{moved.new_id}", 1)
            query = scope["query_string"].decode()
            moved.headers["Location"] = f"{path}?{query}" if query else path
            await moved.response()(scope, receive, send)
        except HubError as error:
            await error.response()(scope, receive, send)


def _logged(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    entry: LoggedRequest,
    transport: Transport,
) -> Exchange:
    async def counting_receive() -> Message:
        message = await receive()
        entry.received += len(message.get("body", b""))
        return message

    async def counting_send(message: Message) -> None:
        if transport.is_closing():
            raise ConnectionGoneError
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        elif scope["method"] != "HEAD":
            entry.sent += len(message.get("body", b""))
        await send(message)

    return Exchange(app, scope, counting_receive, counting_send, transport)
