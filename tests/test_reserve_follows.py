"""The reserve follows what is in the channel, for both sides, whenever each of them comes to see it."""

from __future__ import annotations

import pytest

from simulation.mallory import Mallory
from simulation.pair import Pair, Party
from tallystick.channels.errors import Fault, InsufficientFunds, InvalidInput
from tallystick.channels.limits import RESERVE_PPM_MAX, WINDOW_MAX, Policy
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Counts, OpenRefuse, OpenRequest, Reestablish, decode, encode
from tallystick.channels.session.effects import Event
from tallystick.channels.session.inputs import RequestWithdrawal
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world

PPM = 100_000


def connected(deposits: tuple[int, int], ppm: int = PPM) -> Pair:
    pair = Pair(deposits, reserve_ppm=ppm)
    pair.connect()
    pair.settle()
    return pair


def pay(pair: Pair, party: Party, amount: int) -> None:
    party.engine.pay(pair.id, amount)
    pair.settle()
    assert pair.faults == []


def deposit(pair: Pair, deposits: tuple[int, int], *seers: Party) -> None:
    """The chain confirms deposits, to those who see it already."""
    for party in seers or pair.parties:
        party.fund(deposits)
    pair.settle()


# --- what a cheater has to lose -----------------------------------------------------------------------------------


def test_an_opening_with_one_unit_and_a_large_deposit_behind_it_leaves_a_cheater_something_to_lose() -> None:
    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600, duties=CLAIM_ALL)) as world:
            await cheat(world)

    simulate(main, 1)


async def cheat(world: World) -> None:
    alice, bob = await world.start("alice"), await world.start("mallory")
    channel = await bob.open_channel(world.address("alice"), 1)
    await channel.deposit(10_000_000)
    await bob.until(lambda: channel.spendable > 9_000_000)
    side = channel.view.channel.side
    await channel.pay(1)
    await world.blocks(1)
    villain = Mallory(world)
    old = (villain.newest(channel.id, 0), villain.newest(channel.id, 1))
    for amount in (5_000_000, channel.spendable - 5_000_000):
        await channel.pay(amount)
        await world.blocks(1)
    with pytest.raises(InsufficientFunds):
        await channel.pay(1)
    await world.blocks(1)
    assert channel.balances[0] == 100_000 == channel.view.channel.own_reserve(10_000_001)
    await world.crash("mallory")
    await villain.close(channel.id, *old)
    await world.until(lambda: alice.channel(channel.id).phase is Phase.GONE, 3_000)
    view = await world.chain.channel(channel.id)
    assert view is not None and view.convicted
    settled = [event for made in world.chain.slice(0, 1_000) for _, _, event in made.logs() if hasattr(event, "net0")]
    assert (settled[-1].net0, settled[-1].net1)[1 - side] == 10_000_001  # the reserve, too
    await world.blocks(1)


def test_both_sides_keep_a_share_of_what_both_have_put_in() -> None:
    pair = connected((10_000, 0))
    pay(pair, pair.alice, 5_000)
    for party, most in ((pair.alice, 4_000), (pair.bob, 4_000)):
        assert party.session.spendable == party.session.signable == most
    deposit(pair, (10_000, 40_000))
    assert pair.alice.session.spendable == 0 and pair.bob.session.spendable == 40_000
    with pytest.raises(InsufficientFunds):
        pair.alice.engine.pay(pair.id, 1)
    pay(pair, pair.bob, 40_000)
    assert pair.alice.session.spendable == 40_000


def test_whoever_falls_below_a_grown_reserve_spends_again_once_it_holds_it() -> None:
    pair = connected((1_000, 0))
    pay(pair, pair.alice, 900)
    deposit(pair, (101_000, 0))
    assert pair.bob.session.spendable == 0 and pair.bob.channel.balances()[1] == 900
    pay(pair, pair.alice, 9_300)
    assert pair.bob.session.spendable == 100
    pay(pair, pair.bob, 100)


# --- computed the same, although it is seen at different times ----------------------------------------------------


def test_what_was_signed_before_its_writer_knew_of_a_deposit_is_taken() -> None:
    pair = connected((1_000, 0))
    deposit(pair, (1_000, 50_000), pair.bob)
    pay(pair, pair.alice, 900)
    assert pair.alice.channel.ours.simplex.proof.transferred == 900


def test_what_is_on_its_way_while_its_writer_comes_to_know_of_a_deposit_is_taken() -> None:
    pair = connected((1_000, 0))
    pair.bob.fund((1_000, 50_000))
    pair.alice.engine.pay(pair.id, 900)
    pair.alice.step()
    pair.disconnect()
    pair.alice.fund((1_000, 50_000))
    pair.alice.step()
    pair.connect()
    for _ in range(20):  # greetings first: Bob hears that Alice counts his deposit before he gets what was signed
        for party in pair.parties:
            party.step()
        pair.deliver(pair.bob)
        pair.deliver(pair.alice)
    pair.settle()
    assert pair.faults == [] and pair.bob.channel.theirs.simplex.proof.transferred == 900
    assert pair.bob.channel.counted == 50_000 and pair.bob.session.spendable > 0


