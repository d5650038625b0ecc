"""Wrong arguments to living nodes: each call is refused at once, and afterwards all goes on, also after a restart.

The calls are those that once gave a bare error, ended a channel, or kept a node from ever starting again. `memo` is
text or bytes wherever there is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.streams import OutgoingStream
from tallystick.sdk.node.whereabouts import PeerKnown, known_peers
from tallystick.sdk.testing.world import open_world

Call = Callable[[Node, Node, ChannelHandle, OutgoingStream, str], Any]
NOW = 2_000_000_000

WRONG: dict[str, Call] = {
    "memo: a list": lambda a, b, c, s, i: c.pay(5, [1, 2]),  # type: ignore[arg-type]
    "memo: None": lambda a, b, c, s, i: c.pay(5, None),  # type: ignore[arg-type]
    "memo: half a surrogate pair": lambda a, b, c, s, i: c.pay(5, "\ud800"),
    "memo: too long in UTF-8": lambda a, b, c, s, i: c.pay(5, "é" * 129),
    "memo of submit": lambda a, b, c, s, i: c.submit(5, 5),  # type: ignore[arg-type]
    "key: bytes": lambda a, b, c, s, i: c.pay(5, key=b"order"),  # type: ignore[arg-type]
    "key: a number": lambda a, b, c, s, i: c.pay(5, key=17),  # type: ignore[arg-type]
    "key: a surrogate": lambda a, b, c, s, i: c.pay(5, key="\ud800"),
    "amount: text": lambda a, b, c, s, i: c.pay("5"),  # type: ignore[arg-type]
    "amount: true": lambda a, b, c, s, i: c.pay(True),
    "amount: huge": lambda a, b, c, s, i: c.pay(10**5_000),
    "amounts: text within": lambda a, b, c, s, i: c.pay_many(["5"]),  # type: ignore[list-item]
    "amounts: a fraction within": lambda a, b, c, s, i: c.pay_many([5, 2.5]),  # type: ignore[list-item]
    "amounts: text": lambda a, b, c, s, i: c.pay_many("55"),  # type: ignore[arg-type]
    "lock: condition of text": lambda a, b, c, s, i: c.lock(5, NOW, "0" * 32),
    "lock: expiry a fraction": lambda a, b, c, s, i: c.lock(5, NOW + 0.5, b"0" * 32),  # type: ignore[arg-type]
    "lock: onion of text": lambda a, b, c, s, i: c.lock(5, NOW, b"0" * 32, "onion"),  # type: ignore[arg-type]
    "reveal: text": lambda a, b, c, s, i: c.reveal(0, "secret"),  # type: ignore[arg-type]
    "reject: text": lambda a, b, c, s, i: c.reject(0, "why"),  # type: ignore[arg-type]
    "stream: unit a fraction": lambda a, b, c, s, i: c.open_stream(1.5, 10, expiry=NOW),  # type: ignore[arg-type]
    "stream: length a fraction": lambda a, b, c, s, i: c.open_stream(1, 10.0, expiry=NOW),  # type: ignore[arg-type]
    "stream: expiry a fraction": lambda a, b, c, s, i: c.open_stream(1, 10, expiry=NOW + 0.5),  # type: ignore[arg-type]
    "stream: beyond 64 bits": lambda a, b, c, s, i: c.open_stream(1, 10, expiry=2**64),
    "units: a fraction": lambda a, b, c, s, i: s.pay(1.0),  # type: ignore[arg-type]
    "units: text": lambda a, b, c, s, i: s.pay("1"),  # type: ignore[arg-type]
    "units submitted: a fraction": lambda a, b, c, s, i: s.submit(1.0),  # type: ignore[arg-type]
    "room: a fraction": lambda a, b, c, s, i: s.room(0.5),  # type: ignore[arg-type]
    "rolling: a fraction": lambda a, b, c, s, i: c.rolling_stream(1, 2.5, lifetime=9_999),  # type: ignore[arg-type]
    "deposit: a fraction": lambda a, b, c, s, i: c.deposit(5.0),  # type: ignore[arg-type]
    "withdraw: a fraction": lambda a, b, c, s, i: c.withdraw(5.0),  # type: ignore[arg-type]
    "history: text": lambda a, b, c, s, i: c.keep_history("all"),  # type: ignore[arg-type]
    "invoice: memo not UTF-8": lambda a, b, c, s, i: b.create_invoice(5, b"\xff"),
    "invoice: memo a surrogate": lambda a, b, c, s, i: b.create_invoice(5, "\ud800"),
    "invoice: short hash": lambda a, b, c, s, i: b.create_invoice(5, payment_hash=b"00"),
    "invoice: asset a number": lambda a, b, c, s, i: b.create_invoice(5, asset=7),  # type: ignore[arg-type]
    "invoice: lifetime a fraction": lambda a, b, c, s, i: b.create_invoice(5, lifetime=10.5),  # type: ignore[arg-type]
    "invoice: hold a word": lambda a, b, c, s, i: b.create_invoice(5, hold="yes"),  # type: ignore[arg-type]
    "pay: bytes": lambda a, b, c, s, i: a.pay(i.encode()),  # type: ignore[arg-type]
    "pay: timeout a word": lambda a, b, c, s, i: a.pay(i, timeout="x"),  # type: ignore[arg-type]
    "pay: timeout negative": lambda a, b, c, s, i: a.pay(i, timeout=-1),
    "pay: timeout without end": lambda a, b, c, s, i: a.pay(i, timeout=float("inf")),
    "pay: fee a fraction": lambda a, b, c, s, i: a.pay(i, max_fee=5.5),  # type: ignore[arg-type]
    "keysend: secret of text": lambda a, b, c, s, i: a.keysend(b.key.public, 5, secret="0" * 32),
    "keysend: to an address": lambda a, b, c, s, i: a.keysend(b.address, 5),  # type: ignore[arg-type]
    "keysend: to no point": lambda a, b, c, s, i: a.keysend("02" + "ff" * 32, 5),
    "probe: beyond 128 bits": lambda a, b, c, s, i: a.probe(b.key.public, 2**128),
    "estimate: nonsense": lambda a, b, c, s, i: a.estimate("02aa", 5),
    "settle: text": lambda a, b, c, s, i: b.settle_invoice("0" * 32),
    "paid: after text": lambda a, b, c, s, i: b.paid_invoices(after="0"),  # type: ignore[arg-type]
    "incoming: after a number": lambda a, b, c, s, i: b.incoming(after=5),  # type: ignore[arg-type]
    "incoming: of text": lambda a, b, c, s, i: b.incoming(channel="zz"),
    "channel: short": lambda a, b, c, s, i: a.channel("00"),
    "policy: fee a fraction": lambda a, b, c, s, i: a.set_policy(c.id, ForwardingPolicy(base_fee=1.5)),  # type: ignore[arg-type]
    "policy: fee text": lambda a, b, c, s, i: a.set_policy(c.id, ForwardingPolicy(base_fee="1")),  # type: ignore[arg-type]
    "policy: enabled a number": lambda a, b, c, s, i: a.set_policy(c.id, ForwardingPolicy(enabled=1)),  # type: ignore[arg-type]
    "policy: none at all": lambda a, b, c, s, i: a.set_policy(c.id, None),  # type: ignore[arg-type]
    "balance: text": lambda a, b, c, s, i: a.balance("coin"),
    "open: period a fraction": lambda a, b, c, s, i: a.open_channel(b.key.public, 9, challenge_period=9.5),  # type: ignore[arg-type]
    "open: period of 0": lambda a, b, c, s, i: a.open_channel(b.key.public, 9, challenge_period=0),
    "open: period of ages": lambda a, b, c, s, i: a.open_channel(b.key.public, 9, challenge_period=10**9),
    "open: short asset": lambda a, b, c, s, i: a.open_channel(b.key.public, 9, asset=b"p"),  # type: ignore[arg-type]
    "open: wait a number": lambda a, b, c, s, i: a.open_channel(b.key.public, 9, wait=1),  # type: ignore[arg-type]
    "connect: a made-up address": lambda a, b, c, s, i: a.connect(PeerAddress(b"x", "host", 1)),
    "connect: bytes": lambda a, b, c, s, i: a.connect(b"x"),  # type: ignore[arg-type]
    "payments: limit a word": lambda a, b, c, s, i: a.payments(limit="x"),  # type: ignore[arg-type]
    "payments: limit negative": lambda a, b, c, s, i: a.payments(limit=-1),
    "invoices: before negative": lambda a, b, c, s, i: b.invoices(before=-1),
    "until: no function": lambda a, b, c, s, i: a.until(5),  # type: ignore[arg-type]
}


def test_no_wrong_argument_does_anything_to_living_nodes() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10**6)
            await channel.pay(300_000)
            stream = await channel.open_stream(1, 100, expiry=alice.engine.chain.now + 80_000)
            invoice = (await bob.create_invoice(500, "t")).text
            commits = (alice.store.commits, bob.store.commits)
            for name, call in WRONG.items():
                with trio.fail_after(5), pytest.raises(InvalidInput) as refused:
                    result = call(alice, bob, channel, stream, invoice)
                    if inspect.isawaitable(result):
                        await result
                assert str(refused.value).isprintable(), name
            assert (alice.store.commits, bob.store.commits) <= (commits[0] + 2, commits[1] + 2)  # blocks came meanwhile
            assert await stream.pay(3) == 3
            for who in ("alice", "bob"):
                await world.restart(who)
            assert (await world.node("alice").channels[0].pay(5, b"ok")).memo == b"ok"

    simulate(main, 3)


MEMOS: list[Any] = [
    "order 17",
    "tea1",
    "order17=",
    "Tüte Tee",
    b"order 17",
    b"\xff\x00",
    bytearray(b"tea"),
    "",
    b"",
    "é" * 128,
]


def test_a_memo_is_text_or_bytes_and_comes_as_its_bytes() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10**6)
            payments = bob.incoming()
            for number, memo in enumerate(MEMOS):
                raw = memo.encode() if isinstance(memo, str) else bytes(memo)
                receipt = await channel.pay(5, memo, key=f"key {number}")
                assert receipt.memo == raw
                again = await channel.pay(5, raw, key=f"key {number}")
                assert again.payment == receipt.payment == number  # the same payment, in other words
                assert (await anext(payments)).memo == raw
            await world.restart("alice")
            channel = world.node("alice").channels[0]
            assert (await channel.pay(5, MEMOS[0], key="key 0")).payment == 0

    simulate(main, 3)


def test_the_memo_of_an_invoice_is_text_or_its_bytes() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10**6)
            for memo in ("Tüte Tee", "Tüte Tee".encode()):
                invoice = await bob.create_invoice(5, memo)
                assert invoice.memo == decode_invoice(invoice.text).memo == "Tüte Tee"

    simulate(main, 3)


def test_what_names_something_may_be_written_in_hex() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            channel = await alice.open_channel(world.address("bob"), 10**6, asset="0x" + "00" * 20)
            assert alice.channel("0x" + channel.id.hex()).id == channel.id
            assert await alice.balance("0x" + "00" * 20) == await alice.balance()
            invoice = await bob.create_invoice(500)
            await alice.pay(invoice.text)
            assert bob.invoice(invoice.payment_hash.hex()).received == 500
            receipt = await alice.keysend(bytes(bob.key.public).hex(), 7, secret="17" * 32)
            assert receipt.secret == b"\x17" * 32 and alice.payment(receipt.payment_hash.hex()).is_paid

    simulate(main, 3)


def test_a_stored_address_that_is_none_keeps_no_node_from_starting() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10**6)
            older = [PeerKnown(b"k" * 33, "nobody@nowhere"), PeerKnown(b"l" * 33, f"{'ff' * 33}@host:7")]
            await alice.writer.commit(older)  # as a version did that looked less closely
            alice = await world.restart("alice")
            assert [place.key for place in known_peers(alice.store)] == [bytes(bob.key.public)]
            assert (await alice.channels[0].pay(5)).amount == 5

    simulate(main, 3)
