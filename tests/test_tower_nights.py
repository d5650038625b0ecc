"""Whole nodes that go to sleep with locks and streams pending, and what their tower does for them, in virtual time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import TowerHouse
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import LinkRegistered, SecretRegistered
from tallystick.watchtower.tower import TowerPolicy

TOWER = PrivateKey(keccak(b"a tower that does not sleep"))
AT = PeerAddress(bytes(TOWER.public), "tower", 9911)
DEPOSIT = 10**9
SECRET = keccak(b"what bob reveals")


def house_in(world: World, directory: Path) -> TowerHouse:
    world.chain.fund(TOWER.address, 10**18)
    return TowerHouse(
        key=TOWER,
        directory=directory,
        network=world.network.endpoint(TOWER),
        chain=world.chain,
        policy=TowerPolicy(),
        alarms=[],
    )


async def registered(world: World) -> list[LinkRegistered | SecretRegistered]:
    blocks = await world.chain.blocks(0, 10_000)
    return [event for block in blocks for event in block.events if isinstance(event, LinkRegistered | SecretRegistered)]


async def all_covered(world: World) -> None:
    with trio.fail_after(600):
        await world.node("bob").tower_manager.wait_covered()


async def paid_in_the_morning(world: World, due: int) -> None:
    """Both come back; whatever they make of it, Bob has what was owed to him."""
    await world.start("alice")
    bob = await world.start("bob")
    channel = bob.channels[0]
    assert await world.until(lambda: channel.balances[0] == due or channel.phase is Phase.GONE, 100_000, every=60)
    if channel.phase is not Phase.GONE:
        assert channel.balances[0] == due


@pytest.mark.parametrize("guarded", [True, False])
def test_what_a_stream_has_paid_is_registered_while_its_payee_sleeps(tmp_path: Path, guarded: bool) -> None:
    async def main() -> None:
        async with open_world(5, names=("alice", "bob")) as world, house_in(world, tmp_path).open():
            alice = await world.start("alice")
            await world.start("bob", msgspec.structs.replace(world.config, towers=(AT,) if guarded else ()))
            channel = await alice.open_channel(world.address("bob"), DEPOSIT)
            expiry = world.chain.newest.header.time + 3_000
            stream = await channel.open_stream(10**6, 200, expiry=expiry)
            for _ in range(90):
                stream.submit()
            await stream.wait(90)
            await all_covered(world)
            for _ in range(7):
                stream.submit()
            await stream.wait(97)
            assert world.node("bob").tower_manager.statistics() == () or (
                world.node("bob").tower_manager.statistics()[0].exposed >= 97 * 10**6
            )
            await all_covered(world)
            await world.crash("alice")
            await world.crash("bob")
            await trio.sleep(3_100)
            found = await registered(world)
            assert [(event.depth, event.time <= expiry) for event in found if isinstance(event, LinkRegistered)] == (
                [(97, True)] if guarded else []
            )
            if guarded:
                await paid_in_the_morning(world, 97 * 10**6)

    simulate(main, 5)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_revealed_secret_is_registered_while_who_revealed_it_sleeps(tmp_path: Path, guarded: bool) -> None:
    async def main() -> None:
        async with open_world(6, names=("alice", "bob")) as world, house_in(world, tmp_path).open():
            alice = await world.start("alice")
            await world.start("bob", msgspec.structs.replace(world.config, towers=(AT,) if guarded else ()))
            channel = await alice.open_channel(world.address("bob"), DEPOSIT)
            expiry = world.chain.newest.header.time + 3_000
            number = await channel.lock(10**8, expiry, digest_of(SECRET))
            await world.until(lambda: bool(world.node("bob").channels[0].view.channel.theirs.simplex.locks))
            await world.crash("alice")  # she means to let it expire
            world.node("bob").channels[0].reveal(number, SECRET)
            await trio.sleep(5)
            await all_covered(world)
            await world.crash("bob")
            await trio.sleep(3_100)
            found = await registered(world)
            assert [event.time <= expiry for event in found if isinstance(event, SecretRegistered)] == (
                [True] if guarded else []
            )
            if guarded:
                await paid_in_the_morning(world, 10**8)

    simulate(main, 6)
