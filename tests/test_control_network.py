"""The control API's payment network, on three real nodes in a line: what it does, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from simulation.neighbours import a_line
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.sdk.control.client import ControlClient, control_at
from tallystick.sdk.control.lookup import parse_node
from tallystick.sdk.control.server import serve_control
from tallystick.sdk.errors import ControlError
from tallystick.sdk.node.node import Node

TOKEN = "a token"


class Line(NamedTuple):
    nodes: tuple[Node, Node, Node]
    alice: ControlClient
    bob: ControlClient
    carol: ControlClient

    @property
    def carols_key(self) -> str:
        return bytes(self.nodes[2].key.public).hex()


@asynccontextmanager
async def controlled(directory: Path) -> AsyncIterator[Line]:
    async with (
        a_line(directory) as nodes,
        serve_control(nodes[0], TOKEN) as one,
        serve_control(nodes[1], TOKEN) as two,
        serve_control(nodes[2], TOKEN) as three,
        control_at(one.url, TOKEN) as alice,
        control_at(two.url, TOKEN) as bob,
        control_at(three.url, TOKEN) as carol,
    ):
        yield Line(nodes, alice, bob, carol)


async def test_payments_over_two_hops_live_their_whole_lives_through_the_api(tmp_path: Path) -> None:
    async with controlled(tmp_path) as line:
        await check_an_invoice(line)
        await check_keysend(line)
        await check_held(line)
        await check_what_fails(line)
        await check_policies(line)


async def check_an_invoice(line: Line) -> None:
    alice, carol = line.alice, line.carol
    asked = await carol.create_invoice(50_000, "a tin of tea")
    assert (asked.state, asked.secret, asked.paid, asked.memo) == ("open", None, 0, "a tin of tea")
    believed = await alice.estimate(line.carols_key, 50_000)
    assert (believed.amount, believed.fee, len(believed.hops)) == (50_000, 50, 2)
    tried = await alice.probe(line.carols_key, 50_000)
    assert tried == believed
    results = []

    async def wait() -> None:
        results.append(await carol.invoice(asked.payment_hash[:8], wait=20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        paid = await alice.pay_invoice(asked.invoice, max_fee=50, timeout=20)
    assert paid is not None and (paid.state, paid.amount, paid.fee) == ("paid", 50_000, 50)
    assert paid.parts is not None and [part.state for part in paid.parts] == ["paid"]
    assert paid.secret is not None and digest_of(bytes.fromhex(paid.secret)).hex() == asked.payment_hash
    assert (results[0].state, results[0].received, results[0].secret) == ("claimed", 50_000, paid.secret)
    assert await alice.pay_invoice(asked.invoice) == paid
    assert (await alice.payment(paid.payment_hash, wait=1)) == paid
    (newest,) = await alice.payments()
    assert (newest.payment_hash, newest.parts, newest.kind) == (paid.payment_hash, None, "invoice")
    assert newest.position is not None and await alice.payments(before=newest.position) == []
    (older,) = await alice.payments(before=newest.position, probes=True)
    assert older.kind == "probe" and (await alice.payment(older.payment_hash[:12])).kind == "probe"


async def check_keysend(line: Line) -> None:
    secret = "5a" * 32
    sent = [await line.alice.keysend(line.carols_key, 700, secret=secret) for _ in range(2)]
    assert sent[0] is not None and sent[0].secret == secret and sent[0] == sent[1]
    with pytest.raises(ControlError, match="another amount"):
        await line.alice.keysend(line.carols_key, 701, secret=secret)
    received = await line.carol.paid_invoices()
    assert [(one.received, one.paid) for one in received] == [(50_000, 1), (700, 2)]
    assert [one.received for one in await line.carol.paid_invoices(1)] == [700]
    assert await line.carol.paid_invoices(2) == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.alice.keysend, line.carols_key, 800)
        assert [one.received for one in await line.carol.paid_invoices(2, wait=20)] == [800]
    assert [one.received for one in await line.carol.invoices(limit=1)] == [800]
    following = line.carol.follow_paid(1)
    assert [(await anext(following)).received for _ in range(2)] == [700, 800]


async def check_held(line: Line) -> None:
    alice, carol = line.alice, line.carol
    kept, dropped = [await carol.create_invoice(1_000, hold=True) for _ in range(2)]
    for asked in (kept, dropped):
        assert await alice.pay_invoice(asked.invoice, wait=False) is None
        held = await carol.invoice(asked.payment_hash, wait=20)
        assert (held.state, held.secret) == ("held", None)
        assert (await alice.payment(asked.payment_hash)).state == "pending"
    assert (await carol.settle_invoice(kept.payment_hash)).state == "claimed"
    seen = []

    async def wait() -> None:
        seen.append((await carol.invoice(unpaid.payment_hash, wait=20)).state)

    unpaid = await carol.create_invoice(1_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        assert (await carol.cancel_invoice(unpaid.payment_hash)).state == "cancelled"
    assert seen == ["cancelled"]
    assert (await carol.cancel_invoice(dropped.payment_hash)).state == "cancelled"
    assert (await alice.payment(kept.payment_hash, wait=20)).state == "paid"
    refused = await alice.payment(dropped.payment_hash, wait=20)
    assert (refused.state, refused.reason) == ("failed", "payee-refuses")
    assert any("cannot pay an invoice" in alarm.text for alarm in (await alice.info()).alarms)
    with pytest.raises(ControlError):
        await carol.settle_invoice(dropped.payment_hash)
    others = await carol.create_invoice(5, payment_hash="77" * 32)
    with pytest.raises(ControlError, match="does not know the secret"):
        await carol.settle_invoice(others.payment_hash)
    with pytest.raises(ControlError, match="a hash is paid once"):
        await carol.create_invoice(5, payment_hash="77" * 32)


async def check_what_fails(line: Line) -> None:
    alice, carol = line.alice, line.carol
    asked = await carol.create_invoice(1_000_000)
    with pytest.raises(InvalidInput, match="timeout"):
        await alice.pay_invoice(asked.invoice, timeout=-1)
    with pytest.raises(InvalidInput, match="amount"):
        await alice.create_invoice(-5)
    for wanted, code in (
        (alice.pay_invoice(asked.invoice, max_fee=10), "over-the-fee-limit"),
        (alice.pay_invoice(asked.invoice[:-1] + ("p" if asked.invoice.endswith("q") else "q")), "invalid-invoice"),
        (carol.pay_invoice(asked.invoice), "invalid-input"),
        (alice.keysend(line.carols_key, 10**9), "not-enough-liquidity"),
        (alice.keysend("02" + "00" * 32, 5), "invalid-input"),
        (alice.probe(line.carols_key, 10**9), "not-enough-liquidity"),
        (alice.invoice("abcd"), "unknown-hash"),
        (alice.payment("ab" * 32), "unknown-hash"),
        (alice.payment("zz"), "invalid-input"),
        (alice.create_invoice(5, payment_hash="12"), "invalid-input"),
        (alice.rebalance("abcd", "abce", 5), "unknown-channel"),
    ):
        with pytest.raises(ControlError) as caught:
            await wanted
        assert caught.value.code == code, str(caught.value)


async def check_policies(line: Line) -> None:
    bob = line.bob
    done = await bob.forwards()
    assert {forward.outcome for forward in done} == {"paid", "failed"}
    assert sum(forward.fee for forward in done if forward.outcome == "paid") == 50 + 1  # 1,000 ppm, rounded down
    assert await bob.forwards(limit=1, before=done[-2].position) == [done[-1]]
    outwards = done[0].outgoing
    before = await bob.policy(outwards)
    assert (before.base_fee, before.fee_ppm) == (0, 1_000)
    after = await bob.set_policy(outwards, base_fee=7, fee_ppm=0)
    assert (after.base_fee, after.fee_ppm, after.minimum) == (7, 0, before.minimum)
    assert await bob.policy(outwards[:8]) == after
    with pytest.raises(ControlError):
        await bob.set_policy(outwards, base_fee=2**128)
    node, carol = line.nodes[0], parse_node(line.carols_key)
    await node.until(lambda: node.estimate(carol, 1_000).fee == 7)
    seen = await line.alice.graph()
    assert (seen.nodes, seen.channels, seen.directions) == (3, 2, 4)
