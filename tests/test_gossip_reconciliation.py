"""Buckets say what two nodes hold differently, whatever the order it came in; token buckets count with time."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.transport.rates import Paces, TokenBucket
from tallystick.router.gossip.reconciliation import BUCKETS, Buckets, ItemId, bucket_of
from tallystick.router.objects import NodeKey

ITEMS: list[ItemId] = [(ChannelId(bytes([n % 3, n]) * 16), n % 2) for n in range(12)]
ITEMS += [NodeKey(b"\x02" + bytes([n % 2]) * 32) for n in range(2)]
VERSIONS = st.tuples(st.sampled_from(ITEMS), st.integers(0, 2))
MARKS = VERSIONS.map(lambda version: (version[0], hashlib.sha256(repr(version).encode()).digest()[:8]))
CONTENTS = st.lists(MARKS).map(dict)


def filled(contents: dict[ItemId, bytes]) -> Buckets:
    buckets = Buckets()
    for item, mark in contents.items():
        buckets.put(item, mark)
    return buckets


@given(CONTENTS, CONTENTS)
def test_exactly_the_buckets_that_differ_are_found_and_exactly_what_is_missing_is_sent(
    ours: dict[ItemId, bytes], theirs: dict[ItemId, bytes]
) -> None:
    here, there = filled(ours), filled(theirs)
    marks = [{(bucket_of(item), mark) for item, mark in contents.items()} for contents in (ours, theirs)]
    differing = here.differing(there.digests())
    assert differing == sorted({number for number, _ in marks[0] ^ marks[1]})
    for number in differing:
        sent = there.beyond(number, here.marks(number))
        assert {(number, theirs[item]) for item in sent} == {m for m in marks[1] - marks[0] if m[0] == number}


@given(st.lists(st.tuples(MARKS, st.booleans())))
def test_digests_depend_on_the_contents_alone(steps: list[tuple[tuple[ItemId, bytes], bool]]) -> None:
    buckets, contents = Buckets(), dict[ItemId, bytes]()
    for (item, mark), removed in steps:
        if removed:
            buckets.remove(item)
            contents.pop(item, None)
        else:
            buckets.put(item, mark)
            contents[item] = mark
        buckets.digests()
    backwards = filled(dict(reversed(contents.items())))
    assert buckets.digests() == backwards.digests()
    assert len(buckets.digests()) == BUCKETS * 16


def test_an_empty_buckets_digest_is_that_of_nothing() -> None:
    assert Buckets().digests() == hashlib.sha256().digest()[:16] * BUCKETS


def test_tokens_come_with_time_up_to_the_burst_and_never_from_a_clock_that_runs_back() -> None:
    bucket = TokenBucket(rate=2, burst=10, now=100)
    assert bucket.take(10, 100) and not bucket.take(1, 100)
    assert not bucket.take(1, 50) and bucket.level == 0
    assert bucket.take(2, 51) and not bucket.take(0.1, 51)
    bucket.charge(15, 60)
    assert bucket.level == -5  # ten at most were there
    bucket.charge(100, 60)
    assert bucket.level == -10
    assert bucket.settle(1_000) == 10


def test_each_thing_has_a_pace_of_its_own_which_is_forgotten_once_it_has_recovered() -> None:
    paces = Paces(every=100, burst=2)
    assert [paces.take("often", 0) for _ in range(3)] == [True, True, False]
    assert paces.take("seldom", 0) and paces.ready("seldom", 0) and not paces.ready("often", 99)
    assert paces.ready("often", 100) and paces.ready("never", 0)
    paces.sweep(150)
    assert len(paces) == 1
    paces.sweep(200)
    assert len(paces) == 0
