"""Parts on their way, with the engine played by the test: what ends a part, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import LockEnded
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.objects import Hop, NodeKey, Route
from tallystick.router.pathfinding.steps import Steps
from tallystick.router.sending.asset_graph import RetryPlan
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.router.sending.payer import Limits
from tallystick.router.sending.payments import Order, PaymentRecord, find_payment, parts_under_way
from tallystick.router.sqlite import PAYMENTS_SCHEMA

SECRET, OTHER = b"s" * 32, b"o" * 32
DIGEST = digest_of(SECRET)
PEER = NodeKey(bytes(PrivateKey(b"\x42" * 32).public))
CHANNEL = ChannelId(b"c" * 32)
ORDER = Order(payment_hash=DIGEST, target=PEER, amount=500, max_fee=5, lock_seconds=600, gives_up=1e9, created=1_000.0)


class Channel:
    """One channel to the payee, as `OutgoingPayments` sees channels: it signs whatever it is given, at once."""

    def __init__(self, node: World) -> None:
        self.node = node
        self.now = 1_000
        self.ready = True
        self.locks: list[Lock] = []
        self.over: set[int] = set()
        self.given_up: list[int] = []
        self.record = node.record

    @property
    def chain(self) -> ChainTime:
        return ChainTime(self.now)

    def view(self, channel: ChannelId) -> Any:
        return SimpleNamespace(next_lock=len(self.locks))

    def send_lock(
        self, channel: ChannelId, amount: int, expiry: int, condition: bytes, onion: bytes, attach: Moment
    ) -> int:
        lock = Lock(len(self.locks), amount, expiry, HASH, condition)
        self.locks.append(lock)
        self.node.record([attach])
        return lock.id

    def give_up(self, channel: ChannelId, lock: int) -> None:
        self.given_up.append(lock)

    def paid_with(self, channel: ChannelId, lock: int) -> bytes:
        return b""

    def is_over(self, channel: ChannelId, lock: int) -> bool:
        return lock in self.over


class Road:
    """A map with one road: the direct one. It notes what it is told."""

    def __init__(self) -> None:
        self.knowledge = self
        self.reserved: list[Route] = []
        self.blamed: list[ChannelId] = []
        self.detour: tuple[Hop, ...] = ()
        """What comes before the payee, if the road is no direct one."""
        self.closed = False

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        return ((yield from self.route(target, amount, max_fee=max_fee, now=now)),)

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        yield from ()
        if self.reserved:
            raise NoRoute("the road is taken", Unpaid.NO_LIQUIDITY)
        return Route((*self.detour, Hop(CHANNEL, target, amount)))

    def reserve(self, route: Route) -> None:
        self.reserved.append(route)

    def release(self, route: Route) -> None:
        self.reserved.remove(route)

    def on_passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None: ...
    def on_failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        self.blamed.append(channel)

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

    def close(self) -> None:
        self.closed = True


class World:
    """A payer on a disk of its own; `round` commits what has gathered, as the writer does."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk([PAYMENTS_SCHEMA])
        self.clock = 1_000.0
        self.channel = Channel(self)
        self.start()

    def start(self) -> None:
        self.store = self.channel.disk = self.disk.open()
        self.moments: list[Moment] = []
        self.thens: list[Callable[[], None]] = []
        self.road = Road()
        self.alarms: list[Alarm] = []
        self.outgoing = OutgoingPayments(
            cast(NodeChannels, self.channel),
            lambda order: self.road,
            clock=lambda: self.clock,
            entropy=lambda size: b"\x17" * size,
            limits=lambda asset: Limits(),
            alarm=self.alarms.append,
        )

    def record(self, moments: Sequence[Moment], then: Callable[[], None] = lambda: None) -> None:
        self.moments += moments
        self.thens.append(then)

    def step(self) -> None:
        moments, thens = self.moments, self.thens
        self.moments, self.thens = [], []
        if moments:
            self.store.commit(moments)
        for then in thens:
            then()

    def round(self) -> None:
        while self.moments or self.thens:
            self.step()

    def begin(self) -> Lock:
        """Begin the payment, and return the lock of its one part."""
        self.outgoing.begin(ORDER)
        self.round()
        return self.channel.locks[-1]

    def end(self, lock: Lock, secret: bytes = b"", reason: bytes = b"") -> None:
        """The lock is agreed gone, in one commit, whose events follow."""
        if secret:
            self.record(self.outgoing.on_secret_learned(CHANNEL, lock, secret))
        elif reason:
            self.record(self.outgoing.on_lock_rejected(CHANNEL, lock, reason))
        paid = lock.amount if secret else 0
        self.record(self.outgoing.on_lock_ended(CHANNEL, lock, paid, secret))
        self.round()

    @property
    def payment(self) -> PaymentRecord:
        record = find_payment(self.store, DIGEST)
        assert record is not None
        return record


def test_a_part_whose_lock_is_paid_makes_the_receipt() -> None:
    world = World()
    world.end(world.begin(), SECRET)
    assert world.payment.secret == SECRET
    assert len(world.outgoing) == 0 and world.road.closed and parts_under_way(world.store) == []


