"""One hash in several locks, and fees that change while a lock waits: each lock is one of its own, at its own price."""

from __future__ import annotations

import pytest

from simulation.line import Line
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Reveal
from tallystick.channels.session.inputs import SignDue
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalLock

SECRET = b"s" * 32
AMOUNTS = (100_100, 100_000)
DEPOSIT = 1_000_000
LIFETIME = 600


class Twins:
    """A, B and C with two channels between neighbours each; B has forwarded one hash twice."""

    def __init__(self, first: int, second: int) -> None:
        """The second lock comes over the `first`-th channel with A (0: the same) and leaves over the `second`-th."""
        self.world = world = Line(twins=("AB", "BC"))
        self.start = {name: world.wealth(name) for name in "ABC"}
        expiry = world.time + LIFETIME
        for seed, (came, leaves) in ((b"1", (0, 0)), (b"2", (first, second))):
            built = world.onion("BC", AMOUNTS, expiry, digest_of(SECRET), seed=seed, number=leaves)
            channel = world.channel("AB", came)
            world["A"].channels.send_lock(channel, AMOUNTS[0], expiry, digest_of(SECRET), built.packet)
            world.settle()
        assert len(self.finals) == 2 and len(load_circuits(world["B"].store)) == 2

    @property
    def finals(self) -> list[FinalLock]:
        return self.world["C"].finals

    def made(self, payments: int) -> None:
        """So many of the two were made, by everybody."""
        world = self.world
        assert world.wealth("A") == self.start["A"] - payments * AMOUNTS[0]
        assert world.wealth("B") == self.start["B"] + payments * (AMOUNTS[0] - AMOUNTS[1])
        assert world.wealth("C") == self.start["C"] + payments * AMOUNTS[1]
        assert world.faults == [] and all(member.alarms == [] for member in world.members.values())


WAYS = pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (1, 0), (1, 1)])


@WAYS
def test_a_secret_that_is_told_for_one_lock_pays_that_one_and_the_other_may_come_back(first: int, second: int) -> None:
    twins = Twins(first, second)
    world, (one, other) = twins.world, twins.finals
    world["C"].locks.reveal(one.channel, one.lock.id, SECRET)
    world.settle()
    twins.made(1)
    (circuit,) = (circuit for circuit, _ in load_circuits(world["B"].store))
    assert (circuit.outgoing, circuit.outgoing_lock) == (other.channel, other.lock.id)
    world["C"].locks.refuse(other, Failure(Code.MPP_TIMEOUT))
    world.settle()
    twins.made(1)
    assert world.pending() == []
    assert [forward.outcome for forward in forwards_after(world["B"].store, 0, 9)] == [
        ForwardOutcome.PAID,
        ForwardOutcome.FAILED,
    ]


@WAYS
@pytest.mark.parametrize("crash", [False, True])
def test_a_secret_that_the_chain_shows_pays_every_lock_of_its_hash(first: int, second: int, crash: bool) -> None:
    twins = Twins(first, second)
    world = twins.world
    world["C"].locks.refuse(twins.finals[0], Failure(Code.MPP_TIMEOUT))
    world.settle()
    if crash:
        world.crash(world["B"])
    world.register(SECRET)
    world.pass_time(20)
    world.connect()
    world.settle()
    twins.made(1)
    assert world.pending() == []


@WAYS
def test_a_peer_that_pays_one_of_two_locks_has_not_paid_the_other(first: int, second: int) -> None:
    """A says that it never heard of the second secret, though it is the first one's. B goes to the chain for it."""
    twins = Twins(first, second)
    world, unpaid = twins.world, (twins.world.channel("AB", first), 1 - first)
    world["B"].mute = lambda message: isinstance(message, Reveal) and (message.channel, message.lock) == unpaid
    for final in twins.finals:
        world["C"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    assert world.wealth("B") == twins.start["B"] + AMOUNTS[0] - 2 * AMOUNTS[1]
    world.pass_time(LIFETIME - 60)
    world.claim()
    world.pass_time(20)
    world.settle()
    twins.made(2)
    assert world.pending() == []


# --- fees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True])
def test_a_lock_that_waits_unsigned_keeps_its_price_unless_it_is_decided_anew(crash: bool) -> None:
    """B raises its fee while a lock waits for C's acknowledgement. After a crash nothing is signed: it is refused."""
    world = Line()
    start = world.wealth("B")
    world["C"].mute = lambda message: isinstance(message, Ack)
    world.send("ABC", AMOUNTS, b"o" * 32, seed=b"1")
    world.settle()
    built = world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    b = world["B"]
    assert len(b.engine.session(world.channel("BC")).outbox) == 1
    b.writer.add(b.policies.set_policy(world.channel("BC"), ForwardingPolicy(fee_ppm=50_000)))
    world.settle()
    world["C"].mute = lambda message: False
    world["C"].secrets[digest_of(SECRET)] = SECRET
    if crash:
        world.crash(b)
        world.connect()
        world.settle()
        found = world.failure("A", built)
        assert found is not None and (found[0], found[1].code) == (0, Code.FEE_INSUFFICIENT)
        assert world.wealth("B") == start
    else:
        session = b.engine.session(world.channel("BC"))
        world["C"].engine.sessions[world.channel("BC")].must_ack = True
        world["C"].engine.apply(world.channel("BC"), SignDue())
        world.settle()
        assert session.channel.phase is Phase.OPEN and world.wealth("B") == start + AMOUNTS[0] - AMOUNTS[1]
        assert world["A"].receipts == {SECRET}


def test_a_fee_that_falls_or_rises_between_two_payments_counts_for_the_next_lock_only() -> None:
    world = Line()
    world["C"].secrets = {digest_of(secret): secret for secret in (SECRET, b"o" * 32, b"p" * 32)}
    b, channel = world["B"], world.channel("BC")
    for fee, secret, taken in ((2_000, SECRET, False), (0, b"o" * 32, True), (1_010, b"p" * 32, False)):
        b.writer.add(b.policies.set_policy(channel, ForwardingPolicy(fee_ppm=fee)))
        world.send("ABC", AMOUNTS, secret)
        world.settle()
        assert (secret in world["A"].receipts) is taken
    assert world.wealth("B") == 2 * DEPOSIT + AMOUNTS[0] - AMOUNTS[1]
