"""The control API's client, on httpx under trio. The `tally` command uses it, and so may any program.

    async with connect_control(directory) as node:
        receipt = await node.pay("3f9a", 5, memo="order 17")

Methods return the types of `views`. They raise InvalidInput for arguments that cannot be, NodeUnreachable if no node
answers, and ControlError, with the API's code, if the node refuses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from tallystick.channels.protocol.objects import (
    Amount,
    AnyAddress,
    AnyMemo,
    Count,
    Lifetime,
    PaymentKey,
    Seconds,
    Units,
    Whole64,
    to_memo,
)
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import views
from tallystick.sdk.control.files import find_node
from tallystick.sdk.control.network_client import NetworkCalls, written
from tallystick.sdk.errors import ControlError, NodeUnreachable

CONNECT_SECONDS = 5.0
"""How long the node may take to accept a connection. Answers may take as long as the chain does."""

IDLE_SECONDS = 2.0
"""For how long an idle connection may be used again. A node closes those that are idle for long (in version 0.1, for
five seconds), perhaps in the very moment in which the next request is sent on one."""

POLL_SECONDS = 20
"""How long a follower's question for more payments stands."""

Answer = TypeVar("Answer")


class ControlClient(NetworkCalls):
    """Talks to one running node. Make it with `connect_control` or `control_at`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def info(self) -> views.NodeInfo:
        """Return what the node is."""
        return await self._get("/info", views.NodeInfo)

    async def stop(self) -> None:
        """Ask the node to stop cleanly."""
        await self._post("/stop", None, dict[str, bool])

    async def statistics(self) -> dict[str, Any]:
        """Return the node's counters, by part."""
        return await self._get("/statistics", dict[str, Any])

    async def channels(self) -> list[views.ChannelInfo]:
        """Return all channels, gone ones included."""
        return await self._get("/channels", list[views.ChannelInfo])

    @checked
    async def channel(self, name: str) -> views.ChannelInfo:
        """Return one channel, named by an unambiguous beginning of its id."""
        return await self._get(f"/channels/{_segment(name)}", views.ChannelInfo)

    @checked
    async def open_channel(
        self,
        peer: str,
        deposit: Amount,
        *,
        asset: AnyAddress = views.NATIVE_ASSET,
        challenge_period: Count | None = None,
        wait: bool = True,
    ) -> views.ChannelInfo:
        """Open a channel and return it once it is usable (`wait=False`: once it is on its way)."""
        body = views.OpenChannel(peer, deposit, written(asset), challenge_period, wait)
        return await self._post("/channels", body, views.ChannelInfo)

    @checked
    async def deposit(self, channel: str, amount: Amount, *, wait: bool = True) -> views.ChannelInfo | None:
        """Add to our deposit; return the channel, None if it was not waited for."""
        return await self._operate(channel, "deposit", views.Amount(amount, wait))

    @checked
    async def withdraw(self, channel: str, amount: Amount, *, wait: bool = True) -> views.ChannelInfo | None:
        """Take an amount out of a channel; return the channel, None if it was not waited for."""
        return await self._operate(channel, "withdraw", views.Amount(amount, wait))

    @checked
    async def close(
        self, channel: str, *, wait: bool = True, timeout: Seconds | None = None
    ) -> views.ChannelInfo | None:
        """Close with the peer's consent; return the channel, None if it was not waited for.

        After `timeout` seconds: ControlError of code "still-pending"; it closes once the peer agrees.
        """
        return await self._operate(channel, "close", views.CloseChannel(wait, timeout))

    @checked
    async def force_close(self, channel: str, *, wait: bool = False) -> views.ChannelInfo | None:
        """Close without the peer; return the channel once that is stored (`wait`: once nothing is left on chain)."""
        return await self._operate(channel, "force-close", views.CloseChannel(wait))

    @checked
    async def pay(
        self,
        to: str,
        amount: Amount,
        *,
        memo: AnyMemo = "",
        key: PaymentKey = "",
        asset: AnyAddress = views.NATIVE_ASSET,
        timeout: Seconds | None = None,
    ) -> views.PaymentMade:
        """Pay in a channel, or to a peer; return the receipt. The same `key` pays once, however often it is called.

        `memo` is text or bytes, 256 at most. After `timeout` seconds: ControlError, of code "still-pending" if the
        payment may still be made.
        """
        body = views.CreatePayment(to, amount, *_text_or_hex(to_memo(memo)), key, written(asset), timeout)
        return await self._post("/payments", body, views.PaymentMade)

    async def streams(self) -> list[views.StreamInfo]:
        """Return the pending streams of all channels, in both directions."""
        return await self._get("/streams", list[views.StreamInfo])

    @checked
    async def open_stream(
        self, channel: str, unit: Amount, length: Units, *, lifetime: Lifetime = 86_400
    ) -> views.StreamInfo:
        """Open a stream in a channel; return it once it is agreed."""
        body = views.OpenStream(unit, length, lifetime)
        return await self._post(f"/channels/{_segment(channel)}/streams", body, views.StreamInfo)

    @checked
    async def pay_units(self, channel: str, lock: Whole64, units: Units = 1) -> views.StreamInfo:
        """Pay units of a stream of ours; return it once the payee holds them durably."""
        path = f"/channels/{_segment(channel)}/streams/{lock}/pay"
        return await self._post(path, views.PayUnits(units), views.StreamInfo)

    @checked
    async def close_stream(self, channel: str, lock: Whole64) -> views.StreamInfo:
        """End a stream of ours; return it once both have signed what it paid."""
        return await self._post(f"/channels/{_segment(channel)}/streams/{lock}/close", None, views.StreamInfo)

    @checked
    async def balance(self, asset: AnyAddress = views.NATIVE_ASSET) -> views.Balance:
        """Return what the node holds."""
        return await self._get("/balance", views.Balance, asset=written(asset))

    async def peers(self) -> list[views.PeerInfo]:
        """Return all peers that the node knows."""
        return await self._get("/peers", list[views.PeerInfo])

    @checked
    async def connect(self, address: str) -> views.PeerInfo:
        """Connect to a peer and keep the connection."""
        return await self._post("/peers", views.Connect(address), views.PeerInfo)

    @checked
    async def incoming(
        self, after: str = "", *, limit: Count = 100, channel: str = "", wait: Count = 0
    ) -> list[views.IncomingInfo]:
        """Return up to `limit` received payments behind a cursor; if there are none, wait so many seconds for one."""
        query = {"after": after, "limit": str(limit), "wait": str(wait), **({"channel": channel} if channel else {})}
        return await self._get("/incoming", list[views.IncomingInfo], **query)

    @checked
    def follow(self, after: str = "", *, channel: str = "") -> PolledPayments:
        """Return an async iterator over received payments behind a cursor, for ever."""
        return PolledPayments(self, after, channel)

    async def _operate(self, channel: str, name: str, body: msgspec.Struct) -> views.ChannelInfo | None:
        answer = await self._post(f"/channels/{_segment(channel)}/{name}", body, dict[str, Any])
        try:
            return None if "accepted" in answer else msgspec.convert(answer, views.ChannelInfo)
        except msgspec.ValidationError as error:
            raise _strange(error) from error

    async def _get(self, path: str, kind: type[Answer], **query: str) -> Answer:
        return await self._ask(self._http.build_request("GET", path, params=query), kind)

    async def _post(self, path: str, body: msgspec.Struct | None, kind: type[Answer]) -> Answer:
        content = msgspec.json.encode(body) if body is not None else b"{}"
        headers = {"content-type": "application/json"}
        return await self._ask(self._http.build_request("POST", path, content=content, headers=headers), kind)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Send a request. A question is asked once more if its connection ended: it may have been an idle one."""
        try:
            return await self._http.send(request)
        except (httpx.RemoteProtocolError, httpx.NetworkError) as error:
            if request.method != "GET" or isinstance(error, httpx.ConnectError):
                raise
        return await self._http.send(request)

    async def _ask(self, request: httpx.Request, kind: type[Answer]) -> Answer:
        try:
            response = await self._sent(request)
        except httpx.TransportError as error:
            raise _unreachable(self._http, error) from error
        except httpx.DecodingError as error:
            raise _strange(error) from error
        if not response.is_success:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _strange(error) from error


class PolledPayments:
    """An async iterator over received payments, by long polling. It holds nothing open: just stop using it."""

    def __init__(self, client: ControlClient, after: str, channel: str) -> None:
        self._client = client
        self._after = after
        self._channel = channel
        self._waiting: deque[views.IncomingInfo] = deque()

    def __aiter__(self) -> PolledPayments:
        return self

    async def __anext__(self) -> views.IncomingInfo:
        """Return the next payment, once there is one."""
        while not self._waiting:
            page = await self._client.incoming(self._after, channel=self._channel, wait=POLL_SECONDS)
            self._waiting.extend(page)
            if page:
                self._after = page[-1].cursor
        return self._waiting.popleft()


def _text_or_hex(memo: bytes) -> tuple[str, str]:
    """Return a memo as the API takes it: as text, or what is none in hex."""
    try:
        return memo.decode(), ""
    except UnicodeDecodeError:
        return "", memo.hex()


def _segment(name: str) -> str:
    """Make sure that a channel's name is one segment of a path."""
    if not name.isalnum() or not name.isascii():
        raise ControlError(f"a channel is named by hex digits of its id, not {name!r}", "invalid-input")
    return name


