"""The application behind a Unix socket, for the engine's four connections: consensus, mempool, queries, snapshots.

Each request is answered in order on its connection, and all of them one at a time. What is no ABCI ends its connection,
with the reason as the last message; a fault of the ledger ends the whole server, as a validator that cannot be right
must stop. The socket is in a folder that nobody else can enter: whoever speaks here decides on blocks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import trio

from tallystick.channels.errors import MalformedMessage, TallystickError
from tallystick.settlement.replicated.answers import answer
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.frames import FrameReader, write_frame
from tallystick.settlement.replicated.schema import read_request, write_response

CONNECTIONS_MAX = 16
"""The engine takes four."""

_CHUNK = 262_144


async def serve_application(
    app: Application,
    path: Path,
    *,
    on_commit: Callable[[], None],
    on_refused: Callable[[str], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. `on_commit` is called after each block, `on_refused` with what ended a connection.

    `path` is where the socket is made. Raise what the ledger raises.
    """
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listener.bind(str(path))
    listener.listen(CONNECTIONS_MAX)

    async def connection(stream: trio.SocketStream) -> None:
        await _serve_connection(app, stream, on_commit, on_refused)

    task_status.started()
    await trio.serve_listeners(connection, [trio.SocketListener(listener)])


async def _serve_connection(
    app: Application, stream: trio.SocketStream, on_commit: Callable[[], None], on_refused: Callable[[str], None]
) -> None:
    reader = FrameReader()
    try:
        async with stream:
            while data := await stream.receive_some(_CHUNK):
                answers = bytearray()
                try:
                    for frame in reader.feed(data):
                        name, request = read_request(frame)
                        answers += write_frame(answer(app, name, request))
                        if name == "commit":
                            on_commit()
                except MalformedMessage as error:
                    on_refused(str(error))
                    await stream.send_all(bytes(answers) + write_frame(write_response("exception", error=str(error))))
                    return
                except TallystickError as error:
                    with trio.move_on_after(1):
                        await stream.send_all(write_frame(write_response("exception", error=str(error))))
                    raise
                await stream.send_all(bytes(answers))
            if not reader.is_between:
                on_refused("the engine's connection ended in the midst of a message")
    except trio.BrokenResourceError:
        on_refused("the engine's connection broke")
