"""The control API's server: Starlette on Hypercorn's trio worker, in the node's nursery. Loopback only.

| request                              | does                                                                    |
| ------------------------------------ | ----------------------------------------------------------------------- |
| GET /info, /statistics               | what the node is, and its counters                                      |
| POST /stop                           | stops the node cleanly                                                  |
| GET /channels, /channels/{id}        | its channels; ids may be shortened to an unambiguous beginning          |
| POST /channels                       | opens one                                                               |
| POST /channels/{id}/deposit, withdraw, close, force-close |                                                    |
| POST /payments                       | pays, and answers with the receipt                                      |
| GET /streams                         | the pending streams, in both directions                                 |
| POST /channels/{id}/streams          | opens a stream                                                          |
| POST /channels/{id}/streams/{lock}/pay, close | pays units of a stream of ours, ends it                        |
| GET /balance?asset=                  | on chain and in channels                                                |
| GET /peers, POST /peers              | who is known; connects                                                  |
| GET /incoming?after=&limit=&channel= | received payments behind a cursor; wait=20: if there is none, waits so   |
|                                      | many seconds for one; follow=true: as NDJSON, for ever                  |
| invoices, payments over several hops | see `network`                                                           |

Rules: every request needs the bearer token, compared in constant time, before anything else is looked at. Bodies are
bounded. Until the node has reached its chain, only reading is answered, and stopping. What takes long is done by the
node and not by the request: it goes on if the client leaves. With `wait: false` it is answered with 202 as soon as it
is on its way; what goes wrong after that is in `/info`'s alarms.
Errors are `{"error": {"code", "text"}}`; nobody matches on the text.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Entropy, PeerAddress, system_entropy
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import describe, views
from tallystick.sdk.control.connections import ConnectionLimit
from tallystick.sdk.control.files import announced
from tallystick.sdk.control.http import (
    StartupCheck,
    TokenCheck,
    answer,
    http_fault,
    make_route,
    place_of,
    read_body,
    whole_number,
)
from tallystick.sdk.control.lookup import channel_to_pay, find_channel, parse_asset, parse_peer
from tallystick.sdk.control.network import NetworkRoutes
from tallystick.sdk.control.streams import StreamRoutes
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.node.incoming import ReceivedPayments
from tallystick.sdk.node.known_peers import known_peers
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.places import write_place

PAGE_MAX = 1_000
"""Received payments in one answer."""

WAIT_MAX = 60
"""Seconds that a request for received payments may ask to wait for one."""

CONNECT_SECONDS = 30.0
"""How long a peer may take to be reached before the request is answered with an error; the node keeps trying."""

PROMPT_SECONDS = 0.25
"""With `wait: false`: how long an operation may take to be refused in the answer rather than in an alarm."""

FAILURES_KEPT = 100
"""Failed operations that nobody waited for and that `/info` still tells of."""

STUCK_SECONDS = 10.0
"""How long a client may leave what is sent to it unread. Hypercorn shields its sends from cancellation, so a client
that never reads would keep the node from stopping."""

IDLE_SECONDS = 30.0
"""How long a connection may be idle. Much longer than our client uses one again, so that both never part at once."""

GRACE = 1.0
"""Seconds that requests on their way may take when the node stops."""


class ControlServer:
    """A running control server."""

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self.node = node
        self.url = ""
        self.stop_asked = trio.Event()
        """Set when a client asked the node to stop."""
        self._nursery = nursery
        self._failures: deque[Alarm] = deque(maxlen=FAILURES_KEPT)

    def app(self) -> Starlette:
        """Return the application, without the check of the token."""
        routes = [
            make_route("GET", "/info", self._info),
            make_route("GET", "/statistics", self._statistics),
            make_route("POST", "/stop", self._stop),
            make_route("GET", "/channels", self._list),
            make_route("POST", "/channels", self._open),
            make_route("GET", "/channels/{id}", self._show),
            make_route("POST", "/channels/{id}/deposit", self._deposit),
            make_route("POST", "/channels/{id}/withdraw", self._withdraw),
            make_route("POST", "/channels/{id}/close", self._close),
            make_route("POST", "/channels/{id}/force-close", self._force_close),
            make_route("POST", "/payments", self._pay),
            make_route("GET", "/balance", self._balance),
            make_route("GET", "/peers", self._peers),
            make_route("POST", "/peers", self._connect),
            make_route("GET", "/incoming", self._incoming),
            *StreamRoutes(self).routes(),
            *NetworkRoutes(self).routes(),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_fault})
        app.state.note_fault = self.note_fault
        return app

    def note_fault(self, what: str, error: Exception) -> None:
        """Raise the alarm for a fault of the program that a request met: where it is, and nothing secret."""
        self._raise(Alarm(AlarmKind.PROGRAM_FAULT, f"cannot {what}: a fault of this program, {place_of(error)}"))

    def _raise(self, alarm: Alarm) -> None:
        self._failures.append(alarm)
        self.node.on_alarm(alarm)

    # --- the node ------------------------------------------------------------------------------------------------

    async def _info(self, request: Request) -> Response:
        return answer(describe.node_info(self.node, tuple(self._failures)))

    async def _statistics(self, request: Request) -> Response:
        return answer(self.node.statistics())

    async def _stop(self, request: Request) -> Response:
        async def stop() -> None:
            self.stop_asked.set()

        response = answer({"stopping": True}, 202)
        response.background = BackgroundTask(stop)  # runs when the answer has left
        return response

    async def _balance(self, request: Request) -> Response:
        node, asset = self.node, parse_asset(request.query_params.get("asset", views.NATIVE_ASSET))
        on_chain, held = await holdings(node, asset)
        return answer(views.Balance("0x" + node.address.hex(), "0x" + asset.hex(), on_chain, held))

    # --- peers ---------------------------------------------------------------------------------------------------

    async def _peers(self, request: Request) -> Response:
        places: dict[bytes, PeerAddress | None] = {place.key: place for place in known_peers(self.node.store)}
        others = [*self.node.peers.connected(), *(bytes(channel.peer) for channel in self.node.channels)]
        for key in others:
            places.setdefault(key, None)
        return answer([describe.peer_info(self.node, key, places[key]) for key in sorted(places)])

    async def _connect(self, request: Request) -> Response:
        body = await read_body(request, views.Connect)
        place = PeerAddress.parse(body.address)
        await self._reach(place)
        return answer(describe.peer_info(self.node, place.key, place))

    async def _reach(self, place: PeerAddress) -> PublicKey:
        with trio.move_on_after(CONNECT_SECONDS):
            return await self.node.connect(place)
        raise ChannelNotReady(f"{place} was not reached in {CONNECT_SECONDS:g} s; the node keeps trying")

    # --- channels ------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        return answer([describe.channel_info(channel) for channel in self.node.channels])

    async def _show(self, request: Request) -> Response:
        return answer(describe.channel_info(find_channel(self.node, request.path_params["id"])))

    async def _open(self, request: Request) -> Response:
        body = await read_body(request, views.OpenChannel)
        place, asset = parse_peer(body.peer), parse_asset(body.asset)

        async def operation() -> views.ChannelInfo:
            peer = await self._reach(place) if isinstance(place, PeerAddress) else place
            handle = await self.node.open_channel(
                peer, body.deposit, asset=asset, challenge_period=body.challenge_period, wait=body.wait
            )
            return describe.channel_info(handle)

        return await self.perform("open a channel", operation, wait=True)

    async def _deposit(self, request: Request) -> Response:
        body = await read_body(request, views.Amount)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.deposit(body.amount)
            return describe.channel_info(handle)

        return await self.perform("deposit", operation, body.wait)

    async def _withdraw(self, request: Request) -> Response:
        body = await read_body(request, views.Amount)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.withdraw(body.amount)
            return describe.channel_info(handle)

        return await self.perform("withdraw", operation, body.wait)

    async def _close(self, request: Request) -> Response:
        body = await read_body(request, views.CloseChannel)
        handle = find_channel(self.node, request.path_params["id"])

        async def operation() -> views.ChannelInfo:
            await handle.close(timeout=body.timeout)
            return describe.channel_info(handle)

        return await self.perform("close", operation, body.wait)

    async def _force_close(self, request: Request) -> Response:
        """Answer once the decision is stored, or with `wait` once nothing is left on chain."""
        body = await read_body(request, views.CloseChannel)
        handle = find_channel(self.node, request.path_params["id"])
        if body.timeout is not None:
            raise InvalidInput("a close without the peer has no timeout: it waits for nobody")

        async def operation() -> views.ChannelInfo:
            await handle.force_close()
            if body.wait:
                await handle.wait_gone()
            return describe.channel_info(handle)

        return await self.perform("force-close", operation, wait=True)

    async def perform(self, name: str, operation: Callable[[], Awaitable[Any]], wait: bool) -> Response:
        """Do something in the node's nursery, so that it outlives the request; answer its result or 202."""
        result: Any = None
        fault: Exception | None = None
        done, left = trio.Event(), False

        async def run() -> None:
            nonlocal result, fault
            try:
                result = await operation()
            except Exception as error:  # of our own tree, or a fault of the program: it is this request's alone
                fault = error
                if left and isinstance(error, TallystickError):
                    self._raise(Alarm(AlarmKind.REQUEST_FAILED, f"cannot {name}: {error}"))
                elif left:
                    self.note_fault(name, error)
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
        return answer({"accepted": True}, 202) if left else answer(result)

    # --- payments ------------------------------------------------------------------------------------------------

    async def _pay(self, request: Request) -> Response:
        body = await read_body(request, views.CreatePayment)
        asset, memo = parse_asset(body.asset), _memo(body)
        handle = channel_to_pay(self.node, body.to, body.amount, asset, body.key)
        receipt = await handle.pay(body.amount, memo, key=body.key, timeout=body.timeout)
        return answer(describe.payment(receipt))

    async def _incoming(self, request: Request) -> Response:
        query = request.query_params
        after, limit = query.get("after", ""), whole_number("limit", query.get("limit", "100"), 1, PAGE_MAX)
        channel = find_channel(self.node, query["channel"]).id if "channel" in query else None
        payments = self.node.journal.payments(after, channel)
        if query.get("follow", "false") == "true":
            return StreamingResponse(Lines(payments), media_type="application/x-ndjson")
        page = payments.take(limit)
        if not page:
            with trio.move_on_after(whole_number("wait", query.get("wait", "0"), 0, WAIT_MAX)):
                page = [await anext(payments), *payments.take(limit - 1)]
        return answer([describe.incoming(payment) for payment in page])


