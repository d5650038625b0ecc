"""A node whose disk is gone: with its key and its towers it gets back what its newest receipts name. Virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import TowerHouse
from tallystick.channels.errors import TallystickError
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.storage.schema import load_channels
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.recovering import Recovery, recover
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.testing.world import World, key_of, open_world
from tallystick.settlement.chain import Redeemed, Settled
from tallystick.watchtower.tower import TowerPolicy

TOWERS = [PrivateKey(keccak(b"a tower that keeps for its client %d" % number)) for number in (1, 2)]
PLACES = tuple(PeerAddress(bytes(key.public), "tower", 9911 + number) for number, key in enumerate(TOWERS))
DEPOSIT = 10**9
BOB = key_of("bob")
SECRET, UNKNOWN = keccak(b"what bob has revealed"), keccak(b"what nobody reveals")
Act = Callable[[World, ChannelHandle], Awaitable[None]]


def play(tmp_path: Path, act: Act) -> None:
    """Bob has two towers, and Alice has a channel with him; `act` goes on."""

    async def main() -> None:
        async with open_world(11, names=("alice", "bob")) as world, AsyncExitStack() as stack:
            for key, place in zip(TOWERS, PLACES, strict=True):
                world.chain.fund(key.address, 10**18)
                house = TowerHouse(
                    key=key,
                    directory=tmp_path / str(place.port),
                    network=world.network.endpoint(key),
                    chain=world.chain,
                    policy=TowerPolicy(),
                    alarms=[],
                )
                await stack.enter_async_context(house.open(place.port))
            alice = await world.start("alice")
            await world.start("bob", msgspec.structs.replace(world.config, towers=PLACES))
            await act(world, await alice.open_channel(world.address("bob"), DEPOSIT))

    simulate(main, 11)


async def covered(world: World) -> None:
    with trio.fail_after(200):
        await trio.sleep(1)
        await world.node("bob").tower_manager.wait_covered()


async def bring_back(world: World, towers: tuple[PeerAddress, ...] = PLACES) -> Recovery:
    """Have the towers fill Bob's disk, as it is."""
    with closing(world.seats["bob"].disk.open()) as store:
        return await recover(
            "bob",
            key=BOB,
            chain_id=world.chain.chain_id,
            contract=world.chain.contract,
            towers=towers,
            within=5,
            network=world.network.endpoint(BOB),
            store=store,
        )


async def lose_disk(world: World) -> None:
    await world.crash("bob")
    world.seats["bob"].disk = SimulatedDisk(SCHEMAS)


async def pending(world: World, channel: ChannelHandle) -> int:
    """Let payments, locks of both kinds and a stream pend, all of it receipted; return what is Bob's of it."""
    for _ in range(20):
        await channel.pay(10**6)
    now = world.chain.newest.header.time
    known = await channel.lock(10**7, now + 40_000, digest_of(SECRET))
    await channel.lock(10**6, now + 40_000, digest_of(UNKNOWN))  # comes back to Alice
    bob = world.node("bob").channels[0]
    await bob.lock(5_000, now + 40_000, digest_of(UNKNOWN))  # comes back to Bob
    stream = await channel.open_stream(10**4, 200, expiry=now + 40_000)
    for _ in range(50):
        stream.submit()
    await stream.wait(50)
    await world.until(lambda: len(bob.view.channel.theirs.simplex.locks) == 3, 60)
    world.network.partition(
        world.seats["alice"].key.public, BOB.public
    )  # she does not pay for the secret before the disk is gone
    bob.reveal(known, SECRET)
    await covered(world)
    return 20 * 10**6 + 10**7 + 50 * 10**4


async def paid_out(world: World, side: int) -> int:
    """Wait until nothing is left of the channel; return what the contract paid Bob for it."""
    bob = world.node("bob")
    assert await world.until(lambda: bob.channels[0].phase is Phase.GONE, 400_000, every=120)
    events, first = [], 0
    while blocks := await world.chain.blocks(first, 1_000):  # it gives a bounded number at once
        events += [event for block in blocks for event in block.events]
        first = blocks[-1].header.number + 1
    (settled,) = (event for event in events if isinstance(event, Settled))
    redeemed = [event for event in events if isinstance(event, Redeemed)]
    return (settled.net0, settled.net1)[side] + sum(
        event.refunded if event.sender == side else event.paid for event in redeemed
    )


def side_of_bob(world: World) -> int:
    return world.node("bob").channels[0].view.channel.side


def test_with_nothing_but_its_key_a_node_gets_back_every_coin_that_its_receipts_name(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        side = side_of_bob(world)
        due = await pending(world, channel)
        await lose_disk(world)
        found = await bring_back(world)
        assert (found.answered, found.faults) == (2, ())
        (back,) = found.channels
        assert (back.restored, back.locks_missing, back.received) == (True, False, 20 * 10**6)
        assert back.secured == 10**7 + 50 * 10**4
        world.network.heal()
        bob = await world.start("bob")
        assert bob.channels[0].phase is Phase.RECOVERING
        with pytest.raises(TallystickError):
            await bob.channels[0].pay(1)
        assert await paid_out(world, side) == due

    play(tmp_path, act)


def test_a_peer_that_closed_with_an_old_state_meanwhile_is_challenged_by_the_recovered_node(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        side = side_of_bob(world)
        old = world.seats["alice"].disk.image()
        for _ in range(5):
            await channel.pay(10**6)
        await covered(world)
        await lose_disk(world)
        await bring_back(world)
        await world.crash("alice")
        world.seats["alice"].disk = SimulatedDisk(SCHEMAS, old)
        alice = await world.start("alice")
        await alice.channels[0].force_close()
        await world.start("bob")
        assert await paid_out(world, side) >= 5 * 10**6

    play(tmp_path, act)


def test_the_highest_of_all_towers_counts_and_asking_again_changes_nothing(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        await channel.pay(1_000)
        await covered(world)
        world.network.partition(BOB.public, TOWERS[1].public)
        await channel.pay(5_000)
        with trio.fail_after(200):
            await world.node("bob").tower_manager.towers[0].wait_covered()
        await lose_disk(world)
        world.network.heal()
        (behind,) = (await bring_back(world, PLACES[1:])).channels
        assert behind.received == 1_000
        (newest,) = (await bring_back(world)).channels
        assert newest.received == 6_000 and newest.restored
        image = world.seats["bob"].disk.image()
        (again,) = (await bring_back(world)).channels
        assert not again.restored and world.seats["bob"].disk.image() == image
        (older,) = (await bring_back(world, PLACES[1:])).channels
        assert not older.restored, "what a tower holds that is older takes nothing back"
        with closing(world.seats["bob"].disk.open()) as store:
            (kept,) = load_channels(store)
        assert kept.theirs.simplex.proof.transferred == 6_000 and kept.phase is Phase.RECOVERING

    play(tmp_path, act)


def test_towers_that_are_away_leave_the_disk_as_it_was_and_are_named(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        await channel.pay(1_000)
        await covered(world)
        await lose_disk(world)
        world.network.partition(BOB.public)
        found = await bring_back(world)
        assert found.answered == 0 and len(found.faults) == 2 and not found.channels
        world.network.heal()
        assert (await bring_back(world)).channels

    play(tmp_path, act)
