"""An ASGI application behind Hypercorn on trio, so that nothing a client sends ends more than its own connection.

Hypercorn's own `serve` lets what its protocols raise end all connections and the program with them. So connections are
taken here, and Hypercorn is given one at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

Application = Callable[..., Awaitable[None]]
"""An ASGI 3 application."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound there (port 0: any free one), for `WebServer.serve`: answers leave at once."""
    bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


class WebServer:
    """One application, served connection by connection."""

    def __init__(self, app: Application, config: Config) -> None:
        """`config` says how: time-outs, log, headers. What it says of where is not looked at."""
        self._config = config
        self._context = WorkerContext(None)
        self._app: Any = wrap_app(app, config.wsgi_max_body_size, "asgi")

    async def connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection until it ends."""
        try:  # Hypercorn's types know of TLS streams alone
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), stream)  # type: ignore[arg-type]
        except Exception:  # whatever Hypercorn stumbles over is the fault of who sent it
            await trio.aclose_forcefully(stream)

    async def serve(
        self,
        listener: socket.socket,
        *,
        stop: Callable[[], Awaitable[None]] | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take connections on a bound socket until `stop` returns or this is cancelled.

        After `stop`, requests on their way have the configuration's `graceful_timeout` (seconds) to end.
        """
        listener.listen(self._config.backlog)
        place = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as taking:
                taking.start_soon(partial(trio.serve_listeners, self.connection, [place], handler_nursery=connections))
                task_status.started()
                if stop is not None:
                    await stop()
                    taking.cancel_scope.cancel()
            await self._context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + self._config.graceful_timeout
