"""One request of the control API and its answer: the check of the token, bounded typed bodies, errors as JSON."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.channels.errors import TallystickError
from tallystick.channels.values.argument_rules import Whole, refuse
from tallystick.sdk.control.connections import ConnectionLimit
from tallystick.sdk.control.faults import Malformed, status_of
from tallystick.sdk.node.node import Node

BODY_MAX = 16_384
"""Bytes of one request's body."""

READY_SECONDS = 5.0
"""How long a request waits for a node that has just begun."""

TROUBLE_SECONDS = 0.1
"""Between two looks at whether something stands in the way of a node that has just begun."""

NEEDS_CHAIN = ("/balance",)
"""What asks the chain although it only reads."""

Body = TypeVar("Body", bound=msgspec.Struct)

_FAULT = "this request met a fault of the program ({}), and came to nothing; please report it. The node goes on"


def make_route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    """Return a route whose handler's errors become JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except TallystickError as error:
            status, code = status_of(error)
            return fault(code, str(error), status)
        except Exception as error:  # a fault of the program: this request fails, and nothing else
            request.app.state.note_fault(f"answer {method} {path}", error)
            return fault("program-fault", _FAULT.format(place_of(error)), 500)

    return Route(path, endpoint, methods=[method])


def place_of(error: BaseException) -> str:
    """Say where an error comes from: its type, file and line, and not its text, which may tell secrets."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = Path(trace.tb_frame.f_code.co_filename)
    return f"{type(error).__name__} at {file.parent.name}/{file.name}:{trace.tb_lineno}"


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Read a JSON object of that type; raise Malformed or InvalidInput."""
    body = bytearray()
    try:
        async with aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > BODY_MAX:
                    raise Malformed(f"a request has at most {BODY_MAX} bytes", 413, "too-large")
    except ClientDisconnect as error:
        raise Malformed("the request ended early") from error
    content = bytes(body) or b"{}"
    try:
        read = msgspec.json.decode(content, type=kind)
        json.loads(content, object_pairs_hook=_once)
        return read
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request is not what {request.url.path} takes: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; raise Malformed if it names something twice: readers differ in which of the two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("the request says one thing twice: give each field once")
    return found


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """Read a number of a query; raise InvalidInput if it is none, or out of bounds."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise refuse(name, Whole(least, most).expects, text)
    return int(text)


def answer(content: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def fault(code: str, text: str, status: int) -> Response:
    """Return an error as the API says it."""
    return answer({"error": {"code": code, "text": text}}, status)


async def http_fault(request: Request, error: Exception) -> Response:
    """Say what Starlette refuses by itself (unknown paths and methods) in the API's own form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = f"the control API has nothing like {request.method} {request.url.path}"
    return fault("not-found" if status == 404 else "wrong-method", text, status)


class TokenCheck:
    """Lets only requests with the bearer token through to the application behind it."""

    def __init__(self, app: ASGIApp, token: str, connections: ConnectionLimit | None = None) -> None:
        self._app = app
        self._connections = connections or ConnectionLimit()
        self._expected = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(given) == 1 and hmac.compare_digest(given[0], self._expected):
                self._connections.trust(scope.get("client") or ())
                await self._app(scope, receive, send)
            else:
                await self._connections.refuse()
                text = "the request needs the header `Authorization: Bearer <the content of control.token>`"
                await fault("unauthorized", text, 401)(scope, receive, send)


class StartupCheck:
    """Lets nothing but reading and stopping through to the application behind it while the node waits for its chain.

    Reading waits too, as long as nothing stands in the way of the start: whoever asks where a node listens that was
    started a moment ago is told, not that it will listen.
    """

    def __init__(self, node: Node, app: ASGIApp) -> None:
        self._node = node
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        await self._begin(scope)
        if not self._node.ready.is_set() and _must_wait(scope):
            with trio.move_on_after(READY_SECONDS) as timeout:
                await self._node.ready.wait()
            if timeout.cancelled_caught:
                text = f"this node waits for {self._node.waiting_for}; until then it does nothing of that kind"
                await fault("chain-unavailable", text, 503)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _begin(self, scope: Scope) -> None:
        """Wait until the node has begun, or has told of something that keeps it from beginning."""
        if scope["type"] != "http" or scope["path"] == "/stop":
            return
        with trio.move_on_after(READY_SECONDS):
            while not self._node.ready.is_set() and not self._node.alarms:
                with trio.move_on_after(TROUBLE_SECONDS):
                    await self._node.ready.wait()


def _must_wait(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"] == "/stop":
        return False
    return scope["method"] != "GET" or scope["path"] in NEEDS_CHAIN
