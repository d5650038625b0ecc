"""Clocks that are put forward or back, while a node runs and while it is down: what counts time, goes on counting."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import UnionType
from typing import Any

import msgspec
import pytest
import trio

from simulation.gossip_fixtures import DOMAIN, ChainTruth, person
from simulation.journeys import Journey, configuration
from tallystick.channels.ports import steady_clock
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.writer import REST_MAX, Writer
from tallystick.channels.testing.clock import EPOCH, SteppedClock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import Unpaid
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.policy import DAY
from tallystick.router.gossip.store import item_of
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.pathfinding.beliefs import Belief
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.sdk.testing.world import open_world
from tallystick.watchtower.daemon import STATUS, read_status
from tallystick.watchtower.figures import STATUS_OLD, TowerStatus

YEAR = 365 * DAY
PEER, OTHER = b"peer", b"other"


def test_a_steady_clock_goes_on_whatever_becomes_of_the_other() -> None:
    clock, passed = SteppedClock(), [5.0]

    async def main() -> None:
        steady = steady_clock(clock, lambda: passed[0])
        assert steady() == EPOCH
        clock.step(-YEAR)
        passed[0] += 7
        assert steady() == EPOCH + 7

    trio.run(main, clock=trio.testing.MockClock())


def test_a_clock_that_is_set_while_work_is_measured_gives_the_writer_no_rest_of_a_day() -> None:
    writer = Writer(SimulatedDisk([SCHEMA]).open(), inline=True)
    writer.rest(8 * DAY)
    assert writer._rest == REST_MAX
    writer.rest(-DAY)
    assert writer._rest == REST_MAX


# --- payments ---------------------------------------------------------------------------------------------------


def on_a_line(act: Callable[[Journey], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_world(
            3, config=configuration(), interval=20.0, names=("alice", "bob", "carol", "dave")
        ) as world:
            journey = Journey(world)
            await journey.build()
            await act(journey)

    simulate(main, 3)


@pytest.mark.parametrize("step", [-DAY, -YEAR])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_payment_ends_in_its_time_although_the_clock_went_back(step: float, restarts: bool) -> None:
    async def act(journey: Journey) -> None:
        world, invoice = journey.world, await journey.invoice()
        world.network.partition(world.seats["alice"].key.public, world.seats["bob"].key.public)
        await trio.sleep(2)  # it knows that Bob is away, and waits for him
        journey.ask(invoice, timeout=30.0)
        await trio.sleep(5)
        world.seats["alice"].clock.step(step)
        began = trio.current_time()
        if restarts:
            await world.restart("alice")
        alice = journey.node("alice")
        await world.until(lambda: not alice.routing.outgoing, 600)
        assert not alice.routing.outgoing and trio.current_time() - began < 60
        record = alice.payment(invoice.payment_hash)
        assert record is not None and record.reason is Unpaid.TIMEOUT

    on_a_line(act)


def test_a_payment_has_its_time_although_the_clock_went_forward() -> None:
    async def act(journey: Journey) -> None:
        world, invoice = journey.world, await journey.invoice()
        alice, bob = (world.seats[name].key.public for name in ("alice", "bob"))
        world.network.partition(alice, bob)
        await trio.sleep(2)
        journey.ask(invoice, timeout=300.0)
        await trio.sleep(5)
        world.seats["alice"].clock.step(DAY)
        await trio.sleep(60)
        assert journey.node("alice").routing.outgoing and not journey.errors
        world.network.heal()
        assert await world.until(lambda: bool(journey.receipts), 200)

    on_a_line(act)


# --- gossip -----------------------------------------------------------------------------------------------------


def policies_of_bob(journey: Journey, name: str) -> set[int]:
    """Return the base fees that a node knows of Bob's channels."""
    graph, bob = journey.node(name).routing.graph, bytes(journey.world.seats["bob"].key.public)
    return {
        graph.edge(slot).policy.base_fee
        for handle in journey.node("bob").channels
        for slot in graph.slots_of(handle.id)
        if bytes(graph.edge(slot).source) == bob
    }


