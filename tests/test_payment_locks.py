"""What a payer may take for the end of a part, whatever the peer says, and how long its locks have to live."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from simulation.journeys import Journey, live_through
from simulation.line import CONFIRMED, Line
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import PhaseReached
from tallystick.router.forwarding.circuits import PolicySet
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.receiving.payee import PayeeOptions

SECRET, OTHER = b"s" * 32, b"o" * 32
AMOUNTS = (100_100, 100_000)
LIFETIME = 600


class Payer:
    """A, as its payments see its locks: the first one is signed, and its peer away once it is."""

    def __init__(self) -> None:
        self.world = world = Line()
        self.channel: ChannelId = world.channel("AB")
        self.session = world["A"].engine.session(self.channel)
        self.locks = world["A"].channels
        world.send("ABC", AMOUNTS, SECRET, lifetime=LIFETIME)
        world.settle()

    def part(self) -> bool:
        return self.locks.is_over(self.channel, 0)


def test_a_part_whose_peer_is_away_is_over_once_the_confirmed_chain_is_past_its_expiry_and_no_second_before() -> None:
    payer = Payer()
    payer.world.disconnect(payer.world["A"], payer.world["B"])
    payer.world.pass_time(LIFETIME + CONFIRMED)
    assert not payer.part()
    payer.world.pass_time(1)
    assert payer.part() and payer.session.channel.newest.locks != ()


def test_a_part_whose_channel_is_gone_is_over_at_once() -> None:
    payer = Payer()
    for phase in (Phase.CLOSED, Phase.SETTLED):
        payer.world["A"].engine.apply(payer.channel, PhaseReached(phase))
        assert not payer.part()
    payer.world["A"].engine.apply(payer.channel, PhaseReached(Phase.GONE))
    assert payer.part()


def test_a_part_that_is_not_signed_is_not_over_and_only_such_a_one_can_be_given_up() -> None:
    """Were it taken for over, it could be paid a second time and then be signed all the same."""
    payer = Payer()
    world, a = payer.world, payer.world["A"]
    world["B"].mute = lambda message: isinstance(message, Ack)
    expiry = world.time + LIFETIME
    for secret in (OTHER, b"p" * 32):
        built = world.onion("BC", AMOUNTS, expiry, digest_of(secret))
        row = PolicySet(payer.channel, ForwardingPolicy())  # any: a part's own is stored with its signature, too
        a.channels.send_lock(payer.channel, AMOUNTS[0], expiry, digest_of(secret), built.packet, row)
        world.settle()
    assert payer.session.outbox.queued_locks == 1 and payer.session.channel.newest.next_lock == 2
    assert [payer.locks.is_over(payer.channel, lock) for lock in range(3)] == [False] * 3
    payer.locks.give_up(payer.channel, 1)
    assert a.dropped == [] and payer.session.outbox.queued_locks == 1
    payer.locks.give_up(payer.channel, 2)
    assert a.dropped == [2]


def test_a_part_that_both_agree_is_gone_is_over() -> None:
    payer = Payer()
    payer.world["C"].locks.reveal(payer.world["C"].finals[0].channel, 0, SECRET)
    assert not payer.part()
    payer.world.settle()
    assert payer.part()


@pytest.mark.parametrize("claim", [360, 7_200])
def test_the_locks_of_a_payment_live_as_long_as_its_invoice_asks_for(claim: int) -> None:
    async def fault(journey: Journey) -> None:
        dave, alice = journey.node("dave"), journey.node("alice")
        invoicing = dave.routing.invoicing
        options = msgspec.structs.replace(dave.config.payments, patience=PayeeOptions(claim=claim))
        invoicing._node = dataclasses.replace(invoicing._node, options=options)
        invoice = await journey.invoice(hold=True)
        assert decode_invoice(invoice.text).lock_life == claim
        journey.ask(invoice)
        assert await journey.world.until(lambda: bool(dave.routing.receiving.held_payments), 60)
        (lock,) = alice.channels[0].view.channel.newest.locks
        left = lock.expiry - journey.world.chain.newest.header.time
        assert left > max(claim + 500, alice.config.payments.lock_seconds - 100)
        await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)

    assert live_through(fault).receipts