def _strange(error: Exception) -> ControlError:
    return ControlError(f"the node's answer is not understood, is it of another version? ({error})")


def _refusal(response: httpx.Response) -> ControlError:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return ControlError(
            "the node that runs there does not know this token: each start writes a new control.token into its data "
            "directory; read it again, or name the right directory",
            "unauthorized",
        )
    try:
        error = msgspec.json.decode(response.content, type=dict[str, dict[str, str]])["error"]
        return ControlError(error["text"], error["code"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return ControlError(f"the node answered with HTTP status {response.status_code}: see its log")


def _unreachable(http: httpx.AsyncClient, error: httpx.TransportError) -> NodeUnreachable:
    if isinstance(error, httpx.UnsupportedProtocol):
        return NodeUnreachable(f"{str(http.base_url)!r} is no address of a node: `tally node run` writes it anew")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return NodeUnreachable(f"no node answers at {http.base_url}: start it with `tally node run`")
    return NodeUnreachable("the node stopped before it answered; what was asked for may or may not have been done")


@checked
@asynccontextmanager
async def control_at(url: str, token: str) -> AsyncIterator[ControlClient]:
    """Give a client of the control API at `url`."""
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(keepalive_expiry=IDLE_SECONDS)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=timeout, limits=limits, trust_env=False
    ) as http:
        yield ControlClient(http)


@checked
@asynccontextmanager
async def connect_control(directory: Path) -> AsyncIterator[ControlClient]:
    """Give a client of the node that runs in `directory`; raise NodeUnreachable if none does."""
    async with control_at(*find_node(directory)) as client:
        yield client
