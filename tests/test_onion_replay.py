"""An onion serves one lock, whatever crashes in between, and nobody can fill the memory of it for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import StoreError
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.onion.replay import OnionsForgotten, Replays, load_onions
from tallystick.router.sqlite import ONIONS_SCHEMA

ALICE, BOB = ChannelId(b"\x0a" * 32), ChannelId(b"\x0b" * 32)
NOW = 1_700_000_000


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_lock_is_processed_again_after_a_crash_and_its_onion_serves_no_other() -> None:
    disk = SimulatedDisk([ONIONS_SCHEMA])
    store = disk.open()
    moment = Replays(load_onions(store)).check(secret(1), ALICE, 7, NOW)
    assert moment is not None
    store.commit([moment])
    for _ in range(2):
        replays = Replays(load_onions(disk.open()))
        assert replays.check(secret(1), ALICE, 7, NOW) is None
        for channel, lock in ((ALICE, 8), (BOB, 7)):
            with pytest.raises(InvalidOnion, match="with another lock") as caught:
                replays.check(secret(1), channel, lock, NOW)
            assert caught.value.failure == Code.INVALID_ONION_HMAC
        assert len(replays) == 1


def test_what_was_not_committed_was_not_answered_and_is_not_remembered() -> None:
    disk = SimulatedDisk([ONIONS_SCHEMA])
    store = disk.open()
    store.fail_at(0)
    replays = Replays(load_onions(store))
    moment = replays.check(secret(1), ALICE, 7, NOW)
    assert moment is not None
    with pytest.raises(InvalidOnion):  # before it is durable, too
        replays.check(secret(1), BOB, 1, NOW)
    with pytest.raises(StoreError):
        store.commit([moment])
    assert Replays(load_onions(disk.open())).check(secret(1), BOB, 1, NOW) is not None


def test_onions_are_forgotten_when_their_locks_have_expired() -> None:
    disk = SimulatedDisk([ONIONS_SCHEMA])
    store = disk.open()
    replays = Replays()
    store.commit([moment for i in range(10) if (moment := replays.check(secret(i), ALICE, i, NOW + i))])
    assert replays.prune(NOW) is None and len(replays) == 10
    forgotten = replays.prune(NOW + 4)
    assert forgotten == OnionsForgotten(NOW + 4)
    store.commit([forgotten])
    assert sorted(seen.lock for seen in load_onions(store)) == [4, 5, 6, 7, 8, 9]
    assert len(replays) == len(Replays(load_onions(disk.open()))) == 6
    assert replays.check(secret(4), ALICE, 4, NOW + 4) is None
    assert replays.check(secret(3), BOB, 1, NOW + 3) is not None
    assert repr(replays) == "<Replays remembered=7 limit=1000000>"


def test_an_onion_that_comes_back_in_the_step_that_forgets_it_does_not_take_the_store_down() -> None:
    """Its row is there still when it is written anew, if the order of a commit will have it so."""
    disk = SimulatedDisk([ONIONS_SCHEMA])
    store, replays = disk.open(), Replays()
    first = replays.check(secret(1), ALICE, 1, NOW)
    assert first is not None
    store.commit([first])
    forgotten, second = replays.prune(NOW + 1), replays.check(secret(1), BOB, 5, NOW + 50)
    assert forgotten is not None and second is not None
    store.commit([second, forgotten])
    assert load_onions(disk.open()) == [second]


def test_a_channel_that_floods_blocks_itself_and_nobody_else() -> None:
    replays = Replays(limit=100)
    for i in range(50):
        assert replays.check(secret(i), ALICE, i, NOW)
    with pytest.raises(InvalidOnion, match="until locks expire") as caught:
        replays.check(secret(50), ALICE, 50, NOW)
    assert caught.value.failure == Code.TEMPORARY_NODE_FAILURE
    for i in range(25):
        assert replays.check(secret(1_000 + i), BOB, i, NOW)
    assert replays.check(secret(0), ALICE, 0, NOW) is None  # what is remembered is so still
    replays.prune(NOW + 1)
    assert len(replays) == 0 and replays.check(secret(51), ALICE, 51, NOW + 1) is not None


def test_a_lock_that_never_expires_is_remembered_without_harm() -> None:
    store = SimulatedDisk([ONIONS_SCHEMA]).open()
    moment = Replays().check(secret(1), ALICE, 1, 2**64 - 1)
    assert moment is not None
    store.commit([moment])
    assert Replays(load_onions(store)).check(secret(1), ALICE, 1, 2**64 - 1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([ALICE, BOB]), st.integers(0, 3), st.integers(0, 20))))
def test_memory_rebuilt_from_disk_is_the_memory(steps: list[tuple[int, ChannelId, int, int]]) -> None:
    disk = SimulatedDisk([ONIONS_SCHEMA])
    store = disk.open()
    replays, owners = Replays(), dict[int, tuple[ChannelId, int, int]]()
    for now, (onion, channel, lock, life) in enumerate(steps):
        if forgotten := replays.prune(now):
            store.commit([forgotten])
        owners = {key: owner for key, owner in owners.items() if owner[2] >= now}
        if onion in owners and owners[onion][:2] != (channel, lock):
            with pytest.raises(InvalidOnion):
                replays.check(secret(onion), channel, lock, now + life)
            continue
        moment = replays.check(secret(onion), channel, lock, now + life)
        assert (moment is None) == (onion in owners)
        if moment:
            store.commit([moment])
            owners[onion] = (channel, lock, now + life)
        assert len(Replays(load_onions(store))) == len(replays) == len(owners)
