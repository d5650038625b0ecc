"""The control API's server: Starlette on Hypercorn's trio worker, in the node's nursery. Loopback only.

What it can be asked is in `operations`, and how it answers in `service`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from hypercorn.config import Config

from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Entropy, system_entropy
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control.connections import ConnectionLimit
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.http import TokenCheck
from tallystick.sdk.control.service import ControlServer
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.places import write_place

STUCK_SECONDS = 10.0
"""How long a client may leave what is sent to it unread. Hypercorn shields its sends from cancellation, so a client
that never reads would keep the node from stopping."""

IDLE_SECONDS = 30.0
"""How long a connection may be idle. Much longer than our client uses one again, so that both never part at once."""

GRACE = 1.0
"""Seconds that requests on their way may take when the node stops."""


@checked
@asynccontextmanager
async def serve_control(
    node: Node, token: str, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[ControlServer]:
    """Serve the node's control API inside the block; port 0 takes a free one.

    Raise ConfigurationError if `host` is not this machine's own, or the address cannot be used.
    """
    require_trio("serve_control")
    if not _is_loopback(host):
        raise ConfigurationError(f"the control API listens on loopback only (127.0.0.1 or ::1), not on {host}")
    config = Config()
    sock, connections = _bind(host, port), ConnectionLimit()
    config.graceful_timeout = config.shutdown_timeout = GRACE
    config.keep_alive_timeout = IDLE_SECONDS
    config.loglevel = "WARNING"
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        control = ControlServer(node, nursery, f"http://{write_place(*sock.getsockname()[:2])}")
        checked_app = TokenCheck(control.app(), token, connections)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await connections.serve(checked_app, config, sock, task_status=task_status)

        await nursery.start(run)
        try:
            yield control
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_control(
    node: Node, directory: str | Path, *, entropy: Entropy = system_entropy
) -> AsyncIterator[ControlServer]:
    """Serve the node's control API inside the block, and leave in `directory` what finds it: `tally` works on it then.

    `directory` is the node's own. Raise ConfigurationError if it cannot be written. `stop_asked` is set once somebody
    runs `tally node stop`.
    """
    token = entropy(32).hex()
    async with serve_control(node, token) as control:
        with announce(Path(directory), control.url, token):
            yield control


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket whose connections end when their client has read nothing for STUCK_SECONDS."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_SECONDS * 1000))
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"the control API cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
