"""Ways are looked for one after the other, and never for long at a time; whatever happens meanwhile counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.objects import Hop, NodeKey, Route
from tallystick.router.pathfinding.steps import Steps, finish
from tallystick.router.sending.asset_graph import RetryPlan
from tallystick.router.sending.attribution import Attribution, PartFailure
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.router.sending.payer import Limits, Part, Payment
from tallystick.router.sending.payments import Order, PartSent, PaymentOrdered, find_payment
from tallystick.router.sending.searches import TURN
from tallystick.router.sqlite import PAYMENTS_SCHEMA

PEER = NodeKey(bytes(PrivateKey(b"\x42" * 32).public))
CHANNEL = ChannelId(b"c" * 32)
SECRET = b"s" * 32


class Slow:
    """A map on which every search pauses some times; it counts what is done between two turns of others."""

    def __init__(self, pauses: int) -> None:
        self.pauses = pauses
        self.steps = 0
        self.found = 0
        self.searching = 0
        self.knowledge = self
        self.reserved: list[Route] = []

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        return ((yield from self.route(target, amount, max_fee=max_fee, now=now)),)

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        assert self.searching == 0, "one search at a time"
        self.searching += 1
        for _ in range(self.pauses):
            self.steps += 1
            yield
        self.searching -= 1
        self.found += 1
        return Route((Hop(CHANNEL, target, amount),))

    def reserve(self, route: Route) -> None:
        self.reserved.append(route)

    def release(self, route: Route) -> None:
        self.reserved.remove(route)

    def on_passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None: ...
    def on_failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None: ...
    def on_settled(self, route: Route, now: float) -> None: ...
    def avoid(self, channel: ChannelId, node: NodeKey, until: float, since: float | None = None) -> None: ...
    def avoid_node(self, node: NodeKey, until: float, since: float | None = None) -> None: ...

    def margin(self, route: Route) -> int:
        return 0

    def retry_plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[RetryPlan | None]:
        yield from ()
        return None

    def allows(self, hop: Hop, fee: int) -> bool:
        return True

    def learn_policy(self, update: bytes) -> bool:
        return False

    def close(self) -> None: ...


class World:
    """A payer whose locks are signed at once, in the commit that gathers everything."""

    now = 1_000

    def __init__(self, pauses: int) -> None:
        self.store = self.disk = SimulatedDisk([PAYMENTS_SCHEMA]).open()
        self.roads = Slow(pauses)
        self.moments: list[Moment] = []
        self.thens: list[Callable[[], None]] = []
        self.locks = 0
        self.alarms: list[Alarm] = []
        self.outgoing = OutgoingPayments(
            cast(NodeChannels, self),
            lambda order: self.roads,
            clock=lambda: 1_000.0,
            entropy=lambda size: b"\x17" * size,
            limits=lambda asset: Limits(),
            alarm=self.alarms.append,
            inline=False,
        )

    def record(self, moments: Sequence[Moment], then: Callable[[], None] = lambda: None) -> None:
        self.moments += moments
        self.thens.append(then)

    def commit(self) -> list[Moment]:
        moments, thens = self.moments, self.thens
        self.moments, self.thens = [], []
        if moments:
            self.store.commit(moments)
        for then in thens:
            then()
        return moments

    @property
    def chain(self) -> ChainTime:
        return ChainTime(self.now)

    def view(self, channel: ChannelId) -> Any:
        return SimpleNamespace(next_lock=self.locks + 1)

    def send_lock(
        self, channel: ChannelId, amount: int, expiry: int, condition: bytes, onion: bytes, attach: Moment
    ) -> int:
        self.locks += 1
        self.moments.append(attach)
        return self.locks

    def give_up(self, channel: ChannelId, lock: int) -> None: ...

    def paid_with(self, channel: ChannelId, lock: int) -> bytes:
        return b""

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        return False

    def begin(self, number: int) -> bytes:
        digest = digest_of(bytes([number]) * 32)
        self.outgoing.begin(
            Order(payment_hash=digest, target=PEER, amount=500, max_fee=5, lock_seconds=600, gives_up=1e9, created=1.0)
        )
        return digest


async def turns(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def test_an_order_and_its_first_lock_are_in_one_commit_if_a_way_is_found_at_once() -> None:
    world = World(pauses=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.outgoing.run)
        await trio.testing.wait_all_tasks_blocked()
        world.begin(1)
        assert [type(moment) for moment in world.commit()] == [PaymentOrdered, PartSent]
        nursery.cancel_scope.cancel()


async def test_others_have_their_turn_at_each_pause_and_searches_follow_each_other() -> None:
    world = World(pauses=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.outgoing.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3):
            world.begin(number)
        assert world.roads.steps == 1, "only the first one has begun"
        seen, last = 0, world.roads.steps
        while world.roads.found < 3:
            await turns(1)
            assert world.roads.steps - last <= 2, "no more than to the next pause, and on to the next search"
            seen, last = seen + 1, world.roads.steps
        assert seen >= 10 and world.locks == 3
        nursery.cancel_scope.cancel()


async def test_a_burst_of_payments_lets_others_have_their_turn() -> None:
    world = World(pauses=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.outgoing.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(100):
            world.begin(number)
        assert world.roads.found <= TURN
        last = world.roads.found
        while world.roads.found < 100:
            await turns(1)
            assert world.roads.found - last <= 2 * TURN, "two turns at most, as the order of tasks is random"
            last = world.roads.found
        nursery.cancel_scope.cancel()


async def test_a_payment_that_is_stopped_while_its_way_is_looked_for_sends_nothing() -> None:
    world = World(pauses=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.outgoing.run)
        await trio.testing.wait_all_tasks_blocked()
        digest = world.begin(1)
        world.outgoing.stop(digest, Unpaid.TIMEOUT, "too late")
        await trio.testing.wait_all_tasks_blocked()
        world.commit()
        world.commit()
        record = find_payment(world.store, digest)
        assert record is not None and record.reason is Unpaid.TIMEOUT
        assert world.locks == 0 and world.roads.reserved == [] and len(world.outgoing) == 0
        nursery.cancel_scope.cancel()


async def test_a_search_ends_with_the_node() -> None:
    world = World(pauses=1_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.outgoing.run)
        await trio.testing.wait_all_tasks_blocked()
        world.begin(1)
        await turns(5)
        nursery.cancel_scope.cancel()
    assert world.locks == 0 and world.roads.steps < 100


def stepped(steps: Steps[list[Part]], meanwhile: Callable[[], object]) -> list[Part]:
    """Run steps, with something that happens at the first pause."""
    next(steps)
    meanwhile()
    return finish(steps)


def started(pauses: int = 2) -> tuple[Slow, Payment]:
    roads = Slow(pauses)
    return roads, Payment(roads, PEER, 1_000, max_fee=10, limits=Limits())


@pytest.mark.parametrize("paid", [False, True])
def test_what_is_found_after_the_end_of_a_payment_is_not_sent(paid: bool) -> None:
    roads, payment = started()

    def end() -> None:
        if paid:
            payment.on_secret_learned(SECRET)
        else:
            payment.stop(Unpaid.TIMEOUT, "too late")

    assert stepped(payment.start(0), end) == [] and roads.reserved == [] and payment.complete


def test_a_part_that_fails_while_the_rest_is_planned_is_sent_once() -> None:
    _, payment = started()
    failed = Part(7, Route((Hop(CHANNEL, PEER, 400),)))
    payment.resume([failed], attempts=8)
    answers: list[Steps[list[Part]]] = []
    start = payment.start(0)
    answers.append(payment.on_part_failed(7, PartFailure(Attribution.LIQUIDITY), 0))  # before the plan has begun
    sent = [part for steps in (start, *answers) for part in finish(steps)]
    assert sum(part.route.delivered for part in sent) == 1_000 == payment.under_way

    _, payment = started()
    payment.resume([failed], attempts=8)
    sent = stepped(
        payment.start(0), lambda: answers.append(payment.on_part_failed(7, PartFailure(Attribution.LIQUIDITY), 0))
    )
    sent += finish(answers[-1])
    assert sorted(part.route.delivered for part in sent) == [400, 600] and payment.under_way == 1_000


def test_halves_that_were_found_are_given_back_if_the_payment_ends_before_the_last() -> None:
    class Narrow(Slow):
        def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
            if amount > 5_000:
                raise NoRoute("nothing is that wide", Unpaid.NO_LIQUIDITY)
            return (yield from super().route(target, amount, max_fee=max_fee, now=now))

    roads = Narrow(1)
    payment = Payment(roads, PEER, 10_000, max_fee=10, limits=Limits())
    steps = payment.start(0)
    next(steps)
    next(steps)
    assert len(roads.reserved) == 1, "one half is found, the other one is looked for"
    payment.stop(Unpaid.TIMEOUT, "too late")
    assert finish(steps) == [] and roads.reserved == [] and payment.complete
