"""Connections over HTTP: bounded for whoever has not shown the token, of which anybody on this machine may try.

Hypercorn serves each connection, and takes as many as come. So the connections are taken here: those on which the token
was shown are the owner's (the control API has one, a tower's metrics have none); of all others there are a bounded
number, one more ends the oldest, and refusals take a bounded part of the loop's time.
"""

from __future__ import annotations

import socket
from typing import Any

import trio
from hypercorn.config import Config
from starlette.types import ASGIApp

from tallystick.channels.transport.descriptors import CONTROL_STRANGERS_MAX
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.turns import Turns
from tallystick.channels.transport.webserver import WebServer

REFUSALS_PART = 0.05
"""Of the loop's time, what requests without the token take at most."""

REFUSAL_SECONDS = 0.001
"""What one of them costs, about: it is read before anybody can know that it lacks the token."""

Client = tuple[Any, ...]
"""Host and port of a connection's other end."""


class ConnectionLimit:
    """Which connections have shown the token, and the turns of those that have not."""

    def __init__(self, strangers: int = CONTROL_STRANGERS_MAX) -> None:
        self.guests = Guests(strangers)
        """Connections that may not have shown it yet."""
        self._trusted: set[Client] = set()
        self._turns = Turns(REFUSALS_PART)

    def trust(self, client: Client) -> None:
        """The token was shown on this connection."""
        self._trusted.add(tuple(client))

    async def refuse(self) -> None:
        """Wait for the turn to refuse a request."""
        async with self._turns.turn(""):
            self._turns.charge(REFUSAL_SECONDS)

    async def serve(
        self, app: ASGIApp, config: Config, sock: socket.socket, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Take connections on a bound socket until cancelled."""
        server = WebServer(app, config)

        async def connection(stream: trio.SocketStream) -> None:
            try:
                client = tuple(stream.socket.getpeername()[:2])
            except OSError:
                client = ()
            with trio.CancelScope() as scope:
                guest = Guest("", lambda: Rank.PARTNER if client in self._trusted else Rank.STRANGER, scope.cancel)
                self.guests.admit(guest)
                try:
                    await server.connection(stream)
                finally:
                    self.guests.leave(guest)
                    self._trusted.discard(client)

        sock.listen(config.backlog)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        task_status.started()
        await trio.serve_listeners(connection, [listener])
