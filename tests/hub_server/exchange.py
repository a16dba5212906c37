"""One request on its connection, as a fault sees it."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_GRACE = 0.02


class ConnectionGoneError(Exception):
    """The connection was closed, by the client or by a fault."""


class Transport(Protocol):
    """What is needed of `asyncio.Transport`."""

    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be."""

    def close(self) -> None:
        """Send what is buffered, then close."""

    def abort(self) -> None:
        """Close at once."""

    def get_extra_info(self, name: str) -> socket.socket:
        """Return the socket, for the name `socket`."""


@dataclass(frozen=True)
class Exchange:
    """An ASGI request with the means to cut its connection."""

    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    transport: Transport

    async def answer(self, *, send: Send | None = None, receive: Receive | None = None) -> None:
        """Let the server answer, through other channels if given."""
        await self.app(self.scope, receive or self.receive, send or self.send)

    async def cut(self, *, reset: bool) -> None:
        """Close the connection: with a TCP reset, or orderly after what was sent.

        Raises:
            ConnectionGoneError: always, so that nothing goes on with the request.
        """
        if reset:
            # A reset makes the client's kernel drop what was not read yet.
            await asyncio.sleep(_GRACE)
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self.transport.close()
        raise ConnectionGoneError

    async def gone(self) -> None:
        """Wait until the server has noticed that the connection is closed."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def drain(self) -> None:
        """Read the request body to its end and drop it."""
        while (await self.receive()).get("more_body", False):
            pass
