"""Virtual channels over hubs in trouble: crashes, absences, old balances in court, a hub that is away to the end."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation.virtual_row import CONFIG, ROW, STAKE, all_open, gains, opened, rests, row, wealth
from tallystick.channels.node.virtual_store import VirtualPhase
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.protocol.virtual import VIRTUAL, BalancesProof, conditions_of
from tallystick.channels.session.inputs import RequestClose
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.testing.world import World, key_of
from tallystick.settlement.chain import RegisterProofCall
from tallystick.settlement.enforcement.budgets import DutyPolicy

NOBODY = dict.fromkeys(ROW, 0)
PAID = 12_345
ONE_HUB = ("alice", "hub", "bob")
SOON, LATE = 60, 6 * 3_600
"""How long who is owed something waits before it closes the channel."""
FEES_MOST = STAKE // 20
"""What the transactions of one node cost at most here: closes, settlements, redemptions."""


async def end(world: World, channel: ChannelHandle) -> None:
    """Ask for the end at Alice's, again if she died before her wish was stored."""
    alice = world.node("alice")
    if alice.channel(channel.id).view.payable:
        alice.engine.apply(channel.id, RequestClose())


@pytest.mark.parametrize("name", ROW)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("away", [0, 200])
def test_whoever_dies_at_whatever_effect_of_its_end_changes_nothing_of_what_is_paid(
    name: str, step: int, away: int
) -> None:
    """At once up again, or away for longer than the others wait with what the court is for."""

    async def main(index: int) -> bool:
        async with row(11) as world, world.brisk(5.0):
            before = wealth(world)
            channel = await opened(world, period=600)
            await channel.pay(PAID)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=index % 2 == 1)
            last = len(life.gate.effects) + index
            await end(world, channel)
            await world.until(lambda: not world.is_up(name), 20)
            if not world.is_up(name):
                await trio.sleep(away)
                await world.start(name)
            await end(world, channel)
            assert await world.until(lambda: rests(world), 5_000, every=10), "something is left"
            paid = {**NOBODY, "alice": -PAID, "bob": PAID}
            assert await world.until(lambda: gains(world, before) == paid), "the last acknowledgement may be on its way"
            assert all_open(world)
            return len(life.gate.effects) > last

    index = 0
    while simulate(main, 11, index):
        index += step
    assert index > 20


@pytest.mark.parametrize("name", ROW)
def test_whoever_dies_while_it_opens_leaves_it_open_or_nothing(name: str) -> None:
    def settled(world: World) -> bool:
        if not all(world.is_up(each) for each in ROW):
            return False
        held = [world.node(each).virtual.virtuals.held for each in ("alice", "bob")]
        usable = all(len(each) == 1 and each[0].phase is VirtualPhase.OPEN for each in held)
        return usable or rests(world)

    async def main(index: int) -> bool:
        async with row(12) as world, world.brisk(), trio.open_nursery() as nursery:
            before = wealth(world)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=index % 2 == 1)
            last = len(life.gate.effects) + index

            async def begin() -> None:
                try:
                    await opened(world)
                except* Exception:
                    pass

            nursery.start_soon(begin)
            await world.until(lambda: not world.is_up(name), 20)
            if not world.is_up(name):
                await world.start(name)
            assert await world.until(lambda: settled(world), 2_000, every=2)
            nursery.cancel_scope.cancel()
            if rests(world):
                assert wealth(world) == before
            else:
                assert sum(gains(world, before).values()) == 0
            assert all_open(world)
            return len(life.gate.effects) > last
        return False

    index = 0
    while simulate(main, 12, index) and index < 30:
        index += 3
    assert index > 2


def proof_of(world: World, channel: ChannelHandle) -> bytes:
    """The newest balances of a virtual channel, as its payee could bring them to court now."""
    holding = world.node("alice").virtual.virtuals.find(channel.id)
    assert holding is not None
    held = world.node("alice").engine.views.channel(channel.id)
    ours = held.ours.statement if held.ours.seq else None
    theirs = held.theirs.statement if held.theirs.seq else None
    return BalancesProof(holding.terms, (ours, theirs) if held.side == 0 else (theirs, ours)).encode()


@pytest.mark.parametrize("cheat", ["alice", "bob"])
@pytest.mark.parametrize("names", [ONE_HUB, ROW], ids=["one hub", "two hubs"])
def test_old_balances_in_court_are_answered_by_the_newest_and_nobody_gains(names: tuple[str, ...], cheat: str) -> None:
    """Whoever brings what was true before the last payment, which went the other way, gets what is true now."""

    async def main() -> None:
        async with row(13, names=names) as world, world.brisk():
            before = wealth(world)
            channel = await opened(world, period=600)
            mine, theirs = channel, world.node("bob").channel(channel.id)
            first, then = (theirs, mine) if cheat == "alice" else (mine, theirs)
            await first.pay(70_000)
            await then.pay(10)
            old = proof_of(world, channel)
            await then.pay(90_000)
            moved = 20_010 if cheat == "alice" else -20_010
            call = RegisterProofCall(VIRTUAL, conditions_of(channel.id)[0], old)
            await world.chain.send(key_of(cheat), call)
            assert await world.until(lambda: rests(world), 5_000, every=10)
            assert gains(world, before) == {**dict.fromkeys(names, 0), "alice": -moved, "bob": moved}
            assert all_open(world)

    simulate(main, 13)


@pytest.mark.parametrize(
    ("names", "away", "patience"),
    [
        pytest.param(ONE_HUB, "hub", SOON, id="one hub, closes"),
        pytest.param(ONE_HUB, "hub", LATE, id="one hub, waits"),
        pytest.param(ROW, "hub", SOON, id="the first of two, closes"),
        pytest.param(ROW, "hub", LATE, id="the first of two, waits", marks=pytest.mark.soak),
        pytest.param(ROW, "inn", SOON, id="the second of two, closes", marks=pytest.mark.soak),
        pytest.param(ROW, "inn", LATE, id="the second of two, waits"),
    ],
)
def test_a_hub_that_is_away_until_the_expiry_is_even_and_so_is_everybody_else(
    names: tuple[str, ...], away: str, patience: int
) -> None:
    """The two end without it, by the court; whoever it owes closes its channel with it, or waits until it is back."""
    config = msgspec.structs.replace(CONFIG, duties=DutyPolicy(worth_percent=0, unlock_patience=patience))

    async def owned(world: World, name: str) -> int:
        return sum(await holdings(world.node(name), NATIVE))

    async def main() -> None:
        async with row(14, config, names=names) as world, world.brisk(20.0):
            before = {name: await owned(world, name) for name in names}
            channel = await opened(world, life=7_300, period=600)
            await channel.pay(PAID * 1_000)
            expiry = world.chain.newest.header.time + 7_300
            await world.crash(away)
            await end(world, channel)
            assert await world.until(lambda: world.chain.newest.header.time > expiry + 700, 9_000, every=60)
            await world.start(away)
            assert await world.until(lambda: rests(world), 20_000, every=60)
            assert all_open(world) is (patience == LATE)
            for name in names:
                gain = await owned(world, name) - before[name]
                fair = {"alice": -PAID * 1_000, "bob": PAID * 1_000}.get(name, 0)
                assert fair - FEES_MOST < gain <= fair, name

    simulate(main, 14)
