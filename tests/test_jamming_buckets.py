"""Whoever holds locks and pays nothing cannot take what is kept for others; whoever has paid finds a place."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.forwarding.jamming import Bucket, ForwardRequest, Jamming, JammingLimits, Reputation

CHANNEL = ChannelId(b"c" * 32)
HONEST, JAMMER, NEXT = b"honest", b"jammer", b"next"
SLOTS, VALUE = 100, 1_000_000
LIMITS = JammingLimits()
HOUR = 3_600
AMOUNTS = st.integers(1, VALUE)


def asked(peer: bytes, amount: int = 1_000, *, fee: int = 100, lifetime: int = HOUR, now: int = 0) -> ForwardRequest:
    return ForwardRequest(peer, NEXT, CHANNEL, amount, fee, now + lifetime, SLOTS, VALUE)


def seasoned(*peers: bytes) -> Jamming:
    """These peers, and the next one, have earned us fees with a thousand quick payments."""
    return Jamming(LIMITS, [(peer, Reputation(100_000.0, 100_000.0, 0)) for peer in (*peers, NEXT)])


def hold(jamming: Jamming, peer: bytes, amount: int, name: object, now: int = 0) -> Bucket | None:
    ask = asked(peer, amount, now=now)
    bucket = jamming.admit(ask, now)
    if bucket is not None:
        jamming.began((name,), ask, bucket, now)
    return bucket


@given(st.lists(st.tuples(st.sampled_from([b"j%d" % n for n in range(12)]), AMOUNTS), max_size=150))
def test_jammers_without_a_reputation_never_take_the_protected_share(locks: list[tuple[bytes, int]]) -> None:
    jamming = seasoned(HONEST)
    held = [
        (bucket, amount)
        for name, (peer, amount) in enumerate(locks)
        if (bucket := hold(jamming, peer, amount, name)) is not None
    ]
    assert all(bucket is not Bucket.PROTECTED for bucket, _ in held)
    assert len(held) <= SLOTS * (LIMITS.general_slots + LIMITS.congestion_slots) // 100
    assert sum(amount for _, amount in held) <= VALUE * (LIMITS.general_value + LIMITS.congestion_value) // 100
    assert hold(jamming, HONEST, 10_000, "honest") is not None, "who has paid before finds a place"


@given(st.integers(1, 200))
def test_one_stranger_has_a_part_of_the_general_share_only(count: int) -> None:
    jamming = Jamming(LIMITS)
    buckets = [hold(jamming, JAMMER, 1, number) for number in range(count)]
    allowed = SLOTS * LIMITS.general_slots // 100 * LIMITS.stranger // 100
    assert buckets.count(Bucket.GENERAL) == min(count, allowed)
    assert buckets.count(Bucket.CONGESTION) <= 1
    assert hold(jamming, b"another", 1, "another") is Bucket.GENERAL


def test_a_stranger_behind_a_good_name_and_one_before_it_are_strangers() -> None:
    jamming = Jamming(LIMITS, [(HONEST, Reputation(1e6, 1e6, 0))])
    for name in range(200):
        hold(jamming, b"j%d" % (name % 9), 1_000, name)
    assert hold(jamming, HONEST, 500_000, "large") is None, "the next peer has earned us nothing yet"


def test_a_reputation_is_used_up_by_pending_locks_and_comes_back_with_their_fees() -> None:
    jamming = seasoned(HONEST)
    before = jamming.confidence(HONEST, 0.0, 0)
    for name in range(20):
        assert hold(jamming, HONEST, 1_000, name) is not None
    during = jamming.confidence(HONEST, 0.0, 0)
    for name in range(20):
        jamming.on_ended((name,), True, 10)
    assert during < before <= 1.0
    assert jamming.confidence(HONEST, 0.0, 10) > 0.99 and len(jamming) == 0


def test_slow_and_failing_payments_cost_reputation_and_time_heals() -> None:
    jamming = seasoned(HONEST)
    for name in range(50):
        hold(jamming, HONEST, 1_000, name)
        jamming.on_ended((name,), False, 10 * HOUR)
    spoiled = jamming.confidence(HONEST, 0.0, 10 * HOUR)
    assert spoiled < 0.5
    later = jamming.reputation(HONEST, 10 * HOUR + LIMITS.half_life)
    assert later.worth < jamming.reputation(HONEST, 10 * HOUR).worth * 0.51


def test_whoever_was_slow_in_the_congestion_bucket_is_out_for_two_weeks() -> None:
    jamming = Jamming(LIMITS)
    for name in range(100):
        hold(jamming, b"j%d" % (name % 9), 1_000, name)
    assert hold(jamming, JAMMER, 1_000, "slow") is Bucket.CONGESTION
    assert hold(jamming, JAMMER, 1_000, "second") is None
    jamming.on_ended(("slow",), True, LIMITS.patience + 1)
    assert hold(jamming, JAMMER, 1_000, "again", LIMITS.patience + 2) is None
    assert hold(jamming, JAMMER, 1_000, "much later", LIMITS.patience + 1 + LIMITS.banned) is Bucket.CONGESTION


@given(st.lists(st.tuples(AMOUNTS, st.booleans(), st.integers(0, 10 * HOUR)), max_size=60))
def test_what_began_and_ended_leaves_nothing_but_reputation(payments: list[tuple[int, bool, int]]) -> None:
    jamming = Jamming(LIMITS)
    names = [name for name, (amount, _, _) in enumerate(payments) if hold(jamming, HONEST, amount, name) is not None]
    for name in names:
        _, paid, duration = payments[name]
        jamming.on_ended((name,), paid, duration)
    assert len(jamming) == 0 and hold(jamming, HONEST, VALUE * LIMITS.general_value // 100, "all of it") is not None
    reputation = jamming.reputation(HONEST, 0)
    assert 0 <= reputation.earned <= reputation.worth * (1 + 1e-9)
    assert {peer for peer, _ in jamming.take_changed()} == ({HONEST, NEXT} if names else set())
    assert jamming.take_changed() == []


def test_a_payment_that_never_began_leaves_no_trace() -> None:
    jamming = Jamming(LIMITS)
    assert hold(jamming, HONEST, 1_000, "x") is not None
    jamming.forget(("x",))
    jamming.on_ended(("x",), False, 5)
    assert jamming.take_changed() == [] and jamming.confidence(HONEST, 1.0, 0) == 0.0


@given(st.lists(st.integers(0, 2**100), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_dear_payment_that_ends_leaves_the_cheap_ones_of_its_peer_in_place(fees: list[int], rng: Random) -> None:
    jamming = Jamming(LIMITS)
    for name, fee in enumerate(fees):
        jamming.began(name, asked(JAMMER, fee=fee), Bucket.GENERAL, 0)
    for name in rng.sample(range(len(fees)), len(fees)):
        assert jamming.confidence(JAMMER, 1, 0) == 0.0
        jamming.on_ended(name, False, 1)
    assert len(jamming) == 0 and not jamming._pending
