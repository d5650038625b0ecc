"""The locks of a state that was left behind are read back, exactly, and what they hold is had from the chain."""

from __future__ import annotations

import random

import msgspec
import pytest
import trio

from simulation.mallory import Mallory
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Channel, SignedSimplex, new_channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Update, encode
from tallystick.channels.protocol.objects import NATIVE, Address, Lock, Terms
from tallystick.channels.protocol.operations import AddLock, Cancel, Operation, Pay, Unlock
from tallystick.channels.protocol.simplex import OlderState, Simplex, extend, genesis
from tallystick.channels.session.session import LOCK_HISTORY
from tallystick.channels.storage.older import ROWS_AT_ONCE, older_state
from tallystick.channels.storage.schema import ChannelSaved, HistoryPruned, UpdateReceived, UpdateSigned
from tallystick.channels.storage.sqlite.channels import SCHEMA
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.chain import SETTLED, ChallengeCall, ContractChannel, RegisterSecretCall, SettleCall
from tallystick.settlement.enforcement.duties import ChannelOnChain, duties

KEYS = sorted((PrivateKey(bytes([n]) * 32) for n in (1, 2)), key=lambda key: key.address)
TERMS = Terms(1, Address(bytes(20)), (KEYS[0].address, KEYS[1].address), NATIVE, 0, 600, bytes(32))
FRESH = new_channel(TERMS, 0, bytes(KEYS[1].public), 0)


def secret_of(lock: int) -> bytes:
    return lock.to_bytes(32, "big")


def one_update(state: Simplex, rng: random.Random) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    pending, next_lock = [lock.id for lock in state.locks], state.next_lock
    for _ in range(rng.randrange(1, 4)):
        if pending and rng.random() < 0.5:
            number = pending.pop(rng.randrange(len(pending)))
            paid = next(
                (lock.amount for lock in state.locks if lock.id == number),
                next((o.lock.amount for o in operations if isinstance(o, AddLock) and o.lock.id == number), 0),
            )
            operations.append(Unlock(number, secret_of(number), paid) if rng.random() < 0.5 else Cancel(number))
        elif rng.random() < 0.6:
            lock = Lock(next_lock, rng.randrange(1, 100), 10_000, HASH, digest_of(secret_of(next_lock)))
            operations.append(AddLock(lock))
            pending.append(next_lock)
            next_lock += 1
        elif not any(isinstance(operation, Pay) for operation in operations):
            operations.append(Pay(state.next_payment, (rng.randrange(1, 10),)))
    return tuple(operations) or (Pay(state.next_payment, (1,)),)


def history(seed: int, updates: int, sender: int) -> tuple[Store, Channel, list[Simplex]]:
    """A journal of one direction, the channel as last agreed, and every state on the way."""
    rng, states, moments = random.Random(seed), [genesis(FRESH.id, sender)], []
    for seq in range(1, updates + 1):
        operations = one_update(states[-1], rng)
        states.append(extend(states[-1], operations, 0))
        frame = encode(Update(FRESH.id, seq, 0, operations, bytes(64)))
        kind: type[UpdateSigned | UpdateReceived] = UpdateSigned if sender == 0 else UpdateReceived
        moments.append(kind(FRESH.id, seq, 0, 0, frame, 0.0))
    store = SimulatedDisk([SCHEMA]).open()
    whole: list[Moment] = list(moments)
    store.commit(whole)
    agreed = SignedSimplex(states[-1])
    channel = msgspec.structs.replace(FRESH, **({"ours": agreed} if sender == 0 else {"theirs": agreed}))
    return store, channel, states


