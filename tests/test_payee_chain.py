"""A held payment whose secret somebody else takes to the chain: every part of it is the payee's, and none is let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from simulation.journeys import AMOUNT, Journey, live_through
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, ChannelId, Lock
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.forwarding.admission import IncomingLocks
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.invoices.invoice import Invoice
from tallystick.router.objects import NodeKey
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalLock, FinalPayload
from tallystick.router.receiving.issued import find_invoice, issue
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.receiving.service import Receiving
from tallystick.router.sqlite import INVOICES_SCHEMA
from tallystick.settlement.chain import RegisterSecretCall

SECRET, WORD = b"s" * 32, b"w" * 32
HOURS = 3_600
CHANNEL = ChannelId(b"c" * 32)


class Port:
    """Channels in which every lock is there, and the answers to them."""

    def __init__(self, disk: Store) -> None:
        self.disk = disk
        self.chain = ChainTime(1_000)
        self.fresh = True
        self.revealed: list[int] = []
        self.refused: list[int] = []

    def record(self, moments: Sequence[Moment], then: Callable[[], None]) -> None:
        then()

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        assert secret == SECRET
        self.revealed.append(lock)
        return True

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        self.refused.append(final.lock.id)


class World:
    """A payee who asked for 100 for a hash whose secret it does not know, and got parts of 30 and 40."""

    def __init__(self) -> None:
        key = PrivateKey(b"\x01" * 32)
        self.store = SimulatedDisk([INVOICES_SCHEMA]).open()
        invoice = Invoice(
            payee=NodeKey(bytes(key.public)),
            payment_hash=digest_of(SECRET),
            payment_secret=WORD,
            chain_id=1,
            contract=bytes(20),
            amount=100,
            created=1_000,
        )
        self.store.commit([issue(invoice, key, b"", hold=True)])
        self.port = Port(self.store)
        self.receiving = Receiving(
            cast(NodeChannels, self.port),
            cast(IncomingLocks, self.port),
            patience=PayeeOptions(),
            keysend=(NATIVE,),
            tell=lambda event: None,
        )
        self.locks = [
            Lock(number, amount, 1_000 + HOURS, HASH, digest_of(SECRET)) for number, amount in ((0, 30), (1, 40))
        ]
        for lock in self.locks:
            payload = FinalPayload(lock.amount, lock.expiry, WORD, 100)
            assert list(self.receiving.on_arrived(FinalLock(CHANNEL, lock, payload, b"o" * 32))) == []

    def received(self, moments: list[Moment]) -> int:
        self.store.commit(moments)
        record = find_invoice(self.store, digest_of(SECRET))
        assert record is not None
        return record.received


def paid_by_the_peer(world: World) -> list[Moment]:
    return list(world.receiving.on_gone(CHANNEL, world.locks[0], SECRET))


def let_go_for_want_of_parts(world: World) -> list[Moment]:
    world.port.chain = ChainTime(1_061, 0, {lock.puzzle: (1_000, SECRET) for lock in world.locks})
    return list(world.receiving.on_time_passed())


@pytest.mark.parametrize(
    ("event", "revealed"), [(paid_by_the_peer, [1]), (let_go_for_want_of_parts, [0, 1])], ids=["peer", "time"]
)
def test_no_part_is_let_go_whose_secret_is_out(event: Callable[[World], list[Moment]], revealed: list[int]) -> None:
    world = World()
    assert world.received(event(world)) == 70
    assert world.port.revealed == revealed and world.port.refused == []


def test_parts_that_others_do_not_follow_are_let_go_while_the_secret_is_none_of_the_chains() -> None:
    world = World()
    world.port.chain = ChainTime(1_061)
    assert world.received(list(world.receiving.on_time_passed())) == 0
    assert world.port.refused == [0, 1]


def test_a_secret_that_a_stranger_registers_makes_the_held_payment_a_received_one() -> None:
    async def fault(journey: Journey) -> None:
        dave, world = journey.node("dave"), journey.world
        invoice = await dave.create_invoice(AMOUNT, payment_hash=digest_of(SECRET), lifetime=86_400)
        journey.ask(invoice)
        assert await world.until(lambda: bool(dave.routing.receiving.held_payments), 60)
        await world.chain.send(world.seats["carol"].key, RegisterSecretCall(SECRET))
        await world.until(lambda: bool(journey.receipts), 300)
        assert dave.invoice(digest_of(SECRET)).received == AMOUNT

    live_through(fault)
