"""The control API against two real nodes on loopback and a simulated chain: what it does, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.cli.tables import stream_line
from tallystick.sdk.control import handlers, server
from tallystick.sdk.control.client import ControlClient, control_at
from tallystick.sdk.control.http import BODY_MAX
from tallystick.sdk.control.server import ControlServer, serve_control
from tallystick.sdk.errors import ConfigurationError, ControlError, NodeUnreachable
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.running import open_node
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.testing.local import LocalChain

ALICE, BOB = PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32)
TOKEN = "a token"
PATIENCE = 20
TOKENS = "0x" + "77" * 20


class Pair(NamedTuple):
    chain: LocalChain
    node: Node
    control: ControlServer
    alice: ControlClient
    bob: ControlClient
    bob_control: ControlServer
    bob_address: str


@asynccontextmanager
async def two_nodes(directory: Path) -> AsyncIterator[Pair]:
    """Alice and Bob with a control API each, on a chain with 50 blocks per second."""
    funds = {ALICE.address: 10**18, BOB.address: 10**18}
    chain = LocalChain(funds=funds, settings=ChainSettings(dev=True, interval=0.02))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            async with (
                open_node(directory / "alice", key=ALICE, chain=chain) as alice,
                open_node(directory / "bob", key=BOB, chain=chain) as bob,
                serve_control(alice, TOKEN) as alices,
                serve_control(bob, TOKEN) as bobs,
                control_at(alices.url, TOKEN) as client,
                control_at(bobs.url, TOKEN) as other,
            ):
                yield Pair(chain, alice, alices, client, other, bobs, str(bob.listening))
            nursery.cancel_scope.cancel()


async def refusal(url: str, method: str, path: str, **request: object) -> tuple[int, str]:
    """Send a raw request; return its status and the error's code."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        request.setdefault("headers", {"authorization": f"Bearer {TOKEN}"})
        response = await http.request(method, path, **request)  # type: ignore[arg-type]  # httpx's many keywords
    error = response.json()["error"]
    assert set(error) == {"code", "text"}
    return response.status_code, error["code"]