@pytest.mark.parametrize("sender", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_every_older_state_is_read_back_exactly(seed: int, sender: int) -> None:
    store, channel, states = history(seed, 40, sender)
    for seq, state in enumerate(states):
        found = older_state(store, channel, sender, seq)
        assert found is not None and found.locks == state.locks
        gone = {lock.id for lock in state.locks} - {lock.id for lock in states[-1].locks}
        assert set(found.proofs) <= gone
        assert all(proof == secret_of(number) for number, proof in found.proofs.items())
    assert older_state(store, channel, sender, len(states)) is None, "a state to come"


def test_long_journals_are_read_no_further_back_than_needed_and_holes_are_noticed() -> None:
    store, channel, states = history(7, 3 * ROWS_AT_ONCE, 0)
    at = ROWS_AT_ONCE
    found = older_state(store, channel, 0, at)
    assert found is not None and found.locks == states[at].locks
    store.commit([ChannelSaved(channel), HistoryPruned(channel.id, at + 10, 0)])
    assert older_state(store, channel, 0, at) is None
    recent = older_state(store, channel, 0, 3 * ROWS_AT_ONCE - 1)
    assert recent is None or recent.locks == states[-2].locks
    assert LOCK_HISTORY >= ROWS_AT_ONCE


def test_what_the_peers_locks_of_an_older_state_paid_is_claimed_in_time() -> None:
    lock = Lock(3, 500, 10_000, HASH, digest_of(secret_of(3)))
    view = ContractChannel(
        terms=TERMS, status=SETTLED, deposits=(10**6, 10**6), withdrawn=(0, 0), seqs=(0, 2), pots=(0, 500)
    )
    state = Simplex(msgspec.structs.replace(genesis(FRESH.id, 1).proof, seq=3))
    channel = msgspec.structs.replace(FRESH, deposits=(10**6, 10**6), theirs=SignedSimplex(state))
    older = {1: OlderState((lock,), {3: secret_of(3)})}
    for now, proofs, claimed in (
        (9_000, {}, True),
        (9_000, {lock.puzzle: (8_000, secret_of(3))}, False),
        (10_001, {}, False),
    ):
        at = ChannelOnChain(view, now, proofs, ([], []), older=older)
        calls = [duty.call for duty in duties(channel, at, CLAIM_ALL, lambda of: bytes(32))]
        assert (RegisterSecretCall(secret_of(3)) in calls) is claimed


def test_a_pot_of_an_older_state_that_a_tower_let_stand_is_had_back() -> None:
    """The tower's appointment is older than what the node has left since: its lock is gone from the newest state."""

    async def story(world: World) -> None:
        alice, mallory = await world.start("alice"), await world.start("mallory")
        channel = await alice.open_channel(world.address("mallory"), 10_000_000)
        side = channel.view.channel.side
        await channel.pay(1, b"")
        villain = Mallory(world)
        old = villain.newest(channel.id, side)
        secret = b"\x07" * 32
        lock = await channel.lock(3_000_000, world.chain.newest.header.time + 1_500, digest_of(secret))
        await world.blocks(1)
        appointment = world.seats["alice"].audit.statements[channel.id][side, 2]
        await trio.sleep(1)
        mallory.channel(channel.id).reject(lock, b"no")
        assert await world.until(lambda: not channel.view.channel.ours.simplex.locks, 60)
        before = await alice.balance()
        await world.crash("alice")
        await world.crash("mallory")
        await villain.close(channel.id, *((old, 0) if side == 0 else (0, old)))
        await world.blocks(1)
        await world.chain.send(world.seats["bob"].key, ChallengeCall(appointment))
        async with world.brisk(30.0):
            closed = world.chain.newest.header.time
            await world.until(lambda: world.chain.newest.header.time >= closed + 700)
            await world.chain.send(world.seats["bob"].key, SettleCall(channel.id))
            await world.blocks(2)
            view = await world.chain.channel(channel.id)
            assert view is not None and view.pots[side] == 3_000_000
            alice = await world.start("alice")
            assert await world.until(lambda: alice.channel(channel.id).phase.name == "GONE", 6_000)
        assert await alice.balance() - before > 9_000_000

    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600, duties=CLAIM_ALL), interval=12.0) as world:
            await story(world)

    simulate(main, 1)