@pytest.mark.parametrize("restarts", [True, False])
def test_who_was_a_year_ahead_once_is_heard_again(restarts: bool) -> None:
    async def act(journey: Journey) -> None:
        world = journey.world
        clock = world.seats["bob"].clock

        async def step(seconds: float) -> None:
            clock.step(seconds)
            if restarts:
                await world.restart("bob")
            await trio.sleep(120)

        async def ask_for(fee: int) -> None:
            for handle in journey.node("bob").channels:
                await journey.node("bob").routing.set_policy(handle.id, ForwardingPolicy(base_fee=fee))

        await step(YEAR)
        await ask_for(11)
        await trio.sleep(120)
        await step(-YEAR)
        await ask_for(22)
        assert await world.until(lambda: policies_of_bob(journey, "dave") == {22}, 1_200)

    on_a_line(act)


def test_what_others_said_while_we_were_ahead_does_not_stand_in_the_way_of_what_they_say_now() -> None:
    truth, gossip = ChainTruth(), Gossip(person(99), DOMAIN)
    now = 1_750_000_000.0
    channel = truth.open(person(1), person(2))

    def hear(timestamp: float) -> None:
        from tallystick.router.gossip import wire as gossip_wire

        update = truth.update(channel, 0, int(timestamp), base_fee=int(timestamp) % 1_000)
        for frame in gossip_wire.frames([update]):
            list(gossip.receiving(PEER, frame, now))
        while (asked := gossip.pending.next_question(now)) is not None:
            gossip.answer(asked, truth.facts(asked), now)

    gossip.on_connected(PEER, now)
    gossip.set_date(now + YEAR, now)
    hear(now + YEAR)
    item = item_of(truth.update(channel, 0, 1))
    assert gossip.store.get(item) is not None
    gossip.set_date(now, now)
    for _ in range(600):
        now += 1
        gossip.tick(now)
    assert gossip.store.get(item) is None
    hear(now)
    kept = gossip.store.get(item)
    assert kept is not None and kept.announcement.timestamp == int(now)


def test_rounds_of_reconciliation_go_on_when_the_clock_goes_back() -> None:
    async def act(journey: Journey) -> None:
        gossip = journey.node("bob").routing.gossip.core
        before = gossip.statistics().rounds
        journey.world.seats["bob"].clock.step(-YEAR)
        await trio.sleep(1_300)
        assert gossip.statistics().rounds >= before + 2

    on_a_line(act)


def test_channels_that_the_chain_confirmed_in_the_future_are_asked_about_again() -> None:
    truth, gossip = ChainTruth(), Gossip(person(99), DOMAIN)
    now = 1_750_000_000.0
    channel = truth.open(person(1), person(2))
    gossip.set_date(now + YEAR, now)
    gossip.announce(channel, ForwardingPolicy(), now)
    gossip.store.put_channel(channel, truth.facts(channel), now + YEAR)  # type: ignore[arg-type]
    gossip.store.put(update := truth.update(channel, 0, int(now)), b"\1" * 32)
    assert gossip.store.get(item_of(update)) is not None
    gossip.set_date(now, now)
    asked = set()
    for _ in range(600):
        now += 1
        gossip.tick(now)
        while (question := gossip.pending.next_question(now)) is not None:
            asked.add(question)
            gossip.answer(question, truth.facts(question), now)
    assert channel in asked


# --- what is on disk --------------------------------------------------------------------------------------------


def test_beliefs_of_the_future_fade_like_those_of_now() -> None:
    truth = ChainTruth()
    channel = truth.open(person(1), person(2))
    knowledge = Knowledge(Graph())
    knowledge.restore([(channel, Belief(0, 500, 1_000.0 + YEAR))], 1_000.0)
    ((_, belief),) = knowledge._beliefs.items()
    assert belief.with_fading(1_000, 1_000.0 + 100 * knowledge.half_life, knowledge.half_life).upper > 990
    assert not math.isinf(belief.time)


def test_a_tower_that_ended_before_the_clock_went_back_does_not_run(tmp_path: Path) -> None:
    clock = 1_000_000.0
    status = msgspec.structs.replace(_blank(TowerStatus), time=clock)
    (tmp_path / STATUS).write_bytes(msgspec.json.encode(status))
    assert read_status(tmp_path, clock=lambda: clock + STATUS_OLD / 2) == status
    assert read_status(tmp_path, clock=lambda: clock - DAY) is None


def _blank(kind: Any) -> Any:
    """Return a struct with nothing in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: _blank(field.type) for field in msgspec.structs.fields(kind)})
    if isinstance(kind, UnionType):
        return None
    return {int: 0, float: 0.0, str: ""}.get(kind, ())
