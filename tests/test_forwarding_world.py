"""Payments through a forwarder with real nodes, chain and network in virtual time: crashes, stalls, closed channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from simulation.invariants import check_always, check_settled, histories, unsettled
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.effects import LockEnded
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.objects import NodeKey
from tallystick.router.onion.payload import FinalLock, FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import build_onion
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import RegisterSecretCall
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.ethereum.transactions import GAS

DEPOSIT = 10**9
SECRET = b"s" * 32
CONDITION = digest_of(SECRET)
NAMES = ["alice", "bob", "carol"]


class Payee:
    """Opens what comes, at once or when it is told to."""

    def __init__(self, node: Node, *, at_once: bool) -> None:
        self.node, self.at_once = node, at_once
        self.finals: list[FinalLock] = []

    def on_arrived(self, final: FinalLock) -> Sequence[Moment]:
        self.finals.append(final)
        if self.at_once:
            self.open()
        return ()

    def open(self) -> None:
        for final in self.finals:
            self.node.routing.incoming.reveal(final.channel, final.lock.id, SECRET)

    def on_gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        return ()

    def on_time_passed(self) -> Sequence[Moment]:
        return ()


def now(world: World) -> int:
    return world.chain.newest.header.time


class Route:
    """Alice, Bob and Carol with a channel between neighbours, and one payment over both."""

    def __init__(self, world: World, first: ChannelHandle, second: ChannelHandle, payee: Payee) -> None:
        self.world, self.first, self.second, self.payee = world, first, second, payee
        self.before = {name: wealth(world, name) for name in NAMES}

    def send(self, amount: int, lifetime: int = 900, seed: bytes = b"\x07") -> int:
        """Let Alice lock what Bob asks for to carry `amount` to Carol; return the expiry."""
        world, expiry = self.world, now(self.world) + lifetime
        bob, carol = (NodeKey(bytes(world.seats[name].key.public)) for name in NAMES[1:])
        payloads = [
            encode_payload(ForwardPayload(amount, expiry, self.second.id)),
            encode_payload(FinalPayload(amount, expiry, bytes(32), amount)),
        ]
        onion = build_onion(seed * 32, [bob, carol], payloads, CONDITION)
        total = amount + world.node("bob").routing.policies.policy_of(self.second.id).fee(amount)
        world.node("alice").routing.channels.send_lock(self.first.id, total, expiry, CONDITION, onion.packet)
        return expiry

    def gained(self, name: str) -> int:
        return wealth(self.world, name) - self.before[name]


def wealth(world: World, name: str) -> int:
    return sum(channel.balances[0] for channel in world.node(name).channels)


Act = Callable[[Route], Awaitable[None]]


def play(act: Act, *, at_once: bool = True, config: Config | None = None, seed: int = 1) -> None:
    async def main() -> None:
        async with open_world(seed, config=config or Config(challenge_period=600, duties=CLAIM_ALL)) as world:
            for name in NAMES:
                await world.start(name)
            first = await world.node("alice").open_channel(world.address("bob"), DEPOSIT)
            second = await world.node("bob").open_channel(world.address("carol"), DEPOSIT)
            payee = Payee(world.node("carol"), at_once=at_once)
            world.node("carol").routing.router._payee = payee  # its own takes invoices only
            await act(Route(world, first, second, payee))
            check_always(world)

    simulate(main, seed)


async def come_to_rest(world: World) -> None:
    assert await world.until(lambda: all(map(world.is_up, NAMES)) and not unsettled(world, NAMES), 4_000)
    check_settled(world, NAMES)


def test_a_payment_over_two_hops_earns_the_forwarder_its_fee() -> None:
    async def act(route: Route) -> None:
        route.send(1_000_000)
        await come_to_rest(route.world)
        assert (route.gained("alice"), route.gained("bob"), route.gained("carol")) == (-1_001_000, 1_000, 1_000_000)

    play(act)


def test_what_is_too_small_to_be_claimed_is_limited_from_the_first_payment_on() -> None:
    async def act(route: Route) -> None:
        world = route.world
        bob, gas = world.node("bob"), GAS[RegisterSecretCall]
        assert bob.onchain.claim_fee == gas
        world.chain.congest(9)
        await world.blocks(1)
        assert await world.until(lambda: bob.onchain.claim_fee == 10 * gas, 60)
        await world.restart("bob")
        bob = world.node("bob")
        assert bob.onchain.claim_fee == 10 * gas, "before anything can come"
        assert await world.until(lambda: all(channel.connected for channel in bob.channels), 60)
        limit = 10 * gas * bob.config.routing.exposure.claims
        with world.node("alice").events() as events:
            for seed in (b"1", b"2", b"3"):  # with Bob's fee, three of them are more than the limit
                route.send(limit // 3, seed=seed)
            async for event in events:
                if isinstance(event, LockEnded):
                    break
        assert event.paid == 0 and bob.routing.router.statistics().refused == 1
        assert await world.until(lambda: len(route.payee.finals) == 2, 60)

    play(act, at_once=False, config=Config(challenge_period=600))


def crash_of_bob(index: int, after: bool) -> int:
    """Crash Bob at this effect of his while the payment is on its way; return how many effects he had."""
    effects = 0

    async def act(route: Route) -> None:
        nonlocal effects
        world = route.world
        life = world.seats["bob"].life
        assert life is not None
        mark = len(life.gate.effects)
        life.gate.aim(index, after=after)
        route.send(1_000_000)
        if await world.until(life.ended.is_set, 20):
            await world.start("bob")
        await come_to_rest(world)
        effects = len(life.gate.effects) - mark
        gains = tuple(map(route.gained, NAMES))
        assert gains in ((-1_001_000, 1_000, 1_000_000), (0, 0, 0)), gains
        assert load_circuits(world.node("bob").store) == [] and world.node("bob").alarms == []
        assert len(forwards_after(world.node("bob").store, 0, 9)) <= 1

    play(act)
    return effects


def test_a_forwarder_that_crashes_at_any_of_its_effects_neither_loses_nor_doubles() -> None:
    effects = crash_of_bob(10_000, after=False)
    assert effects > 8
    for index in range(effects):
        for after in (False, True):
            crash_of_bob(index, after)


@pytest.mark.alarm("peer-owes")
@pytest.mark.parametrize("worth", [True, False])
def test_a_secret_that_is_learned_at_the_last_moment_is_claimed_on_chain_if_it_is_worth_it(worth: bool) -> None:
    """Alice says nothing any more. Her lock is owed all the same, and in the end Bob closes the channel over it."""
    amount = 5_000_000 if worth else 1_000

    async def act(route: Route) -> None:
        world = route.world
        expiry = route.send(amount)
        assert await world.until(lambda: bool(route.payee.finals), 60)
        world.seats["alice"].tamper = lambda message: []
        margin = world.config.channels.reveal_margin
        assert await world.until(lambda: now(world) + 5 > expiry - margin, 2_000)
        route.payee.open()
        assert await world.until(lambda: not world.node("bob").channel(route.second.id).view.channel.newest.locks, 60)
        assert await world.until(lambda: now(world) > expiry + 60, 2_000)
        _, secrets = histories(world)
        assert (secrets.get(CONDITION, expiry + 1) <= expiry) is worth
        bob = world.node("bob").channel(route.first.id)
        assert bob.phase is Phase.OPEN
        patience = world.config.duties.unlock_patience
        await world.until(lambda: now(world) > expiry - margin + patience - 60, patience)
        assert bob.phase is Phase.OPEN, "there is no hurry"
        if worth:
            assert await world.until(lambda: bob.phase is Phase.GONE, 4_000)
            side = bob.view.channel.side
            assert histories(world)[0][route.first.id].paid[side] == amount + amount // 1_000
            assert "peer-owes" in {alarm.kind for alarm in world.node("bob").alarms}
        else:
            await world.until(lambda: now(world) > expiry + patience + 600, 1_000)
            assert bob.phase is Phase.OPEN, "a lock that is not worth its fee closes no channel"

    play(act, at_once=False, config=Config(challenge_period=600, duties=DutyPolicy(unlock_patience=900)))


def test_a_payee_that_goes_to_the_chain_is_paid_there_and_the_forwarder_off_it() -> None:
    async def act(route: Route) -> None:
        world = route.world
        route.send(5_000_000)
        assert await world.until(lambda: bool(route.payee.finals), 60)
        await world.node("carol").channel(route.second.id).force_close()
        route.payee.open()
        assert await world.until(lambda: world.node("bob").channel(route.second.id).phase is Phase.GONE, 4_000)
        await come_to_rest(world)
        assert wealth(world, "alice") == route.before["alice"] - 5_005_000
        (forward,) = forwards_after(world.node("bob").store, 0, 9)
        assert forward.outcome is ForwardOutcome.PAID
        history = histories(world)[0][route.second.id]
        assert sorted(history.paid) == [5_000_000, DEPOSIT - 5_000_000]

    play(act, at_once=False)


def test_a_payer_that_closes_its_channel_pays_on_chain() -> None:
    async def act(route: Route) -> None:
        world = route.world
        expiry = route.send(5_000_000)
        assert await world.until(lambda: bool(route.payee.finals), 60)
        await world.node("alice").channel(route.first.id).force_close()
        assert await world.until(lambda: world.node("bob").channel(route.first.id).phase is Phase.CLOSED, 300)
        route.payee.open()
        assert await world.until(lambda: CONDITION in histories(world)[1], 300)
        assert histories(world)[1][CONDITION] < expiry - 300, "with the channel on chain, the secret goes there at once"
        await come_to_rest(world)
        assert wealth(world, "carol") == route.before["carol"] + 5_000_000
        assert sorted(histories(world)[0][route.first.id].paid) == [5_005_000, DEPOSIT - 5_005_000]

    play(act, at_once=False)


def test_a_payee_that_disappears_costs_nobody_anything() -> None:
    async def act(route: Route) -> None:
        world = route.world
        with world.node("alice").events() as events:
            expiry = route.send(5_000_000)
            assert await world.until(lambda: bool(route.payee.finals), 60)
            world.network.partition(world.seats["carol"].key.public)
            async for event in events:
                if isinstance(event, LockEnded):
                    break
        assert event.paid == 0 and expiry < now(world) < expiry + 120
        world.heal()
        await come_to_rest(world)
        assert tuple(map(route.gained, NAMES)) == (0, 0, 0)

    play(act, at_once=False)
