"""Virtual channels over two hubs: they open by themselves, over named hubs, another way, and no hub gains or loses."""

from __future__ import annotations

import msgspec
import pytest

from simulation.virtual_row import (
    CONFIG,
    DEPOSIT,
    ROW,
    STAKE,
    all_open,
    gains,
    opened,
    pending,
    real,
    rests,
    row,
    wealth,
)
from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.virtual import conditions_of
from tallystick.channels.session.inputs import RequestClose
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.router.network.options import PaymentOptions

NOBODY = dict.fromkeys(ROW, 0)


@pytest.mark.parametrize("moved", [0, 1_234, -1_234, STAKE, -STAKE])
def test_it_opens_by_a_way_that_its_players_find_and_ends_without_a_transaction(moved: int) -> None:
    async def main() -> None:
        async with row(1) as world:
            before = wealth(world)
            made = [await world.node(name).chain.nonce(world.node(name).address) for name in ROW]
            channel = await opened(world)
            assert {name: pending(world, name) > 0 for name in ROW} == dict.fromkeys(ROW, True)
            signed = [world.node(name).engine.statistics().signatures for name in ("hub", "inn")]
            payer = channel if moved > 0 else world.node("bob").channel(channel.id)
            if moved:
                await payer.pay(abs(moved))
            assert signed == [world.node(name).engine.statistics().signatures for name in ("hub", "inn")]
            await channel.close()
            assert await world.until(lambda: rests(world), 600)
            assert gains(world, before) == {**NOBODY, "alice": -moved, "bob": moved} and all_open(world)
            assert made == [await world.node(name).chain.nonce(world.node(name).address) for name in ROW]

    simulate(main, 1)


def test_it_goes_over_the_hubs_that_are_named_in_order_and_over_no_others() -> None:
    async def main() -> None:
        async with row(2) as world:
            alice, bob = world.node("alice"), world.node("bob")
            hub, inn = (world.node(name).address for name in ("hub", "inn"))
            with pytest.raises(InvalidInput, match="no channel with"):
                await alice.open_virtual(bob.key.public, STAKE, over=(inn, hub))
            with pytest.raises(ChannelNotReady, match="no way over those hubs"):
                await alice.open_virtual(bob.key.public, STAKE, over=(hub,))
            with pytest.raises(InvalidInput, match="5 hubs at most"):
                await alice.open_virtual(bob.key.public, STAKE, over=(hub, inn) * 3)
            with pytest.raises(InvalidInput, match="named twice"):
                await alice.open_virtual(bob.key.public, STAKE, over=(hub, inn, hub))
            channel = await alice.open_virtual(bob.key.public, STAKE, STAKE, over=(hub, inn))
            await channel.pay(5)
            await channel.close()
            assert await world.until(lambda: rests(world), 600)

    simulate(main, 2)


def test_players_whose_channels_the_network_does_not_know_name_them_to_each_other() -> None:
    async def main() -> None:
        quiet = msgspec.structs.replace(CONFIG, payments=PaymentOptions(announce=False))
        async with row(3, others=("carol", "dave")) as world:
            for name in ("carol", "dave"):
                await world.start(name, quiet)
            for name, hub in (("carol", "hub"), ("dave", "inn")):
                made = await world.node(name).open_channel(world.address(hub), DEPOSIT)
                await world.node(hub).channel(made.id).deposit(DEPOSIT)
            carol, dave = world.node("carol"), world.node("dave")
            await carol.connect(world.address("dave"))
            assert await world.until(lambda: len(carol.routing.graph) == 6 == len(dave.routing.graph), 600)
            assert await world.until(lambda: all(n.channels[0].spendable > STAKE for n in (carol, dave)))
            assert await world.until(lambda: all(n.channels[0].balances[1] >= DEPOSIT for n in (carol, dave)))
            channel = await carol.open_virtual(dave.key.public, STAKE, STAKE)
            await channel.pay(77)
            await channel.close()
            assert await world.until(lambda: not dave.virtual.virtuals.held and not carol.virtual.virtuals.held, 600)
            assert dave.channels[0].balances[0] == DEPOSIT + 77

    simulate(main, 3)


