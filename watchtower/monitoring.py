"""A tower over HTTP, for whoever keeps an eye on it: `GET /metrics`, `/healthz` and `/readyz`.

No token is asked for, as there is nothing secret in any of them.

What is answered is the status that the tower made last (`STATUS_EVERY`): a scrape looks at nothing of the tower itself,
takes no turn of its disk, and its text is made once per status however often it is asked for. All of it together takes
a bounded part of the loop's time, and a bounded number of connections.
"""

from __future__ import annotations

import importlib.metadata
import math
import socket
from collections.abc import Callable

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tallystick.channels.errors import InvalidInput
from tallystick.channels.transport.connection_limit import ConnectionLimit
from tallystick.channels.transport.turns import Turns
from tallystick.channels.transport.webserver import bind
from tallystick.watchtower.figures import STATUS_OLD, TowerStatus, unready
from tallystick.watchtower.metrics import CONTENT_TYPE, exposition

MONITORS_MAX = 16
"""Connections of those who ask; one more ends the oldest of the address with the most."""

MONITORS_PART = 0.02
"""Of the loop's time, what answering them takes at most."""

ANSWER_SECONDS = 0.001
"""What an answer costs beside its text, about: a request is read before anybody can tell what it asks for."""

STUCK_SECONDS = 10.0
"""How long a client may leave what is sent to it unread. Hypercorn shields its sends from cancellation, so one that
never reads would keep the tower from stopping."""

IDLE_SECONDS = 75.0
"""How long a connection may be idle: longer than it mostly takes until the next scrape."""


class Board:
    """Where a tower puts its newest status, for others to read."""

    def __init__(self) -> None:
        self.status: TowerStatus | None = None
        self._at = -math.inf

    def put(self, status: TowerStatus) -> None:
        """Replace what is there."""
        self.status, self._at = status, trio.current_time()

    @property
    def age(self) -> float:
        """How old it is, in seconds."""
        return trio.current_time() - self._at


class Monitor:
    """Answers what is asked of a tower, by what is on its board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._turns = Turns(MONITORS_PART)
        self._version = importlib.metadata.version("tallystick")
        self._made: tuple[TowerStatus | None, bytes] | None = None
        """The newest text, and of which status it is."""

    def app(self) -> Starlette:
        """Return the application."""
        found = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness}
        app = Starlette(routes=[Route(path, self._in_turn(answer)) for path, answer in found.items()])
        app.router.redirect_slashes = False
        return app

    def _in_turn(self, answer: Callable[[], Response]) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            async with self._turns.turn(""):
                self._turns.charge(ANSWER_SECONDS)
                return answer()

        return endpoint

    def _metrics(self) -> Response:
        status = self._board.status
        if self._made is None or self._made[0] is not status:
            self._made = (status, exposition(status, self._version))
        return Response(self._made[1], headers={"content-type": CONTENT_TYPE})

    def _health(self) -> Response:
        if self._board.age > STATUS_OLD:
            return PlainTextResponse(f"it has said nothing of itself for {STATUS_OLD:g} seconds\n", 503)
        return PlainTextResponse("it runs\n")

    def _readiness(self) -> Response:
        reasons = unready(self._board.status)
        if reasons:
            return PlainTextResponse("".join(f"{reason}\n" for reason in reasons), 503)
        return PlainTextResponse("it is ready\n")


def open_door(host: str, port: int) -> socket.socket:
    """Return a socket that is bound there, port 0 to a free one; raise InvalidInput if that cannot be."""
    try:
        door = bind(host, port)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_SECONDS * 1_000))
        return door
    except OSError as error:
        raise InvalidInput(f"metrics cannot be served at {host}:{port}: {error.strerror or error}") from error


async def serve_monitor(
    board: Board, door: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer what is asked on a bound socket, until cancelled."""
    config = Config()
    config.keep_alive_timeout = IDLE_SECONDS
    config.graceful_timeout = config.shutdown_timeout = 0.0
    config.loglevel = "WARNING"
    config.include_server_header = False
    await ConnectionLimit(MONITORS_MAX).serve(Monitor(board).app(), config, door, task_status=task_status)