def _memo(body: views.CreatePayment) -> bytes:
    if body.memo and body.memo_hex:
        raise InvalidInput("give `memo` or `memo_hex`, not both")
    try:
        return body.memo.encode() if body.memo else bytes.fromhex(body.memo_hex)
    except ValueError as error:
        raise InvalidInput("the memo is neither text nor hex") from error


class Lines:
    """Received payments as NDJSON, for ever. Not a generator, as nobody closes one when its client has gone."""

    def __init__(self, payments: ReceivedPayments) -> None:
        self._payments = payments
        self._begun = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line; at first an empty part, which makes the server send its headers."""
        if not self._begun:
            self._begun = True
            return b""
        return msgspec.json.encode(describe.incoming(await anext(self._payments))) + b"\n"


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
    sock_name = sock.getsockname()[:2]
    config.graceful_timeout = config.shutdown_timeout = GRACE
    config.keep_alive_timeout = IDLE_SECONDS
    config.loglevel = "WARNING"
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        control = ControlServer(node, nursery)
        checked_app = TokenCheck(StartupCheck(node, control.app()), token, connections)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await connections.serve(checked_app, config, sock, task_status=task_status)

        await nursery.start(run)
        control.url = f"http://{write_place(*sock_name)}"
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
        with announced(Path(directory), control.url, token):
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
