"""A node that starts asks its towers first whether its data is old: an old copy learns it before it can hurt itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.tower_house import TowerHouse
from simulation.tower_office import ALICE as OFFICE_ALICE
from simulation.tower_office import PAIR
from simulation.tower_office import TOWER as OFFICE_TOWER
from tallystick.channels.errors import TallystickError
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.testing.world import World, open_world
from tallystick.watchtower.client import TowerClient
from tallystick.watchtower.fetching import Wanted, is_newer
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.sealing import Appointment
from tallystick.watchtower.sqlite import CLIENT_SCHEMA
from tallystick.watchtower.tower import TowerPolicy

TOWERS = [PrivateKey(keccak(b"a tower that is asked %d" % number)) for number in (1, 2)]
PLACES = tuple(PeerAddress(bytes(key.public), "tower", 9911) for key in TOWERS)
DEPOSIT = 10**9
Act = Callable[[World, ChannelHandle], Awaitable[None]]


def play(tmp_path: Path, act: Act) -> None:
    """Bob has two towers, of which the second one is dead, and Alice has paid him; `act` goes on."""

    async def main() -> None:
        async with open_world(7, names=("alice", "bob")) as world:
            world.chain.fund(TOWERS[0].address, 10**18)
            house = TowerHouse(
                key=TOWERS[0],
                directory=tmp_path,
                network=world.network.endpoint(TOWERS[0]),
                chain=world.chain,
                policy=TowerPolicy(),
                alarms=[],
            )
            alice = await world.start("alice")
            policy = ClientPolicy(ask_within=3.0)
            await world.start("bob", msgspec.structs.replace(world.config, towers=PLACES, tower_policy=policy))
            channel = await alice.open_channel(world.address("bob"), DEPOSIT)
            async with house.open():
                await channel.pay(1_000)
                await covered(world)
                await act(world, channel)

    simulate(main, 7)


async def covered(world: World) -> None:
    first = world.node("bob").tower_manager.towers[0]
    with trio.fail_after(100):
        await trio.sleep(1)
        await first.wait_covered()


@pytest.mark.alarm("old-data")
def test_an_old_copy_signs_nothing_and_closes_nothing_though_its_peer_is_away(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        image = world.seats["bob"].disk.image()
        for _ in range(5):
            await channel.pay(100_000)
        await covered(world)
        await world.crash("bob")
        await world.crash("alice")  # who could have shown it
        world.seats["bob"].disk = SimulatedDisk(SCHEMAS, image)
        began = trio.current_time()
        bob = await world.start("bob")
        assert trio.current_time() - began < 30, "a dead tower delays a start by no more than it is given"
        assert bob.channels[0].phase is Phase.RECOVERING
        assert AlarmKind.OLD_DATA in [alarm.kind for alarm in bob.alarms]
        with pytest.raises(TallystickError):
            await bob.channels[0].force_close()
        with pytest.raises(TallystickError):
            await bob.channels[0].pay(1)
        await world.start("alice")  # is asked to close, with what both signed last
        assert await world.until(lambda: world.node("alice").channels[0].phase is Phase.GONE, 200_000, every=60)

    play(tmp_path, act)


def test_newest_data_goes_on_as_if_nothing_was_asked(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        await channel.pay(100_000)
        await covered(world)
        await world.crash("bob")
        bob = await world.start("bob")
        assert bob.channels[0].phase is Phase.OPEN
        assert AlarmKind.OLD_DATA not in [alarm.kind for alarm in bob.alarms]
        await world.until(lambda: bob.channels[0].view.ready, 60)
        await channel.pay(5)
        assert bob.channels[0].balances[0] == 101_005

    play(tmp_path, act)


def test_a_crash_with_updates_on_their_way_is_no_loss_of_data(tmp_path: Path) -> None:
    async def act(world: World, channel: ChannelHandle) -> None:
        for _ in range(12):
            async with trio.open_nursery() as nursery:

                async def pay(handle: ChannelHandle) -> None:
                    try:
                        await handle.pay(3)
                    except TallystickError:
                        return  # the crash came first

                await world.until(lambda: world.node("bob").channels[0].view.ready and channel.view.ready, 60)
                nursery.start_soon(pay, channel)
                nursery.start_soon(pay, world.node("bob").channels[0])
                for _ in range(40):
                    await trio.lowlevel.checkpoint()
                await world.crash("bob")
                nursery.cancel_scope.cancel()
            bob = await world.start("bob")
            assert bob.channels[0].phase is Phase.OPEN and AlarmKind.OLD_DATA not in [a.kind for a in bob.alarms]

    play(tmp_path, act)


def test_only_what_both_signed_above_what_is_known_shows_that_data_is_old() -> None:
    held = Appointment(PAIR.terms, PAIR.proof(0, 3, 5), PAIR.proof(1, 9, 5), b"v" * 64)

    def newer(appointment: Appointment, *seqs: int) -> bool:
        wanted = Wanted(PAIR.terms, PAIR.close_key, (seqs[0], seqs[1]))
        return is_newer(appointment, wanted, OFFICE_ALICE.address, OFFICE_TOWER.address)

    assert not newer(held, 3, 9) and not newer(held, 4, 10)
    assert newer(held, 2, 9) and newer(held, 3, 8)
    forged = msgspec.structs.replace(PAIR.proof(0, 30, 5), countersignature=b"c" * 64)
    assert not newer(msgspec.structs.replace(held, proof0=forged), 3, 9)


async def test_a_silent_tower_holds_up_a_start_for_no_longer_than_it_is_given(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    network = MemoryNetwork(1)

    async def nothing(moments: Sequence[Moment]) -> None:
        await trio.lowlevel.checkpoint()

    async def never(at: PeerAddress) -> Link:
        await trio.sleep_forever()

    async def mute(link: Link) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        started: list[PeerAddress] = []
        heard = trio.Event()

        def listening(at: PeerAddress) -> None:
            started.append(at)
            heard.set()

        nursery.start_soon(partial(network.endpoint(OFFICE_TOWER).serve, "tower", 9, mute, started=listening))
        await heard.wait()
        store = open_store(tmp_path, [CLIENT_SCHEMA], owner="alice", durable=False)
        client = TowerClient(
            key=OFFICE_ALICE,
            tower=started[0],
            network=network.endpoint(OFFICE_ALICE),
            store=store,
            commit=nothing,
            entropy=seeded_entropy("alice"),
            jitter=lambda: 0.5,
            alarm=lambda alarm: None,
            clock=trio.current_time,
            policy=ClientPolicy(ask_within=3.0),
        )
        for dial in (client.network.dial, never):
            client.network.dial = dial  # type: ignore[method-assign, assignment]  # one that never connects
            began = trio.current_time()
            assert await client.find_newer([Wanted(PAIR.terms, PAIR.close_key)]) == []
            assert trio.current_time() - began <= 3.1
        store.close()
        nursery.cancel_scope.cancel()
