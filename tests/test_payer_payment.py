"""The payer's state machine against a network that fails in every way it may: it never has too much under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import Hop, NodeKey, Route
from tallystick.router.pathfinding.steps import Steps, finish
from tallystick.router.sending.asset_graph import RetryPlan
from tallystick.router.sending.attribution import Attribution, PartFailure
from tallystick.router.sending.payer import Limits, Part, Payment

TARGET = NodeKey(b"\x02" + bytes(32))
SECRET = b"s" * 32
LIMITS = Limits(parts=8, attempts=30, part_min=10)


def node(number: int) -> NodeKey:
    return NodeKey(b"\x03" + number.to_bytes(32, "big"))


def path(amount: int, fee: int, number: int = 0) -> Route:
    channels = [ChannelId(bytes([number, hop]) + bytes(30)) for hop in range(3)]
    return Route(
        (
            Hop(channels[0], node(1), amount + fee),
            Hop(channels[1], node(2), amount + fee // 2),
            Hop(channels[2], TARGET, amount),
        )
    )


class Roads:
    """A map whose answers a test writes: the most that one path carries, and its price."""

    def __init__(self, widest: int, ppm: int = 0) -> None:
        self.widest = widest
        self.ppm = ppm
        self.lessons: list[tuple[object, ...]] = []
        self.knowledge = self
        self.reserved: list[Route] = []
        self.policy_is_news = True
        self.policy_is_kept = True
        self.planned_retry: RetryPlan | None = None

    def margin(self, route: Route) -> int:
        return 0

    def retry_plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[RetryPlan | None]:
        yield from ()
        return self.planned_retry

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        yield from ()
        if max_parts < 1:
            raise InvalidInput("a plan needs at least one part")
        count = -(-amount // self.widest)
        if count > max_parts:
            raise NoRoute("there are not that many parts", Unpaid.NO_LIQUIDITY)
        sizes = [amount // count + (index < amount % count) for index in range(count)]
        return tuple(self._checked(path(size, self._fee(size)), max_fee // count) for size in sizes)

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        yield from ()
        if amount > self.widest:
            raise NoRoute("nothing is that wide", Unpaid.NO_LIQUIDITY)
        return self._checked(path(amount, self._fee(amount)), max_fee)

    def _fee(self, amount: int) -> int:
        return amount * self.ppm // 1_000_000

    def _checked(self, route: Route, max_fee: int) -> Route:
        if route.fee > max_fee:
            raise NoRoute("all roads are too dear", Unpaid.FEE_LIMIT)
        return route

    def reserve(self, route: Route) -> None:
        self.reserved.append(route)

    def release(self, route: Route) -> None:
        self.reserved.remove(route)

    def on_passed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        self.lessons.append(("passed", channel, amount))

    def on_failed(self, channel: ChannelId, node: NodeKey, amount: int, now: float) -> None:
        self.lessons.append(("failed", channel, amount))

    def on_settled(self, route: Route, now: float) -> None:
        self.lessons.append(("settled", route.delivered))

    def avoid(self, channel: ChannelId, node: NodeKey, until: float, since: float | None = None) -> None:
        self.lessons.append(("avoid", channel))

    def avoid_node(self, node: NodeKey, until: float, since: float | None = None) -> None:
        self.lessons.append(("avoid node", node))

    def allows(self, hop: Hop, fee: int) -> bool:
        return self.policy_is_kept

    def learn_policy(self, update: bytes) -> bool:
        self.lessons.append(("policy", update))
        return self.policy_is_news

    def close(self) -> None:
        assert self.reserved == []


def begin(roads: Roads, amount: int = 1_000, max_fee: int = 100) -> tuple[Payment, list[Part]]:
    payment = Payment(roads, TARGET, amount, max_fee=max_fee, limits=LIMITS)
    return payment, finish(payment.start(0))


def test_a_payment_that_fits_one_path_is_one_part_and_its_secret_is_the_receipt() -> None:
    roads = Roads(1_000, ppm=20_000)
    payment, (part,) = begin(roads)
    assert payment.outcome is None and payment.owed == 0
    payment.on_part_paid(part.number, SECRET, 1)
    outcome = payment.outcome
    assert outcome is not None and (outcome.secret, outcome.fee) == (SECRET, 20)
    assert payment.complete and roads.reserved == [] and ("settled", 1_000) in roads.lessons


def test_a_failed_part_is_tried_again_as_two_halves() -> None:
    roads = Roads(500)
    payment, parts = begin(roads)
    assert [part.route.delivered for part in parts] == [500, 500]
    roads.widest = 300
    again = finish(payment.on_part_failed(parts[0].number, PartFailure(Attribution.LIQUIDITY, 1), 1))
    assert sorted(part.route.delivered for part in again) == [250, 250]
    assert payment.under_way == 1_000


def test_where_it_failed_tells_what_passed_and_what_did_not() -> None:
    roads = Roads(1_000)
    payment, (part,) = begin(roads)
    finish(payment.on_part_failed(part.number, PartFailure(Attribution.LIQUIDITY, 0, b"update"), 1))
    first, second, _ = part.route.hops
    assert roads.lessons[:3] == [
        ("passed", first.channel, first.amount),
        ("policy", b"update"),
        ("failed", second.channel, second.amount),
    ]


def test_a_policy_that_is_no_news_gets_the_channel_avoided() -> None:
    roads = Roads(1_000)
    roads.policy_is_news = False
    payment, (part,) = begin(roads)
    assert finish(payment.on_part_failed(part.number, PartFailure(Attribution.POLICY, 1, b"same"), 1))
    assert ("avoid", part.route.hops[2].channel) in roads.lessons


def test_a_policy_that_gossip_told_while_the_part_was_on_its_way_is_no_reason_to_avoid_the_channel() -> None:
    roads = Roads(1_000)
    roads.policy_is_news, roads.policy_is_kept = False, False
    payment, (part,) = begin(roads)
    assert len(finish(payment.on_part_failed(part.number, PartFailure(Attribution.POLICY, 1, b"known by now"), 1))) == 1
    assert not any(attribution[0] == "avoid" for attribution in roads.lessons)


def test_a_failure_that_nobody_signed_for_makes_every_forwarder_suspect() -> None:
    roads = Roads(1_000)
    payment, (part,) = begin(roads)
    finish(payment.on_part_failed(part.number, PartFailure(Attribution.UNKNOWN), 1))
    assert [attribution for attribution in roads.lessons if attribution[0] == "avoid"] == [
        ("avoid", hop.channel) for hop in part.route.hops[1:]
    ]


def test_the_payees_refusal_ends_it_once_nothing_is_under_way() -> None:
    roads = Roads(500)
    payment, (first, second) = begin(roads)
    assert (
        finish(payment.on_part_failed(first.number, PartFailure(Attribution.REFUSED, 2, text="unknown payment"), 1))
        == []
    )
    assert payment.outcome is None
    assert finish(payment.on_part_failed(second.number, PartFailure(Attribution.REFUSED, 2), 2)) == []
    outcome = payment.outcome
    assert outcome is not None and outcome.reason is Unpaid.PAYEE_REFUSES and "unknown payment" in outcome.text


def test_it_says_that_the_fee_limit_was_what_stood_in_the_way() -> None:
    payment, parts = begin(Roads(1_000, ppm=500_000))
    assert parts == []
    outcome = payment.outcome
    assert outcome is not None and outcome.reason is Unpaid.FEE_LIMIT and "too dear" in outcome.text


def test_a_part_that_cannot_be_placed_leaves_nothing_half_reserved() -> None:
    roads = Roads(500)
    payment, (first, _) = begin(roads)
    roads.widest = 5
    assert finish(payment.on_part_failed(first.number, PartFailure(Attribution.LIQUIDITY, 1), 1)) == []
    assert len(roads.reserved) == 1 and payment.outcome is None


def test_a_part_that_our_own_channel_refuses_is_sent_another_way() -> None:
    roads = Roads(1_000)
    payment, (part,) = begin(roads)
    (again,) = finish(payment.part_unsent(part.number, 1))
    assert again.number != part.number and ("failed", part.route.hops[0].channel, 1_000) in roads.lessons


def test_after_a_restart_only_what_no_part_stands_for_is_sent() -> None:
    roads = Roads(500)
    payment = Payment(roads, TARGET, 1_000, max_fee=100, limits=LIMITS)
    payment.resume([Part(3, path(400, 4))], attempts=3)
    parts = finish(payment.start(0))
    assert sum(part.route.delivered for part in parts) == 600
    assert min(part.number for part in parts) == 4


def test_a_planner_that_would_overpay_is_stopped() -> None:
    class Greedy(Roads):
        def plan(
            self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
        ) -> Steps[tuple[Route, ...]]:
            yield from ()
            return (path(amount, 0), path(1, 0))

    with pytest.raises(InvalidInput, match="does not fit"):
        begin(Greedy(1_000))


class Step:
    PAID, FAILED, UNSENT, STOP = range(4)


@given(
    amount=st.integers(1, 5_000),
    widest=st.integers(1, 5_000),
    ppm=st.integers(0, 30_000),
    steps=st.lists(
        st.tuples(
            st.sampled_from([Step.PAID, Step.FAILED, Step.FAILED, Step.UNSENT, Step.STOP]),
            st.integers(0, 7),
            st.sampled_from(list(Attribution)),
            st.integers(0, 4),
            st.integers(1, 5_000),
        ),
        max_size=40,
    ),
)
def test_never_more_under_way_than_owed_and_always_an_end(
    amount: int, widest: int, ppm: int, steps: list[tuple[int, int, Attribution, int, int]]
) -> None:
    roads = Roads(widest, ppm)
    payment = Payment(roads, TARGET, amount, max_fee=amount // 50, limits=LIMITS)
    stopped = False
    seen: set[int] = set()

    def check(sent: list[Part]) -> None:
        assert not (sent and (stopped or payment.secret))
        assert payment.under_way + payment.delivered <= amount
        assert payment.fee <= amount // 50
        assert len(payment.parts) <= LIMITS.parts and payment.attempts <= LIMITS.attempts
        assert not seen & {part.number for part in sent}
        seen.update(part.number for part in sent)
        assert sorted(map(repr, roads.reserved)) == sorted(repr(part.route) for part in payment.parts)
        if payment.outcome is None:
            assert payment.parts

    check(finish(payment.start(0)))
    for action, which, attribution, at, widest_now in steps:
        roads.widest = widest_now
        if action == Step.STOP:
            payment.stop(Unpaid.TIMEOUT, "timed out")
            stopped = True
        if payment.parts:
            part = payment.parts[which % len(payment.parts)]
            if action == Step.PAID:
                payment.on_part_paid(part.number, SECRET, 1)
                check([])
            elif action == Step.UNSENT:
                check(finish(payment.part_unsent(part.number, 1)))
            else:
                check(finish(payment.on_part_failed(part.number, PartFailure(attribution, at), 1)))
    paid = bool(payment.secret)
    for part in payment.parts:
        check(finish(payment.on_part_failed(part.number, PartFailure(Attribution.REFUSED, 2), 2)))
    outcome = payment.outcome
    assert outcome is not None and payment.complete
    assert bool(outcome.secret) is paid and (outcome.reason is None) is paid


@pytest.mark.parametrize(("parts", "attempts"), [(LIMITS.parts, LIMITS.attempts), (1, LIMITS.attempts)])
def test_a_payment_that_may_send_no_further_part_is_resumed_and_ends_with_those_under_way(
    parts: int, attempts: int
) -> None:
    payment = Payment(Roads(1_000), TARGET, 1_000, max_fee=100, limits=LIMITS)
    under_way = [Part(number, path(100, 0, number)) for number in range(parts)]
    payment.resume(under_way, attempts)
    assert finish(payment.start(0)) == [] and payment.outcome is None
    for part in under_way:
        assert finish(payment.on_part_failed(part.number, PartFailure(Attribution.LIQUIDITY, 1), 1)) == []
    outcome = payment.outcome
    assert outcome is not None and outcome.reason is Unpaid.NO_LIQUIDITY


def retry_plan(since: float, *, away: bool = False) -> RetryPlan:
    return RetryPlan((path(1_000, 0),), since, away, "a node to be back")


def test_what_failed_for_a_moment_gets_another_chance_after_pauses_that_grow_up_to_a_limit() -> None:
    roads = Roads(1_000)
    payment, (part,) = begin(roads)
    roads.widest, now, waits = 1, 10.0, []
    for _ in range(7):
        roads.planned_retry = retry_plan(since=now)
        assert finish(payment.on_part_failed(part.number, PartFailure(Attribution.NODE, 1, brief=True), now)) == []
        assert payment.waiting is not None and payment.outcome is None
        waits.append(payment.waiting.until - now)
        now = payment.waiting.until
        (part,) = finish(payment.wake(now))
    assert waits == [1, 2, 4, 8, 16, 16, 16]


def test_without_hope_a_payment_fails_at_once_and_with_hope_for_its_own_channel_nothing_is_sent() -> None:
    roads = Roads(1)
    roads.planned_retry = retry_plan(since=-1e9, away=True)
    payment, parts = begin(roads)
    assert parts == [] and payment.outcome is None
    assert finish(payment.wake(1.0)) == [] and payment.waiting is not None
    roads.planned_retry = None
    assert finish(payment.wake(3.0)) == [] and payment.waiting is None
    assert payment.outcome is not None and payment.outcome.reason is Unpaid.NO_LIQUIDITY


def test_a_payment_whose_rest_finds_no_way_waits_for_its_parts_under_way_and_plans_anew() -> None:
    roads = Roads(500)
    payment, parts = begin(roads)
    roads.widest = 1
    assert finish(payment.on_part_failed(parts[0].number, PartFailure(Attribution.LIQUIDITY, 1), 1)) == []
    assert payment.waiting is not None and payment.outcome is None
    roads.widest = 1_000
    (again,) = finish(payment.on_part_failed(parts[1].number, PartFailure(Attribution.AGAIN, 2), 2))
    assert again.route.delivered == 1_000 and payment.waiting is None


def test_rounds_that_found_no_way_for_all_do_not_count_as_attempts() -> None:
    roads = Roads(600)
    roads.planned_retry = retry_plan(since=-1e9, away=True)
    payment = Payment(roads, TARGET, 100_000, max_fee=100, limits=LIMITS)
    finish(payment.start(0.0))
    for now in range(1, 50):
        finish(payment.wake(float(now)))
    assert payment.attempts == 0 and payment.outcome is None and roads.reserved == []


@pytest.mark.parametrize("end", ["paid", "stopped"])
def test_a_payment_that_has_ended_waits_for_nothing(end: str) -> None:
    roads = Roads(1)
    roads.planned_retry = retry_plan(since=0.0)
    payment, _ = begin(roads)
    assert payment.waiting is not None
    payment.on_secret_learned(SECRET) if end == "paid" else payment.stop(Unpaid.CANCELLED, "enough")
    payment.hurry(1.0, surely=True)
    assert payment.waiting is None and payment.outcome is not None


def test_news_shortens_a_wait_but_never_below_the_first_pause() -> None:
    roads = Roads(1)
    roads.planned_retry = retry_plan(since=-1e9, away=True)
    payment, _ = begin(roads)
    for now in (1.0, 3.0, 7.0, 15.0):
        finish(payment.wake(now))
    found = []
    for now, surely in ((15.0, False), (16.5, False), (15.1, True), (15.1, True)):
        payment.hurry(now, surely=surely)
        assert payment.waiting is not None
        found.append(payment.waiting.until)
    assert found == [19.0, 19.0, 16.0, 16.0]
