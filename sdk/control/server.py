"""The control API's server: Starlette on Hypercorn's trio worker, in the node's nursery. Loopback only.

| request                              | does                                                                    |
| ------------------------------------ | ----------------------------------------------------------------------- |
| GET /info, /statistics               | what the node is, and its counters                                      |
| POST /stop                           | stops the node cleanly                                                  |
| GET /channels, /channels/{id}        | its channels; ids may be shortened to an unambiguous beginning          |
| POST /channels                       | opens one                                                               |
| POST /channels/{id}/deposit, withdraw, close, force-close |                                                    |
| POST /payments                       | pays, and answers with the receipt                                      |
| GET /balance?asset=                  | on chain and in channels                                                |
| GET /peers, POST /peers              | who is known; connects                                                  |
| GET /incoming?after=&limit=&channel= | received payments behind a cursor; follow=true: as NDJSON, for ever     |

Rules: every request needs the bearer token, compared in constant time, before anything else is looked at. Bodies are
bounded. What takes long is done by the node and not by the request: it goes on if the client leaves. With `wait: false`
it is answered with 202 as soon as it is on its way; what goes wrong after that is in `/info`'s alarms.
Errors are `{"error": {"code", "text"}}`; nobody matches on the text.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.keys import PublicKey
from tallystick.channels.ports import PeerAddress
from tallystick.sdk.control import describe, views
from tallystick.sdk.control.faults import Malformed, status_of
from tallystick.sdk.control.lookup import channel_to_pay, find_channel, parse_asset, parse_peer
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.incoming import IncomingPayment
from tallystick.sdk.known_peers import known_peers
from tallystick.sdk.node import Node

BODY_MAX = 16_384
"""Bytes of one request's body."""

PAGE_MAX = 1_000
"""Received payments in one answer."""

CONNECT_SECONDS = 30.0
"""How long a peer may take to be reached before the request is answered with an error; the node keeps trying."""

PROMPT_SECONDS = 0.25
"""With `wait: false`: how long an operation may take to be refused in the answer rather than in an alarm."""

FAILURES_KEPT = 100
"""Failed operations that nobody waited for and that `/info` still tells of."""

GRACE = 1.0
"""Seconds that requests on their way may take when the node stops."""

Body = TypeVar("Body", bound=msgspec.Struct)


