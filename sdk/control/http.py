"""One request of the control API and its answer: the check of the token, bounded typed requests, errors as JSON."""

from __future__ import annotations

import hmac
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.channels.transport.connection_limit import ConnectionLimit
from tallystick.channels.values.argument_rules import FLAG, ArgumentRule, OneOf, Whole, refuse
from tallystick.channels.values.arguments import rule_of
from tallystick.sdk.control.faults import Malformed
from tallystick.sdk.control.views import ErrorAnswer, FaultInfo

BODY_MAX = 16_384
"""Bytes of one request's body."""

Asked = TypeVar("Asked", bound=msgspec.Struct)


def place_of(error: BaseException) -> str:
    """Say where an error comes from: its type, file and line, and not its text, which may tell secrets."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = Path(trace.tb_frame.f_code.co_filename)
    return f"{type(error).__name__} at {file.parent.name}/{file.name}:{trace.tb_lineno}"


async def read_body(request: Request, kind: type[Asked]) -> Asked:
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


def read_query(request: Request, kind: type[Asked]) -> Asked:
    """Read the query of a request; raise InvalidInput."""
    hints, given = get_type_hints(kind, include_extras=True), request.query_params
    return kind(**{name: _read_word(name, given[name], rule_of(hints[name])) for name in hints if name in given})


def _read_word(name: str, text: str, rule: ArgumentRule) -> Any:
    match rule:
        case OneOf():  # something or None, of which a query says nothing
            return _read_word(name, text, rule.rules[0])
        case Whole(low=low, high=high):
            if text.isascii() and text.isdigit() and len(text) <= 9 and (low or 0) <= int(text) <= (high or 0):
                return int(text)
            raise refuse(name, rule.expects, text)
        case _ if rule is FLAG:
            if text in ("true", "false"):
                return text == "true"
            raise refuse(name, "true or false", text)
    return text


def answer(content: Any, status: int) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def fault(code: str, text: str, status: int) -> Response:
    """Return an error as the API says it."""
    return answer(ErrorAnswer(FaultInfo(code, text)), status)


async def http_fault(request: Request, error: Exception) -> Response:
    """Say what Starlette refuses by itself (unknown paths and methods) in the API's own form."""
    assert isinstance(error, HTTPException)
    text = f"the control API has nothing like {request.method} {request.url.path}"
    response = fault("not-found" if error.status_code == 404 else "wrong-method", text, error.status_code)
    response.headers.update(error.headers or {})
    return response


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
