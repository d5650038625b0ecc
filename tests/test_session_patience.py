"""A peer that answers pings and withholds acknowledgements: its connection ends, its channel gets no locks, and who is
merely slow is left alone."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation.journeys import AMOUNT, DEPOSIT, LOCK_SECONDS, Journey, configuration, live_through
from simulation.line import Line
from simulation.mallory import withhold
from simulation.pair import Pair
from tallystick.channels.errors import ChannelNotReady, Fault, InvalidUpdate
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Error, Message, Ping, Reestablish, Update, decode, encode
from tallystick.channels.session.effects import PeerNotice
from tallystick.channels.session.inputs import SubmitPayment, SubmitPayments
from tallystick.channels.session.patience import EXCUSED, PATIENCE_MAX, STEP_MAX, Patience
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

PATIENCE = Policy().ack_patience
SECRET, OTHER = b"s" * 32, b"o" * 32
AMOUNTS = (100_100, 100_000)
FEE = 50
"""What each forwarder of a journey earns."""


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.connect()
    pair.settle()
    return pair


def pay(pair: Pair, amount: int = 1) -> Ticket:
    """Alice signs a payment, and it leaves."""
    ticket = pair.alice.apply(SubmitPayment(amount))
    pair.alice.step()
    return ticket


def lasts(pair: Pair, seconds: int, *, queued: bool = False) -> int | None:
    """Let Alice look at her connection every second; return after how many she ends it, None if she does not."""
    peer = bytes(pair.bob.key.public)
    for second in range(seconds + 1):
        try:
            pair.alice.engine.require_acks(peer, pair.now, queued=queued)
        except InvalidUpdate as fault:
            assert fault.code is Fault.UNACKNOWLEDGED
            pair.faults.append((pair.alice, fault))
            pair.disconnect()
            return second
        pair.now += 1
    return None


def settle(pair: Pair, *lost: type[Message]) -> None:
    """Let everything happen except that messages of these kinds never arrive."""
    for _ in range(20):
        for party in pair.parties:
            party.step()
        for party in pair.parties:
            for frame in list(party.incoming):
                party.incoming.popleft()
                if not isinstance(decode(frame), lost):
                    pair.inject(party, frame)


# --- one channel ------------------------------------------------------------------------------------------------


def test_an_ack_that_is_withheld_ends_the_connection_and_the_next_greeting_brings_it(pair: Pair) -> None:
    ticket = pay(pair)
    settle(pair, Ack)
    assert lasts(pair, 100) == PATIENCE + 1 and not ticket.is_done
    pair.connect()
    pair.settle()
    assert ticket.is_done and ticket.error is None
    assert not pair.alice.session.is_stuck and lasts(pair, 100) is None


def test_the_reason_says_what_was_waited_for(pair: Pair) -> None:
    pay(pair)
    assert lasts(pair, 100) is not None
    ((_, fault),) = pair.faults
    assert "update 1" in str(fault) and pair.id.hex()[:8] in str(fault) and "30 s" in str(fault)


def test_a_peer_that_never_takes_an_update_leaves_its_channel_stuck_and_is_given_ever_more_time(pair: Pair) -> None:
    ticket, waits = pay(pair), []
    for _ in range(9):
        settle(pair, Update)
        waits.append(lasts(pair, 10_000))
        assert pair.alice.session.is_stuck and not pair.alice.engine.view(pair.id).usable
        pair.connect()
    bounds = [min(PATIENCE * 2**cut, PATIENCE_MAX) for cut in range(9)]
    assert waits == [bound + 1 for bound in bounds] and bounds[-1] == PATIENCE_MAX
    pair.settle()
    assert ticket.is_done and not pair.alice.session.is_stuck and pair.alice.engine.view(pair.id).usable


def test_progress_begins_the_patience_anew() -> None:
    """A slow peer that acknowledges one update of many every 25 s is never cut off."""
    pair = Pair((100_000, 0))
    pair.connect()
    pair.settle()
    pair.alice.apply(SubmitPayments(tuple([1] * 40_000)))
    pair.alice.step()
    assert len(pair.alice.channel.flight) > 3
    while pair.bob.incoming:
        pair.deliver(pair.bob)
        pair.bob.step()
        assert lasts(pair, 25) is None
        while pair.deliver(pair.alice):
            pass


def test_a_peer_whose_disk_stalls_is_waited_for(pair: Pair) -> None:
    pay(pair)
    pair.deliver(pair.bob)
    pair.bob.begin()
    assert lasts(pair, 25) is None
    pair.settle()
    assert lasts(pair, 1_000) is None


def test_our_own_disk_is_not_the_peers_fault(pair: Pair) -> None:
    ticket = pair.alice.apply(SubmitPayment(1))
    pair.alice.begin()
    assert lasts(pair, 500) is None
    pair.settle()
    assert ticket.is_done


def test_a_pause_of_our_own_counts_as_a_moment(pair: Pair) -> None:
    pay(pair)
    assert lasts(pair, 2) is None
    pair.now += 86_400
    assert lasts(pair, 5) is None
    pair.settle()
    assert lasts(pair, 100) is None


def test_an_update_that_waits_in_our_own_queue_has_more_time_and_not_for_ever(pair: Pair) -> None:
    pay(pair)
    assert lasts(pair, 1_000, queued=True) == 3 * PATIENCE + 1


def test_a_peer_that_says_why_it_leaves_an_update_aside_is_waited_for_and_not_for_ever(pair: Pair) -> None:
    """As one does whose view of the chain is behind ours, or whose channel is closing."""
    pay(pair)
    pair.bob.incoming.clear()
    pair.inject(pair.alice, encode(Error(pair.id, Fault.CANCEL_REFUSED, "not yet")))
    assert lasts(pair, 10_000) == EXCUSED + 1
    pair.connect()
    settle(pair, Update)
    assert lasts(pair, 10_000) == 2 * PATIENCE + 1


def test_a_channel_that_is_not_in_step_waits_for_nothing(pair: Pair) -> None:
    pay(pair)
    pair.connect()
    pair.alice.step()
    assert not pair.alice.session.ready and lasts(pair, 1_000) is None


def test_a_look_after_a_connection_that_was_not_ended_by_us_begins_anew(pair: Pair) -> None:
    pay(pair)
    assert lasts(pair, 25) is None
    pair.connect()
    settle(pair, Update)
    assert lasts(pair, 25) is None and not pair.alice.session.is_stuck


def test_a_peer_that_ends_the_connection_itself_each_time_is_stuck_as_well(pair: Pair) -> None:
    pay(pair)
    lasted = 0
    while not pair.alice.session.is_stuck:
        assert lasted <= 2 * PATIENCE + 20, "it need only be quick enough with dropping the link"
        settle(pair, Update)
        waited = lasts(pair, 20)
        lasted += 20 if waited is None else waited
        pair.connect()
    assert lasted > 2 * PATIENCE
    for _ in range(5):  # and it is given more time from then on, as one that stays
        settle(pair, Update)
        assert lasts(pair, 20) is None
        pair.connect()
    pair.settle()
    assert not pair.alice.session.is_stuck and pair.alice.engine.view(pair.id).usable


def test_patience_that_is_longer_than_the_longest_stays() -> None:
    patience = Patience(2 * PATIENCE_MAX)
    for _ in range(2_000):
        patience.cut(b"")
    assert patience.bound == 2 * PATIENCE_MAX and STEP_MAX < PATIENCE_MAX


# --- several hops -----------------------------------------------------------------------------------------------


def test_a_stuck_channel_is_given_no_locks_and_the_next_one_to_the_same_peer_is() -> None:
    world = Line(twins=["BC"])
    world["C"].mute = lambda message: isinstance(message, (Ack, Reestablish))
    first, second = (world.channel("BC", number) for number in (0, 1))
    world.send("ABC", AMOUNTS, OTHER, seed=b"1")
    world.settle()
    named = next(session for session in world["B"].engine.sessions.values() if session.channel.flight)
    named.patience.cut(named.channel.id)
    world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    flights = [len(world["B"].engine.session(channel).channel.flight) for channel in (first, second)]
    assert flights == [1, 1], "the second lock went where acknowledgements are not held back"
    with pytest.raises(ChannelNotReady, match="acknowledges"):
        world["B"].channels.send_lock(named.channel.id, 5, world.time + 3_000, digest_of(SECRET), b"")
    named.patience.progress()
    world["B"].channels.send_lock(named.channel.id, 5, world.time + 3_000, digest_of(SECRET), b"")


@pytest.mark.parametrize("name", ["bob", "carol", "dave"])
def test_a_payment_ends_although_somebody_withholds_acks_all_the_time(name: str) -> None:
    async def fault(journey: Journey) -> None:
        journey.dishonest = (name,)
        invoice = await journey.invoice()
        journey.world.seats[name].tamper = withhold(Ack)
        journey.ask(invoice, timeout=LOCK_SECONDS)
        ended = await journey.world.until(lambda: bool(journey.receipts or journey.errors), 10 * PATIENCE)
        assert ended, "the payment pends until somebody cuts the link"
        await journey.world.until(journey.at_rest, 10 * PATIENCE)
        journey.world.seats[name].tamper = None

    journey = live_through(fault)
    assert len(journey.receipts) + len(journey.errors) == 1


def test_a_payer_that_takes_the_secret_and_withholds_everything_is_made_to_pay_by_the_chain() -> None:
    """Its link stays up, and comes back after each cut: the secret is registered in time, the channel is closed."""
    registered: list[int] = []

    async def fault(journey: Journey) -> None:
        world = journey.world
        journey.dishonest = ("alice",)
        invoice = await journey.held()
        dave, bob = journey.node("dave"), journey.node("bob")
        (channel,) = world.channels_between("alice", "bob")
        (lock,) = bob.engine.session(channel).channel.theirs.simplex.locks
        world.seats["alice"].tamper = withhold(Update, Ack)
        await dave.routing.invoicing.settle_invoice(dave.routing.invoicing.invoice(invoice.payment_hash).secret)
        await world.until(lambda: lock.puzzle in bob.engine.chain.proofs, 2 * LOCK_SECONDS)
        registered.append(lock.expiry - bob.engine.chain.proofs[lock.puzzle][0])
        assert await world.until(lambda: bob.engine.session(channel).channel.phase is Phase.GONE, 4 * LOCK_SECONDS)

    config = msgspec.structs.replace(configuration(), duties=DutyPolicy(unlock_patience=600, worth_percent=0))
    journey = live_through(fault, config=config)
    assert registered[0] > 0, "it was registered before the lock expired"
    assert journey.final[1:] == (DEPOSIT - AMOUNT - FEE, DEPOSIT + FEE, AMOUNT), "Bob's first channel is paid out"


async def note(node: Node, notices: list[PeerNotice]) -> None:
    """Collect what a node says of faults."""
    with node.events() as events:
        async for event in events:
            if isinstance(event, PeerNotice):
                notices.append(event)


# --- over a wire ------------------------------------------------------------------------------------------------


def test_a_peer_that_answers_pings_and_withholds_acks_is_cut_off_with_a_reason_and_both_go_on() -> None:
    async def main() -> None:
        async with open_world(3) as world, trio.open_nursery() as nursery:
            alice, mallory = await world.start("alice"), await world.start("mallory")
            notices: dict[Node, list[PeerNotice]] = {alice: [], mallory: []}
            channel = await alice.open_channel(world.address("mallory"), 1_000_000)
            await channel.pay(1)
            for node, found in notices.items():
                nursery.start_soon(note, node, found)
            world.seats["mallory"].tamper = withhold(Ack)
            ticket = await channel.submit(5)
            assert await world.until(lambda: ticket.is_done, 3 * PATIENCE), "the payment pends for ever"
            assert ticket.error is None
            assert [(notice.code, notice.ours) for notice in notices[alice]] == [(Fault.UNACKNOWLEDGED, True)]
            assert [(notice.code, notice.ours) for notice in notices[mallory]] == [(Fault.UNACKNOWLEDGED, False)]
            assert notices[alice][0].text == notices[mallory][0].text
            world.seats["mallory"].tamper = None
            await channel.pay(7)
            assert not channel.view.is_stuck
            nursery.cancel_scope.cancel()

    simulate(main, 3)


@pytest.mark.parametrize("chatty", [False, True])
def test_it_is_noticed_in_time_although_the_link_is_silent_or_full_of_pings(chatty: bool) -> None:
    """What we queue ourselves, to ask whether anybody is there or to answer, is no sign of a slow line."""

    async def ping(world: World, mallory: Node, alice: bytes) -> None:
        while True:
            mallory.peers.say(alice, encode(Ping(1)))
            await trio.sleep(0.3)

    async def main() -> None:
        async with open_world(3, interval=600) as world, trio.open_nursery() as nursery:
            alice, mallory = await world.start("alice"), await world.start("mallory")
            async with world.brisk(5):
                channel = await alice.open_channel(world.address("mallory"), 1_000_000)
                await channel.pay(1)
            if chatty:
                nursery.start_soon(ping, world, mallory, bytes(alice.key.public))
            await trio.sleep(40)  # gossip has said its piece
            world.seats["mallory"].tamper = withhold(Ack)
            began = trio.current_time()
            await channel.submit(5)
            found: list[PeerNotice] = []
            nursery.start_soon(note, alice, found)
            assert await world.until(lambda: bool(found), 300) and found[0].code == Fault.UNACKNOWLEDGED
            assert PATIENCE <= trio.current_time() - began <= PATIENCE + 10
            nursery.cancel_scope.cancel()

    simulate(main, 3)


@pytest.mark.alarm("peer-stuck")
def test_the_owner_is_told_of_a_channel_that_stays_stuck() -> None:
    async def main() -> None:
        async with open_world(4) as world:
            alice = await world.start("alice")
            await world.start("mallory")
            channel = await alice.open_channel(world.address("mallory"), 1_000_000)
            await channel.pay(1)
            world.seats["alice"].tamper = withhold(Update)  # Mallory's node says that it never got one
            ticket = await channel.submit(5)
            await world.until(lambda: channel.view.cuts == 1, 100)
            assert not any("acknowledges nothing" in alarm.text for alarm in alice.alarms)
            await world.until(lambda: channel.view.cuts == 2, 200)
            await world.until(lambda: bool(alice.alarms), 5)
            assert [alarm.text for alarm in alice.alarms if channel.id.hex()[:8] in alarm.text] == [
                f"the peer of channel {channel.id.hex()[:8]} acknowledges nothing, 2 connections in a row: "
                "no locks go over it, what is signed waits; close it alone if that goes on"
            ]
            world.seats["alice"].tamper = None
            assert await world.until(lambda: ticket.is_done, 1_000) and ticket.error is None

    simulate(main, 4)