class Control:
    """A running control server."""

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self.node = node
        self.url = ""
        self.stop_asked = trio.Event()
        """Set when a client asked the node to stop."""
        self._nursery = nursery
        self._failures: deque[str] = deque(maxlen=FAILURES_KEPT)

    def app(self) -> Starlette:
        """Return the application, without the guard."""
        routes = [
            _route("GET", "/info", self._info),
            _route("GET", "/statistics", self._statistics),
            _route("POST", "/stop", self._stop),
            _route("GET", "/channels", self._list),
            _route("POST", "/channels", self._open),
            _route("GET", "/channels/{id}", self._show),
            _route("POST", "/channels/{id}/deposit", self._deposit),
            _route("POST", "/channels/{id}/withdraw", self._withdraw),
            _route("POST", "/channels/{id}/close", self._close),
            _route("POST", "/channels/{id}/force-close", self._force_close),
            _route("POST", "/payments", self._pay),
            _route("GET", "/balance", self._balance),
            _route("GET", "/peers", self._peers),
            _route("POST", "/peers", self._connect),
            _route("GET", "/incoming", self._incoming),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_fault})

    # --- the node ------------------------------------------------------------------------------------------------

    async def _info(self, request: Request) -> Response:
        return _answer(describe.node_info(self.node, tuple(self._failures)))

    async def _statistics(self, request: Request) -> Response:
        return _answer(self.node.statistics())

    async def _stop(self, request: Request) -> Response:
        self.stop_asked.set()
        return _answer({"stopping": True}, 202)

    async def _balance(self, request: Request) -> Response:
        node, asset = self.node, parse_asset(request.query_params.get("asset", views.NATIVE_ASSET))
        held = sum(c.balances[0] for c in node.channels if c.asset == asset and not describe.is_paid_out(c))
        on_chain = await node.balance(asset)
        return _answer(views.Balance("0x" + node.address.hex(), "0x" + asset.hex(), on_chain, held))

    # --- peers ---------------------------------------------------------------------------------------------------

    async def _peers(self, request: Request) -> Response:
        places: dict[bytes, PeerAddress | None] = {place.key: place for place in known_peers(self.node.store)}
        others = [*self.node.peers.connected(), *(bytes(channel.peer) for channel in self.node.channels)]
        for key in others:
            places.setdefault(key, None)
        return _answer([describe.peer_info(self.node, key, places[key]) for key in sorted(places)])

    async def _connect(self, request: Request) -> Response:
        body = await _body(request, views.Connect)
        place = PeerAddress.parse(body.address)
        await self._reach(place)
        return _answer(describe.peer_info(self.node, place.key, place))

    async def _reach(self, place: PeerAddress) -> PublicKey:
        with trio.move_on_after(CONNECT_SECONDS):
            return await self.node.connect(place)
        raise ChannelNotReady(f"{place} was not reached in {CONNECT_SECONDS:g} s; the node keeps trying")

    # --- channels ------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        return _answer([describe.channel_info(channel) for channel in self.node.channels])

    async def _show(self, request: Request) -> Response:
        return _answer(describe.channel_info(find_channel(self.node, request.path_params["id"])))

    async def _open(self, request: Request) -> Response:
        body = await _body(request, views.OpenChannel)
        place, asset = parse_peer(body.peer), parse_asset(body.asset)

        async def operation() -> views.ChannelInfo:
            peer = await self._reach(place) if isinstance(place, PeerAddress) else place
            handle = await self.node.open_channel(
                peer, body.deposit, asset=asset, challenge_period=body.challenge_period, wait=body.wait
            )
            return describe.channel_info(handle)

        return await self._perform("open a channel", operation, wait=True)

    async def _deposit(self, request: Request) -> Response:
        body = await _body(request, views.Amount)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.deposit(body.amount)
            return describe.channel_info(handle)

        return await self._perform("deposit", operation, body.wait)

    async def _withdraw(self, request: Request) -> Response:
        body = await _body(request, views.Amount)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.withdraw(body.amount)
            return describe.channel_info(handle)

        return await self._perform("withdraw", operation, body.wait)

    async def _close(self, request: Request) -> Response:
        body = await _body(request, views.Close)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.close()
            return describe.channel_info(handle)

        return await self._perform("close", operation, body.wait)

    async def _force_close(self, request: Request) -> Response:
        """Answer once the decision is stored, or with `wait` once nothing is left on chain."""
        body = await _body(request, views.Close)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.force_close()
            if body.wait:
                await handle.wait_gone()
            return describe.channel_info(handle)

        return await self._perform("force-close", operation, wait=True)

    async def _perform(self, name: str, operation: Callable[[], Awaitable[Any]], wait: bool) -> Response:
        """Do something in the node's nursery, so that it outlives the request; answer its result or 202."""
        result: Any = None
        fault: TallystickError | None = None
        done, left = trio.Event(), False

        async def run() -> None:
            nonlocal result, fault
            try:
                result = await operation()
            except TallystickError as error:
                fault = error
                if left:
                    self._failures.append(f"cannot {name}: {error}")
            done.set()

        self._nursery.start_soon(run)
        try:
            if wait:
                await done.wait()
            else:
                with trio.move_on_after(PROMPT_SECONDS):
                    await done.wait()
        finally:
            left = not done.is_set()
        if fault is not None:
            raise fault
        return _answer({"accepted": True}, 202) if left else _answer(result)

    # --- payments ------------------------------------------------------------------------------------------------

    async def _pay(self, request: Request) -> Response:
        body = await _body(request, views.Pay)
        asset, memo = parse_asset(body.asset), _memo(body)
        handle = channel_to_pay(self.node, body.to, body.amount, asset, body.key)
        receipt = await handle.pay(body.amount, memo, key=body.key)
        return _answer(describe.payment(receipt))

    async def _incoming(self, request: Request) -> Response:
        query = request.query_params
        after, limit = query.get("after", ""), _limit(query.get("limit", "100"))
        channel = find_channel(self.node, query["channel"]).id if "channel" in query else None
        payments = self.node.incoming(after, channel=channel)
        page = await _what_is_there(payments, limit)
        if query.get("follow", "false") != "true":
            return _answer([describe.incoming(payment) for payment in page])
        payments = self.node.incoming(page[-1].cursor if page else after, channel=channel)
        return StreamingResponse(_lines(page, payments), media_type="application/x-ndjson")