def test_a_stake_that_comes_back_is_sent_another_way() -> None:
    """The first hub that is tried passes none on; another row leads to Bob, too."""

    async def main() -> None:
        async with row(4, names=("alice", "hub", "bob"), others=("inn",)) as world:
            alice, bob = world.node("alice"), world.node("bob")
            none = msgspec.structs.replace(CONFIG, routing=RoutingOptions(stakes=StakeLimits(count=0)))
            await world.crash("hub")
            await world.start("hub", none)
            await world.start("inn")
            made = await alice.open_channel(world.address("inn"), DEPOSIT)
            await world.node("inn").channel(made.id).deposit(DEPOSIT)
            other = await world.node("inn").open_channel(world.address("bob"), DEPOSIT)
            await bob.channel(other.id).deposit(DEPOSIT)
            assert await world.until(lambda: len(alice.routing.graph) == 8 == len(bob.routing.graph), 600)
            assert await world.until(lambda: all(h.view.usable for h in (*alice.channels, *bob.channels)), 120)
            before = wealth(world)
            channel = await opened(world)
            await channel.pay(9)
            await channel.close()
            assert await world.until(lambda: rests(world), 600)
            assert gains(world, before) == {"alice": -9, "bob": 9, "hub": 0, "inn": 0}

    simulate(main, 4)


def test_a_direct_channel_carries_no_virtual_one() -> None:
    async def main() -> None:
        async with row(5, names=("alice", "bob")) as world:
            with pytest.raises(ChannelNotReady, match="no way over hubs"):
                await world.node("alice").open_virtual(world.node("bob").key.public, STAKE)
            assert await world.until(lambda: rests(world))

    simulate(main, 5)


def test_what_hubs_let_virtual_channels_bind_between_them_is_the_limit_of_all() -> None:
    """Places for two stakes between the hubs: a second channel finds none, until the first has ended."""

    async def main() -> None:
        two = msgspec.structs.replace(CONFIG, routing=RoutingOptions(stakes=StakeLimits(count=2, percent=50)))
        async with row(6, two) as world:
            alice, bob = world.node("alice"), world.node("bob")
            before = wealth(world)
            first = await opened(world)
            with pytest.raises(ChannelNotReady, match=r"did not open"):
                await alice.open_virtual(bob.key.public, STAKE // 2, STAKE // 2)
            assert first.phase is Phase.OPEN
            await first.pay(STAKE)
            await first.close()
            assert await world.until(lambda: rests(world), 900)
            second = await opened(world, STAKE // 2, STAKE // 2)
            await second.close()
            assert await world.until(lambda: rests(world), 900)
            assert gains(world, before) == {**NOBODY, "alice": -STAKE, "bob": STAKE} and all_open(world)

    simulate(main, 6)


def test_without_a_place_for_the_settlement_the_court_is_shown_the_outcome_and_hubs_pay_the_part() -> None:
    async def main() -> None:
        two = msgspec.structs.replace(CONFIG, routing=RoutingOptions(stakes=StakeLimits(count=2, percent=50)))
        async with row(7, two) as world, world.brisk():
            before = wealth(world)
            channel = await opened(world)
            await channel.pay(70_000)
            world.node("alice").engine.apply(channel.id, RequestClose())
            assert await world.until(lambda: rests(world), 3_000, every=10)
            assert gains(world, before) == {**NOBODY, "alice": -70_000, "bob": 70_000} and all_open(world)
            assert world.node("bob").onchain.index.virtual(conditions_of(channel.id)[0], 10**9) is not None

    simulate(main, 7)


def test_what_a_peer_asks_for_and_takes_back_leaves_nothing_on_disk() -> None:
    async def main() -> None:
        async with row(8, names=("alice", "hub", "bob")) as world:
            alice, bob = world.node("alice"), world.node("bob")
            rows = len(bob.channels)
            for round_ in range(3):
                channel = await opened(world, STAKE - round_)
                held = alice.virtual.virtuals.find(channel.id)
                assert held is not None
                alice.virtual.virtuals._withdraw(held, "never mind")
                assert await world.until(lambda: rests(world), 600)
            assert bob.virtual.virtuals.find(channel.id) is None and len(bob.channels) == rows
            assert alice.virtual.virtuals.find(channel.id) is not None, "its own owner may want to know why"
            used = await opened(world)
            await used.pay(5)
            await used.close()
            assert await world.until(lambda: rests(world), 600)
            assert bob.virtual.virtuals.find(used.id) is not None and len(bob.channels) == rows + 1
            await world.crash("bob")
            await world.start("bob")
            assert len(real(world, "bob")) == rows and len(world.node("bob").channels) == rows + 1

    simulate(main, 8)