@pytest.mark.parametrize("secret", [b"", OTHER])
def test_the_peers_own_lock_of_the_same_number_ends_none_of_our_parts(secret: bytes) -> None:
    world = World()
    ours = world.begin()
    theirs = Lock(ours.id, 1, 2_000, HASH, digest_of(OTHER))
    world.outgoing.on_event(LockEnded(CHANNEL, 1, theirs, len(secret) and 1, secret))
    world.round()
    assert world.payment.ended is None and len(world.channel.locks) == 1, "the part is under way still"
    world.end(ours, SECRET)
    assert world.payment.secret == SECRET and world.road.reserved == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_part_whose_channel_closed_ends_with_the_chains_time_and_not_never(restart: bool) -> None:
    world = World()
    lock = world.begin()
    if restart:
        world.start()
        world.outgoing.resume()
        world.round()
    assert world.outgoing.on_time_passed() == [] and not world.payment.ended
    world.channel.over.add(lock.id)
    world.outgoing.stop(DIGEST, Unpaid.TIMEOUT, "too late")
    world.record(world.outgoing.on_time_passed())
    world.round()
    assert world.payment.ended is not None and world.payment.reason is Unpaid.TIMEOUT
    assert len(world.outgoing) == 0 and world.road.closed and parts_under_way(world.store) == []


@pytest.mark.parametrize("back", [True, False])
def test_a_payment_that_nothing_was_sent_for_before_a_restart_waits_for_the_peers_but_not_for_ever(back: bool) -> None:
    world = World()
    world.outgoing.begin(ORDER)
    del world.moments[1:]  # its lock waits to be signed, for the acknowledgement of others
    world.step()  # so the order is stored, and no part
    world.thens.clear()
    world.store.close()
    world.channel.locks.clear()
    world.channel.ready = False
    world.start()
    world.outgoing.resume()
    world.round()
    assert world.channel.locks == [] and world.payment.ended is None
    world.channel.ready = back
    world.channel.now += 0 if back else 61
    world.record([*world.outgoing.on_channel_ready(CHANNEL), *world.outgoing.on_time_passed()])
    world.round()
    assert len(world.channel.locks) == 1
    world.end(world.channel.locks[0], SECRET)
    assert world.payment.secret == SECRET


def test_a_part_that_the_chain_pays_ends_paid_although_nobody_agrees_to_it() -> None:
    world = World()
    lock = world.begin()
    world.record(world.outgoing.on_secret_learned(CHANNEL, lock, SECRET))
    world.round()
    world.channel.over.add(lock.id)
    world.record(world.outgoing.on_time_passed())
    world.round()
    assert world.payment.secret == SECRET
    assert len(world.outgoing) == 0 and world.road.closed and parts_under_way(world.store) == []


def test_a_part_that_a_silent_peer_does_not_let_us_sign_is_given_up() -> None:
    world = World()
    lock = world.begin()
    world.channel.now += 60
    world.record(world.outgoing.on_time_passed())
    assert world.channel.given_up == []
    world.channel.now += 1
    world.record(world.outgoing.on_time_passed())
    assert world.channel.given_up == [lock.id]


def test_a_payment_is_known_as_under_way_until_its_end_is_durable() -> None:
    world = World()
    lock = world.begin()
    world.outgoing.stop(DIGEST, Unpaid.TIMEOUT, "too late")
    world.record(world.outgoing.on_lock_ended(CHANNEL, lock, 0, b""))
    world.step()
    assert world.payment.ended is None and len(world.outgoing) == 1, "whoever asks now waits for the end"
    world.step()
    assert world.payment.reason is Unpaid.TIMEOUT and len(world.outgoing) == 0


def test_a_route_that_no_onion_can_describe_ends_the_payment_and_no_channel_is_blamed() -> None:
    world = World()
    world.road.detour = (Hop(CHANNEL, PEER, 500),) * 20
    world.outgoing.begin(
        Order(payment_hash=DIGEST, target=PEER, amount=500, max_fee=5, lock_seconds=600, gives_up=1e9, created=1_000.0)
    )
    world.round()
    record = find_payment(world.store, DIGEST)
    assert record is not None and record.reason is Unpaid.NO_ROUTE and "21 hops do not fit" in record.text
    assert not world.road.blamed and not world.road.reserved and not world.channel.locks and len(world.outgoing) == 0


def test_an_invoice_that_is_being_paid_or_was_paid_is_not_paid_again() -> None:
    world = World()
    lock = world.begin()
    with pytest.raises(InvalidInput, match="is being paid already"):
        world.outgoing.begin(ORDER)
    world.start()  # the disk knows it, too
    with pytest.raises(InvalidInput, match="is being paid already"):
        world.outgoing.begin(ORDER)
    world.outgoing.resume()
    world.end(lock, SECRET)
    with pytest.raises(InvalidInput, match="has been paid already"):
        world.outgoing.begin(ORDER)
    world.round()
    assert world.channel.locks == [lock]


def test_a_part_whose_lock_was_given_up_unsigned_is_sent_again_and_its_old_number_means_nothing() -> None:
    world = World()
    first = world.begin()
    world.record(world.outgoing.on_lock_dropped(CHANNEL, first))
    world.round()
    second = world.channel.locks[-1]
    assert second.id != first.id and world.road.blamed == [CHANNEL] and len(world.road.reserved) == 1
    world.end(first, OTHER)
    assert world.payment.ended is None
    world.end(second, SECRET)
    assert world.payment.secret == SECRET and world.road.reserved == []