def _memo(body: views.Pay) -> bytes:
    if body.memo and body.memo_hex:
        raise InvalidInput("give `memo` or `memo_hex`, not both")
    try:
        return body.memo.encode() if body.memo else bytes.fromhex(body.memo_hex)
    except ValueError as error:
        raise InvalidInput("the memo is neither text nor hex") from error


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PAGE_MAX):
        raise InvalidInput(f"limit must be a whole number from 1 to {PAGE_MAX}, not {text!r}")
    return int(text)


async def _what_is_there(payments: AsyncIterator[IncomingPayment], limit: int) -> list[IncomingPayment]:
    """Take up to `limit` payments without waiting: the iterator first waits when the journal has no more."""
    page: list[IncomingPayment] = []
    with trio.move_on_after(0):
        async for payment in payments:
            page.append(payment)
            if len(page) == limit:
                break
    return page


async def _lines(page: list[IncomingPayment], payments: AsyncIterator[IncomingPayment]) -> AsyncIterator[bytes]:
    """Write payments as NDJSON. The empty part at the start makes the server send its headers."""
    yield b""
    for payment in page:
        yield msgspec.json.encode(describe.incoming(payment)) + b"\n"
    async for payment in payments:
        yield msgspec.json.encode(describe.incoming(payment)) + b"\n"


# --- requests and answers ---------------------------------------------------------------------------------------


def _route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except TallystickError as error:
            status, code = status_of(error)
            return _fault(code, str(error), status)

    return Route(path, endpoint, methods=[method])


async def _body(request: Request, kind: type[Body]) -> Body:
    """Read a JSON object of that type; raise Malformed or InvalidInput."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > BODY_MAX:
                raise Malformed(f"a request has at most {BODY_MAX} bytes", 413, "too-large")
    except ClientDisconnect as error:
        raise Malformed("the request ended early") from error
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the request is not what {request.url.path} takes: {error}") from error


def _answer(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _fault(code: str, text: str, status: int) -> Response:
    return _answer({"error": {"code": code, "text": text}}, status)


async def _http_fault(request: Request, error: Exception) -> Response:
    """Say what Starlette refuses by itself (unknown paths and methods) in the API's own form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = f"the control API has nothing like {request.method} {request.url.path}"
    return _fault("not-found" if status == 404 else "wrong-method", text, status)


class Guard:
    """Lets only requests with the bearer token through to the application behind it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(given) == 1 and hmac.compare_digest(given[0], self._expected):
                await self._app(scope, receive, send)
            else:
                text = "the request needs the header `Authorization: Bearer <the content of control.token>`"
                await _fault("unauthorized", text, 401)(scope, receive, send)


@asynccontextmanager
async def serve_control(node: Node, token: str, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Control]:
    """Serve the node's control API inside the block; port 0 takes a free one.

    Raise ConfigurationError if `host` is not this machine's own, or the address cannot be used.
    """
    if not _is_loopback(host):
        raise ConfigurationError(f"the control API listens on loopback only (127.0.0.1 or ::1), not on {host}")
    config = Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.graceful_timeout = config.shutdown_timeout = GRACE
    config.loglevel = "WARNING"
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        control = Control(node, nursery)
        guard = Guard(control.app(), token)

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(guard, config, task_status=task_status)  # type: ignore[arg-type]  # Hypercorn's own scope types

        try:
            binds = await nursery.start(run)
        except OSError as error:
            raise ConfigurationError(f"the control API cannot listen on {config.bind[0]}: {error}") from error
        control.url = binds[0]
        try:
            yield control
        finally:
            nursery.cancel_scope.cancel()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