async def test_a_stream_lives_its_whole_life_through_the_api(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        alice, bob = pair.alice, pair.bob
        channel = (await alice.open_channel(pair.bob_address, 1_000_000)).id
        opened = await alice.open_stream(channel[:8], 10, 500, lifetime=86_400)
        assert (opened.lock, opened.direction, opened.unit, opened.units, opened.ended) == (0, "out", 10, 0, False)
        assert (await alice.pay_units(channel, 0)).units == 1
        paid = await alice.pay_units(channel, 0, 24)
        assert paid.units == 25
        assert [stream.units for stream in await bob.streams()] == [25]
        assert [stream.direction for stream in await bob.streams()] == ["in"]
        assert stream_line(paid).endswith(
            f"paid by us: 25 of 500 units of 10, until {datetime.fromtimestamp(paid.expiry)}"
        )
        with pytest.raises(ControlError):
            await alice.pay_units(channel, 0, 476)
        with pytest.raises(ControlError):
            await bob.pay_units(channel, 0)
        ended = await alice.close_stream(channel, 0)
        assert (ended.ended, ended.units) == (True, 25) and stream_line(ended).endswith("ended")
        assert await alice.streams() == []
        assert (await alice.balance()).channels == 1_000_000 - 250
        with pytest.raises(ControlError):
            await alice.close_stream(channel, 0)
        with pytest.raises(ControlError):
            await alice.open_stream(channel, 10, 500, lifetime=5)


async def test_a_channel_lives_its_whole_life_through_the_api(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        alice, bob = pair.alice, pair.bob
        opened = await alice.open_channel(pair.bob_address, 1_000_000)
        assert (opened.phase, opened.balance, opened.deposits, opened.connected) == (
            "open",
            1_000_000,
            (1_000_000, 0),
            True,
        )
        paid = await alice.pay(opened.id[:8], 250, memo="order 17")
        assert (paid.payment, paid.amount, paid.memo, paid.channel) == (0, 250, "order 17", opened.id)
        assert [payment.amount for payment in await bob.incoming()] == [250]
        more = await alice.deposit(opened.id, 1_000)
        assert more is not None and more.deposits == (1_001_000, 0)
        less = await alice.withdraw(opened.id, 400)
        assert less is not None and (less.withdrawn, less.balance) == ((400, 0), 1_001_000 - 250 - 400)
        assert (await alice.balance()).channels == less.balance
        closed = await alice.close(opened.id)
        assert closed is not None and (closed.phase, closed.spendable) == ("gone", 0)
        assert (await alice.balance()).channels == 0
        assert (await alice.channels())[0].id == opened.id
        assert (await alice.statistics())["engine"]["payments_secured"] == 1


async def test_what_a_receiver_refused_is_shown_and_claimed_through_the_api(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        alice, elsewhere = pair.alice, Address(b"\xee" * 20)
        channel = await alice.open_channel(pair.bob_address, 1_000)
        pair.chain.refuse(ALICE.address)
        await alice.close(channel.id)
        native = "0x" + "00" * 20
        assert [(each.asset, each.amount) for each in await alice.owed()] == [(native, 1_000)]
        for to, code in (("0x" + "00" * 20, "invalid-input"), ("0x" + ALICE.address.hex(), "failed")):
            with pytest.raises(ControlError) as caught:
                await alice.claim(to=to)
            assert caught.value.code == code
        claimed = await alice.claim(to=elsewhere)
        assert claimed is not None and claimed.amount == 1_000
        assert await alice.owed() == [] and await pair.chain.balance(elsewhere, NATIVE) == 1_000
        with pytest.raises(ControlError) as caught:
            await alice.claim(to=elsewhere)
        assert caught.value.code == "insufficient-funds"


async def test_an_idempotency_key_pays_a_peer_once_even_when_another_channel_has_more(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        alice = pair.alice
        small = await alice.open_channel(pair.bob_address, 10_000)
        first = await alice.pay(small.peer, 5, key="k")
        large = await alice.open_channel(small.peer, 20_000)
        assert (await alice.pay(pair.bob_address, 6)).channel == large.id
        again = await alice.pay(small.peer, 5, key="k")
        assert (again.channel, again.payment) == (first.channel, first.payment) == (small.id, 0)
        with pytest.raises(ControlError, match="another amount") as caught:
            await alice.pay(small.peer, 6, key="k")
        assert caught.value.code == "invalid-input"
        assert [payment.amount for payment in await pair.bob.incoming()] == [5, 6]


async def test_received_payments_come_behind_the_cursor_once_by_pages_and_as_a_stream(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        channel = (await pair.alice.open_channel(pair.bob_address, 10_000)).id
        for amount in (1, 2, 3):
            await pair.alice.pay(channel, amount)
        page = await pair.bob.incoming(limit=2)
        assert [payment.amount for payment in page] == [1, 2]
        assert [payment.amount for payment in await pair.bob.incoming(page[-1].cursor)] == [3]
        payments = pair.bob.follow(page[-1].cursor, channel=channel)
        assert (await anext(payments)).amount == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.alice.pay, channel, 4)
            assert (await anext(payments)).amount == 4
        assert await pair.alice.incoming() == []
        with pytest.raises(ControlError, match="no cursor"):
            await pair.bob.incoming("nonsense")


async def test_received_payments_stream_as_lines_of_json_to_any_http_client(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        channel = (await pair.alice.open_channel(pair.bob_address, 10_000)).id
        await pair.alice.pay(channel, 1, memo="first")
        place = urlsplit(pair.bob_control.url)
        stream = await trio.open_tcp_stream(str(place.hostname), place.port or 0)
        async with stream:
            request = f"GET /incoming?follow=true HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
            await stream.send_all(request.encode())
            assert '"memo":"first"' in await read_until(stream, b"}\n")
            await pair.alice.pay(channel, 2, memo="second")
            assert '"memo":"second"' in await read_until(stream, b"}\n")


async def read_until(stream: trio.SocketStream, end: bytes) -> str:
    data = b""
    while end not in data:
        part = await stream.receive_some(65_536)
        assert part, "the stream ended"
        data += part
    return data.decode()


@pytest.mark.alarm("request-failed")
async def test_what_is_not_waited_for_is_on_its_way_and_its_failure_is_told_later(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        channel = (await pair.alice.open_channel(pair.bob_address, 10_000)).id
        pair.chain.censor(lambda transaction: transaction.sender == ALICE.address)
        second = (await pair.alice.open_channel(pair.bob_address, 10_000, wait=False)).id
        assert (await pair.alice.channel(second)).phase == "opening"
        assert await pair.alice.deposit(channel, 10, wait=False) is None
        closing = await pair.bob.force_close(channel)
        assert closing is not None and closing.phase == "closing"
        while (await pair.alice.channel(channel)).phase != "closed":
            await pair.chain.wait((await pair.chain.head()).hash)
        pair.chain.censor(None)
        while not any("cannot deposit" in alarm.text for alarm in (await pair.alice.info()).alarms):
            await pair.chain.wait((await pair.chain.head()).hash)


async def test_peers_are_listed_with_where_they_are_and_whether_they_are_connected(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        connected = await pair.alice.connect(pair.bob_address)
        assert (connected.place, connected.connected, connected.channels) == (pair.bob_address, True, 0)
        assert await pair.alice.peers() == [connected]
        (seen,) = await pair.bob.peers()
        assert (seen.public_key, seen.place) == (bytes(ALICE.public).hex(), None)
        info = await pair.alice.info()
        assert info.connected_peers == 1 and info.peer_address == str(pair.node.listening)


async def test_a_peer_that_cannot_be_reached_is_an_answer_and_not_a_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "CONNECT_SECONDS", 0.1)
    async with two_nodes(tmp_path) as pair:
        stranger = bytes(PrivateKey(bytes([3]) * 32).public).hex()
        with pytest.raises(ControlError, match="was not reached") as caught:
            await pair.alice.open_channel(f"{stranger}@127.0.0.1:1", 10_000)
        assert caught.value.code == "channel-not-ready"


@pytest.mark.parametrize("given", [None, "", TOKEN, "Bearer", f"Bearer {TOKEN}x", f"bearer {TOKEN}"])
async def test_a_request_without_the_right_token_is_refused_whatever_it_asks(tmp_path: Path, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    async with two_nodes(tmp_path) as pair:
        for method, path in (("GET", "/info"), ("POST", "/stop"), ("GET", "/no-such-thing"), ("GET", "/incoming")):
            assert await refusal(pair.control.url, method, path, headers=headers) == (401, "unauthorized")
        assert not pair.control.stop_asked.is_set()


async def test_wrong_requests_are_answered_by_a_status_and_a_code(tmp_path: Path) -> None:
    cases = [
        ("GET", "/nothing", None, 404, "not-found"),
        ("POST", "/info", None, 405, "wrong-method"),
        ("GET", "/channels/abcd", None, 404, "unknown-channel"),
        ("GET", "/channels/ab", None, 400, "invalid-input"),
        ("GET", "/channels/xyz1", None, 400, "invalid-input"),
        ("POST", "/payments", b"", 400, "malformed"),
        ("POST", "/payments", b"\xff{", 400, "malformed"),
        ("POST", "/payments", b"[" * 9_000, 400, "malformed"),
        ("POST", "/payments", b'{"to": "abcd", "amount": 1.0}', 400, "malformed"),
        ("POST", "/payments", b'{"to": "abcd", "amount": "1"}', 400, "malformed"),
        ("POST", "/payments", b'{"to": "abcd", "amount": true}', 400, "malformed"),
        ("POST", "/payments", b'{"to": "abcd", "amount": 1, "tip": 1}', 400, "malformed"),
        ("POST", "/payments", b'{"to": "abcd", "amount": 1, "memo": "a", "memo_hex": "00"}', 400, "invalid-input"),
        ("POST", "/payments", b'{"to": "abcd", "amount": 1, "memo_hex": "0"}', 400, "invalid-input"),
        ("POST", "/payments", b'{"to": "abcd", "amount": 1, "memo": "' + b"x" * BODY_MAX + b'"}', 413, "too-large"),
        ("POST", "/channels", b'{"peer": "bob", "deposit": 5}', 400, "invalid-input"),
        ("POST", "/peers", b'{"address": "bob@nowhere"}', 400, "invalid-input"),
        ("GET", "/balance?asset=gold", None, 400, "invalid-input"),
        ("GET", "/incoming?limit=0", None, 400, "invalid-input"),
        ("GET", "/incoming?limit=1001", None, 400, "invalid-input"),
        ("GET", "/incoming?wait=-1", None, 400, "invalid-input"),
        ("GET", "/incoming?after=x", None, 400, "invalid-input"),
        ("GET", "/incoming?after=x&follow=true", None, 400, "invalid-input"),
    ]
    async with two_nodes(tmp_path) as pair:
        for method, path, body, status, code in cases:
            answer = await refusal(pair.control.url, method, path, content=body)
            assert answer == (status, code), (method, path, body)


async def test_amounts_that_cannot_be_are_refused_and_nothing_happens(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        channel = await pair.alice.open_channel(pair.bob_address, 10_000)
        for amount in (0, -1, 2**128):
            with pytest.raises(InvalidInput, match="amount"):  # the client says so by itself
                await pair.alice.pay(channel.id, amount)
            body = {"to": channel.id, "amount": amount}
            assert await refusal(pair.control.url, "POST", "/payments", json=body) == (400, "invalid-input")
        for operation in (pair.alice.pay, pair.alice.withdraw):
            with pytest.raises(ControlError) as caught:
                await operation(channel.id, 10_001)
            assert caught.value.code == "insufficient-funds"
        with pytest.raises(ControlError, match="no open channel") as caught:
            await pair.alice.pay(channel.peer, 1, asset=TOKENS)
        assert caught.value.code == "channel-not-ready"
        assert await pair.alice.channel(channel.id) == channel


async def test_a_client_of_a_stopped_node_is_told_that_none_answers(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        url = pair.control.url
        await pair.alice.stop()
        await pair.control.stop_asked.wait()
    async with control_at(url, TOKEN) as client:
        with pytest.raises(NodeUnreachable, match="no node answers"):
            await client.info()


async def test_a_client_with_an_old_token_or_a_damaged_address_is_told_what_to_do(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair, control_at(pair.control.url, "an old token") as client:
        with pytest.raises(ControlError, match="each start writes a new") as caught:
            await client.info()
        assert caught.value.code == "unauthorized"
    async with control_at("nonsense", TOKEN) as client:
        with pytest.raises(NodeUnreachable, match="is no address of a node"):
            await client.info()


async def test_a_client_that_never_reads_does_not_keep_the_node_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def more_than_fits(self: object) -> bytes:
        return bytes(1 << 24)

    monkeypatch.setattr(server, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(handlers.Lines, "__anext__", more_than_fits)
    async with two_nodes(tmp_path) as pair:
        place = urlsplit(pair.control.url)
        stuck = await trio.open_tcp_stream(str(place.hostname), place.port or 0)
        await stuck.send_all(
            f"GET /incoming?follow=true HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        await stuck.receive_some(1)
    await stuck.aclose()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_the_api_is_never_served_to_other_machines(tmp_path: Path, host: str) -> None:
    async with two_nodes(tmp_path) as pair:
        with pytest.raises(ConfigurationError, match="loopback only"):
            async with serve_control(pair.node, TOKEN, host=host):
                pytest.fail("it was served")
