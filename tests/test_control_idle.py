"""A control client that was idle for some time: its connection is used no more, or the question is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from tallystick.sdk.control import client as clients
from tallystick.sdk.control import server
from tallystick.sdk.control.client import ControlClient, control_at
from tallystick.sdk.errors import NodeUnreachable


def test_the_client_gives_idle_connections_up_long_before_any_node_closes_them() -> None:
    hypercorns_own = 5.0  # what nodes of version 0.1 had
    assert hypercorns_own / 2 >= clients.IDLE_SECONDS
    assert 2 * hypercorns_own <= server.IDLE_SECONDS


async def test_the_client_uses_no_connection_that_was_idle_for_long() -> None:
    async with control_at("http://127.0.0.1:1", "a token") as client:
        pool = client._ask.__self__.http._transport._pool  # type: ignore[attr-defined]  # httpx has no other way to see it
        assert pool._keepalive_expiry == clients.IDLE_SECONDS


class Flaky(httpx.AsyncBaseTransport):
    """A connection that the other side closed in the very moment in which it is used again."""

    def __init__(self, errors: list[httpx.TransportError]) -> None:
        self.errors = errors
        self.asked: list[tuple[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        if self.errors:
            raise self.errors.pop(0)
        return httpx.Response(200, json={"ok": True, "accepted": True, "stopping": True})


@asynccontextmanager
async def flaky(*errors: httpx.TransportError) -> AsyncIterator[tuple[ControlClient, Flaky]]:
    transport = Flaky(list(errors))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
        yield ControlClient(http), transport


CLOSED: list[Callable[[], httpx.TransportError]] = [
    lambda: httpx.RemoteProtocolError("Server disconnected without sending a response."),
    lambda: httpx.ReadError(""),
    lambda: httpx.WriteError(""),
]


@pytest.mark.parametrize("error", CLOSED)
async def test_a_question_is_asked_once_more_on_another_connection(
    error: Callable[[], httpx.TransportError],
) -> None:
    async with flaky(error()) as (client, transport):
        assert await client.statistics() == {"ok": True, "accepted": True, "stopping": True}
        assert transport.asked == [("GET", "/statistics")] * 2


async def test_a_question_is_not_asked_for_ever() -> None:
    async with flaky(*(error() for error in CLOSED)) as (client, transport):
        with pytest.raises(NodeUnreachable):
            await client.statistics()
        assert len(transport.asked) == 2


@pytest.mark.parametrize("error", CLOSED)
async def test_what_does_something_is_never_sent_twice(error: Callable[[], httpx.TransportError]) -> None:
    async with flaky(error()) as (client, transport):
        with pytest.raises(NodeUnreachable, match="may or may not"):
            await client.stop()
        assert transport.asked == [("POST", "/stop")]
