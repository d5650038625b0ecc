"""Whole nodes with a virtual channel over a hub: it opens, carries payments, and ends off chain, or in court."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput, TallystickError
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.virtual_store import VirtualPhase
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Message
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.protocol.virtual import VIRTUAL, conditions_of
from tallystick.channels.protocol.virtual_messages import VirtualEnding
from tallystick.channels.session.inputs import RequestClose
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.router.invoices.invoice import decode_invoice
from tallystick.router.objects import NodeKey
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.enforcement.budgets import DutyPolicy

DEPOSIT, STAKE = 10**9, 10**8
CONFIG = Config(
    challenge_period=600,
    duties=DutyPolicy(worth_percent=0, unlock_patience=60),
    routing=RoutingOptions(stakes=StakeLimits(percent=50)),
    app_patience=120,
    virtual_deposit=STAKE,
)
NAMES = ("alice", "bob", "hub")


@contextlib.asynccontextmanager
async def street(seed: int, config: Config = CONFIG) -> AsyncIterator[World]:
    """Alice and Bob each have a channel with a hub, both have coins in it, and they are connected."""
    async with open_world(seed, config=config, names=NAMES) as world:
        nodes = {name: await world.start(name) for name in NAMES}
        for name in ("alice", "bob"):
            channel = await nodes[name].open_channel(world.address("hub"), DEPOSIT)
            await nodes["hub"].channel(channel.id).deposit(DEPOSIT)
        await nodes["alice"].connect(world.address("bob"))
        assert await world.until(lambda: all(node.channels[0].spendable > DEPOSIT // 2 for node in nodes.values()))
        yield world


async def opened(world: World, deposit: int = STAKE, peer_deposit: int = STAKE, **terms: int) -> ChannelHandle:
    alice, bob, hub = (world.node(name) for name in NAMES)
    channel = await alice.open_virtual(bob.key.public, deposit, peer_deposit, over=(hub.address,), **terms)
    assert await world.until(lambda: theirs(world).phase is Phase.OPEN)
    return channel


def mine(node: Node) -> ChannelHandle:
    return next(handle for handle in node.channels if handle.view.channel.is_virtual)


def theirs(world: World) -> ChannelHandle:
    return mine(world.node("bob"))


def own(world: World, name: str) -> int:
    """What a node owns in its channels with deposits."""
    handles = [handle for handle in world.node(name).channels if not handle.view.channel.is_virtual]
    return sum(handle.balances[0] for handle in handles if handle.phase is not Phase.GONE)


def wealth(world: World) -> dict[str, int]:
    return {name: own(world, name) for name in NAMES}


def pending(world: World) -> int:
    channels = [view.channel for name in NAMES for view in world.node(name).engine.views]
    locks = [lock for each in channels for lock in (*each.newest.locks, *each.theirs.simplex.locks)]
    return sum(lock.kind == VIRTUAL for lock in locks)


async def is_over(world: World) -> bool:
    """Wait until nobody holds anything of virtual channels, and all that was signed for it is acknowledged."""

    def over() -> bool:
        nodes = [world.node(name) for name in NAMES]
        unheard = any(view.channel.flight for node in nodes for view in node.engine.views)
        return not unheard and not pending(world) and not any(node.virtual.virtuals.held for node in nodes)

    return await world.until(over)


@pytest.mark.parametrize("moved", [0, 1_234, -1_234, STAKE, -STAKE])
def test_it_opens_carries_payments_and_ends_without_a_transaction(moved: int) -> None:
    async def main() -> None:
        async with street(1) as world:
            before = wealth(world)
            channel = await opened(world)
            assert channel.spendable == theirs(world).spendable == STAKE
            statistics = [world.node("hub").engine.statistics().signatures]
            for _ in range(3):
                await channel.pay(10)
                await theirs(world).pay(10)
            payer = channel if moved > 0 else theirs(world)
            if moved:
                await payer.pay(abs(moved))
            statistics.append(world.node("hub").engine.statistics().signatures)
            assert statistics[0] == statistics[1], "the hub signs nothing for what is paid"
            await channel.close()
            assert await is_over(world)
            assert wealth(world) == {**before, "alice": before["alice"] - moved, "bob": before["bob"] + moved}
            assert theirs(world).phase is channel.phase is Phase.GONE

    simulate(main, 1)


def test_neither_its_opening_nor_its_end_waits_for_a_block() -> None:
    async def main() -> None:
        async with street(1) as world:
            alice, bob, hub = (world.node(name) for name in NAMES)
            for _ in range(3):
                seen = alice.engine.chain.now
                await alice.until(lambda seen=seen: alice.engine.chain.now > seen)  # type: ignore[misc]
                seen = alice.engine.chain.now
                channel = await alice.open_virtual(bob.key.public, STAKE, STAKE, over=(hub.address,))
                await channel.pay(5)
                await channel.close()
                assert alice.engine.chain.now == seen

    simulate(main, 1)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_each_says_its_outcome_until_the_other_has_it_and_no_longer(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with street(1) as world:
            channel = await opened(world)
            await channel.pay(5)
            said: list[bytes] = []
            made = [await world.node(name).chain.nonce(world.node(name).address) for name in NAMES]

            def listen(engine: Engine) -> Callable[[bytes, Message], None]:
                send = engine.send

                def pass_on(peer: bytes, message: Message) -> None:
                    if isinstance(message, VirtualEnding):
                        said.append(peer)
                    if not isinstance(message, VirtualEnding) or len(said) > lost:
                        send(peer, message)

                return pass_on

            for name in ("alice", "bob"):
                engine = world.node(name).engine
                monkeypatch.setattr(engine, "send", listen(engine))
            await channel.close()
            assert await is_over(world)
            await world.until(lambda: False, 20)
            assert 2 + lost <= len(said) <= 6 + 2 * lost
            assert made == [await world.node(name).chain.nonce(world.node(name).address) for name in NAMES]

    simulate(main, 1)


def test_a_peer_that_puts_in_less_than_is_asked_refuses_and_says_why() -> None:
    async def main() -> None:
        async with street(2) as world:
            before = wealth(world)
            with pytest.raises(ChannelNotReady, match=f"puts at most {STAKE}"):
                await opened(world, peer_deposit=STAKE + 1)
            with pytest.raises(InvalidInput, match="no channel to that hub can send as much"):
                await opened(world, 3 * DEPOSIT)
            alice, hub = world.node("alice"), world.node("hub")
            with pytest.raises(InvalidInput, match="hub is a player"):
                await alice.open_virtual(hub.key.public, STAKE, over=(hub.address,))
            assert await is_over(world) and wealth(world) == before

    simulate(main, 2)


def test_what_peers_ask_for_is_bounded_in_all_and_not_for_each_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with street(2) as world:
            alice, bob, hub = (world.node(name) for name in NAMES)
            first = await opened(world, STAKE, STAKE // 2)
            with pytest.raises(ChannelNotReady, match=f"puts at most {STAKE}.* together"):
                await alice.open_virtual(bob.key.public, STAKE, STAKE // 2 + 1, over=(hub.address,))
            monkeypatch.setattr("tallystick.sdk.node.virtual.HELD_MOST", 2)
            await alice.open_virtual(bob.key.public, STAKE, STAKE // 2, over=(hub.address,))
            with pytest.raises(ChannelNotReady, match="has 2 virtual channels"):
                await alice.open_virtual(bob.key.public, 5, over=(hub.address,))
            await first.close()
            await alice.open_virtual(bob.key.public, STAKE, STAKE // 2, over=(hub.address,))

    simulate(main, 2)


def test_a_hub_that_passes_no_stakes_on_leaves_everything_as_it_was() -> None:
    async def main() -> None:
        none = msgspec.structs.replace(CONFIG, routing=RoutingOptions(stakes=StakeLimits(count=0)))
        async with street(3, none) as world:
            before = wealth(world)
            with pytest.raises(ChannelNotReady):
                await opened(world)
            assert await is_over(world) and wealth(world) == before

    simulate(main, 3)


def test_nothing_else_is_paid_over_it_and_nobody_hears_of_it() -> None:
    async def main() -> None:
        async with street(4) as world:
            channel = await opened(world)
            alice, bob = world.node("alice"), world.node("bob")
            await world.blocks(10)
            for node in (alice, bob, world.node("hub")):
                assert node.routing.maps.graph(NATIVE).get(channel.id, NodeKey(bytes(alice.key.public))) is None
            invoice = await bob.create_invoice(5_000)
            assert all(hint.channel != channel.id for hint in decode_invoice(invoice.text).hints)
            await alice.pay(invoice.text)
            assert channel.balances == (STAKE, STAKE), "it went over the hub"
            with pytest.raises(InvalidInput, match="virtual"):
                await channel.deposit(5)
            with pytest.raises(InvalidInput, match="virtual"):
                await channel.withdraw(5)

    simulate(main, 4)


@pytest.mark.parametrize("reserve", [0, 5_000])
def test_without_room_for_a_settlement_the_court_is_shown_the_outcome_and_no_channel_closes(reserve: int) -> None:
    """Alice has nothing left in her channel with the hub beside her stake: she owes a part of that."""

    async def main() -> None:
        async with street(5) as world:
            channel = await opened(world)
            alice, hub = world.node("alice"), world.node("hub")
            direct = next(handle for handle in alice.channels if not handle.view.channel.is_virtual)
            await direct.pay(direct.spendable - reserve)
            before = wealth(world)
            await channel.pay(70_000)
            await channel.close()
            assert await is_over(world)
            assert wealth(world) == {**before, "alice": before["alice"] - 70_000, "bob": before["bob"] + 70_000}
            assert all(handle.phase is Phase.OPEN for handle in hub.channels)
            assert world.node("bob").onchain.index.virtual(conditions_of(channel.id)[0], 10**9) is not None

    simulate(main, 5)


@pytest.mark.parametrize("moved", [40_000, -40_000])
def test_when_the_other_is_gone_who_is_owed_goes_to_court_and_nobody_else(moved: int) -> None:
    async def main() -> None:
        async with street(6) as world, world.brisk():
            channel = await opened(world, period=600)
            await (channel if moved > 0 else theirs(world)).pay(abs(moved))
            await world.crash("alice")
            bob, stake = world.node("bob"), conditions_of(channel.id)[0]
            bob.engine.apply(channel.id, RequestClose())

            def decided() -> bool:
                court = bob.onchain.index.virtual(stake, 10**9)
                return court is not None and court.is_decided(world.chain.newest.header.time)

            assert await world.until(decided, 1_000, every=20) == (moved > 0)
            if moved > 0:
                court = bob.onchain.index.virtual(stake, 10**9)
                assert court is not None
                assert sorted(court.record.paid) == [0, 0, 0, moved]
                assert theirs(world).phase is Phase.CLOSING
                assert all(handle.phase is Phase.OPEN for handle in world.node("hub").channels)

    simulate(main, 6)


def test_it_ends_by_itself_before_it_expires() -> None:
    async def main() -> None:
        async with street(7) as world, world.brisk():
            before = wealth(world)
            alice, bob, hub = (world.node(name) for name in NAMES)
            expiry = world.chain.newest.header.time + 7_300
            channel = await alice.open_virtual(bob.key.public, STAKE, STAKE, over=(hub.address,), expiry=expiry)
            await channel.pay(77)
            assert await world.until(lambda: channel.phase is Phase.GONE, 7_300, every=30)
            assert world.chain.newest.header.time < expiry - 900
            assert await is_over(world)
            assert wealth(world) == {**before, "alice": before["alice"] - 77, "bob": before["bob"] + 77}

    simulate(main, 7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_a_crash_at_any_effect_of_its_end_changes_nothing_of_what_it_pays(name: str, step: int) -> None:
    """Both stopped, the settlement, the outcome, the claims: whoever dies at whatever commit or message."""

    async def main(index: int) -> bool:
        async with street(8) as world:
            before = wealth(world)
            channel = await opened(world)
            await channel.pay(12_345)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=index % 2 == 1)
            last = len(life.gate.effects) + index
            world.node("alice").engine.apply(channel.id, RequestClose())
            await world.until(lambda: not world.is_up(name), 20)
            if not world.is_up(name):
                await world.start(name)
            if world.node("alice").channel(channel.id).view.payable:  # she died before her wish was stored
                world.node("alice").engine.apply(channel.id, RequestClose())
            assert await is_over(world), "something is left"
            paid = {**before, "alice": before["alice"] - 12_345, "bob": before["bob"] + 12_345}
            assert await world.until(lambda: wealth(world) == paid), "the last acknowledgement may be on its way"
            return len(life.gate.effects) > last

    index = 0
    while simulate(main, 8, index):
        index += step
    assert index > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_while_it_opens_leaves_it_open_or_nothing(name: str) -> None:
    def rests(world: World) -> bool:
        if not all(world.is_up(each) for each in NAMES):
            return False
        held = [world.node(each).virtual.virtuals.held for each in NAMES[:2]]
        usable = all(len(each) == 1 and each[0].phase is VirtualPhase.OPEN for each in held)
        return usable or (not any(held) and not pending(world))

    async def main(index: int) -> bool:
        async with street(9) as world, world.brisk(), trio.open_nursery() as nursery:
            before = wealth(world)
            life = world.seats[name].life
            assert life is not None
            life.gate.aim(index, after=False)
            last = len(life.gate.effects) + index

            async def begin() -> None:
                with contextlib.suppress(TallystickError):
                    await opened(world)

            nursery.start_soon(begin)
            await world.until(lambda: not world.is_up(name), 20)
            if not world.is_up(name):
                await world.start(name)
            assert await world.until(lambda: rests(world), 2_000, every=2)
            if not pending(world):
                assert wealth(world) == before
            nursery.cancel_scope.cancel()
            return len(life.gate.effects) > last
        return False

    index = 0
    while simulate(main, 9, index):
        index += 2
        if index > 30:
            break
    assert index > 5