def test_what_was_accepted_before_a_deposit_showed_up_is_still_paid() -> None:
    pair = connected((1_000, 0))
    pair.alice.engine.pay(pair.id, 900)
    pair.alice.fund((1_000, 50_000))
    pair.bob.fund((1_000, 50_000))
    assert pair.alice.session.spendable == 0
    pair.settle()
    assert pair.alice.channel.ours.simplex.proof.transferred == 900
    assert pair.alice.channel.heeded == pair.bob.channel.counted == 50_000


def test_no_deposit_is_spent_before_the_peers_reserve_follows_it() -> None:
    """Mallory says to have signed updates that she keeps back: before they come, Bob gives her nothing of it."""
    pair = connected((1_000, 0))
    pay(pair, pair.alice, 500)
    pair.bob.fund((1_000, 50_000))
    pair.bob.step()
    lie = Reestablish(pair.id, pair.bob.channel.theirs.seq + WINDOW_MAX, None, pair.bob.channel.ours.statement, 50_000)
    for message in (lie, Counts(pair.id, 51_000, 0)):
        pair.inject(pair.bob, encode(message))
    assert pair.faults == []
    assert pair.bob.channel.counted == 0 and pair.bob.session.signable == 400
    pay(pair, pair.bob, 10_000)
    assert pair.bob.channel.newest.proof.transferred == 0


def test_nobody_says_to_have_signed_more_than_may_be_in_flight() -> None:
    pair = connected((1_000, 0))
    lie = Reestablish(pair.id, pair.bob.channel.theirs.seq + WINDOW_MAX + 1, None, None, 0)
    pair.inject(pair.bob, encode(lie))
    assert [fault.code for _, fault in pair.faults] == [Fault.STATE_MISMATCH]


def test_a_peer_that_takes_its_word_back_still_has_to_keep_the_reserve() -> None:
    pair = connected((1_000, 100_000))
    pay(pair, pair.bob, 80_000)
    reserve = pair.bob.channel.peer_reserve()
    pair.inject(pair.bob, encode(Counts(pair.id, 0, 0)))
    pair.crash(pair.bob)
    pair.connect()
    pair.settle()
    pair.inject(pair.bob, encode(Counts(pair.id, 0, 0)))
    assert pair.bob.channel.peer_reserve() == reserve == 10_100


def test_a_withdrawal_that_died_is_not_spent_while_the_peer_may_count_it() -> None:
    """It dies in Bob's chain before Alice has even got the request, and she grants it after that."""

    pair = connected((1_000, 10_000))
    now = pair.bob.chain.now
    pair.bob.apply(RequestWithdrawal(8_000))
    pair.bob.step()
    pair.bob.time(now + 5_000, now + 5_000)
    pair.bob.engine.pay(pair.id, 5_000)
    pair.settle()
    assert pair.faults == [] and pair.alice.channel.withdrawals[1] is not None
    assert pair.bob.channel.ours.simplex.proof.transferred == 0
    pair.alice.time(now + 5_000, now + 5_000)
    pair.settle()
    assert pair.faults == [] and pair.bob.channel.ours.simplex.proof.transferred == 5_000


# --- channels of before, and policy -------------------------------------------------------------------------------


def test_an_opening_of_version_0_1_is_refused_in_a_sentence() -> None:
    events: list[Event] = []
    pair = connected((1_000, 1_000))
    pair.bob.events = events
    pair.inject(pair.bob, encode(OpenRequest(pair.terms, 10, 1_000)))
    pair.bob.step()
    said = [message for message in map(decode, pair.alice.incoming) if isinstance(message, OpenRefuse)]
    assert [message.channel for message in said] == [pair.id] and "later than 0.1" in said[0].text


def test_a_channel_of_version_0_1_keeps_the_reserve_that_was_agreed() -> None:
    pair = Pair((1_000, 0), reserve=100)
    pair.connect()
    pair.settle()
    deposit(pair, (1_000, 50_000))
    pay(pair, pair.alice, 900)
    pay(pair, pair.bob, 50_800)


@pytest.mark.parametrize("wrong", [-1, RESERVE_PPM_MAX + 1, 0.5, True])
def test_a_reserve_that_no_peer_would_take_is_refused_in_the_settings(wrong: int) -> None:
    with pytest.raises(InvalidInput):
        Policy(reserve_ppm=wrong)
