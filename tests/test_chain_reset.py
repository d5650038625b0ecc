"""A chain that was begun anew, or is another one than was followed, is known for that: nothing is paid on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from simulation.following import one_by_one
from tallystick.channels.errors import ChannelNotReady
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config
from tallystick.sdk.testing.world import CLAIM_ALL, World, open_world
from tallystick.settlement.errors import WrongChain
from tallystick.settlement.following.follower import Followed, Follower, Step
from tallystick.settlement.sending.moments import read_followed, step_moment
from tallystick.settlement.sending.sqlite import SCHEMA
from tallystick.settlement.testing.local import LocalChain

CONFIG = Config(challenge_period=600, duties=CLAIM_ALL)


def another(blocks: int) -> LocalChain:
    """Return a chain that was begun a day later."""
    chain = LocalChain(clock=lambda: EPOCH + 86_400 + trio.current_time())
    chain.mine(blocks)
    return chain


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    found = open_store(tmp_path, [SCHEMA], owner="a test", durable=False)
    yield found
    found.close()


async def followed(store: SqliteStore, chain: LocalChain, seconds: float) -> Follower:
    """Follow a chain for so long from what is stored; return the follower as it is then."""

    async def keep(step: Step) -> None:
        await trio.lowlevel.checkpoint()
        store.commit([step_moment(chain.chain_id, step)])

    follower = Follower(chain, read_followed(store, chain.chain_id, 0), one_by_one(keep), jitter=lambda: 0.5)
    with trio.move_on_after(seconds):
        await follower.run()
    return follower


@pytest.mark.parametrize("before", [20, 300])
@pytest.mark.parametrize("after", [2, 30, 600])
async def test_another_chain_is_not_taken_for_a_reorganisation_however_long_it_is(
    before: int, after: int, store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    old = LocalChain()
    old.mine(before)
    position = (await followed(store, old, 1)).followed.position
    assert position == old.newest.header
    follower = await followed(store, another(after), 60)
    assert isinstance(follower.lost, WrongChain) and "begun anew" in str(follower.lost)
    assert follower.followed.position == position, "nothing of it was taken in"
    well = await followed(store, old, 60)
    assert well.lost is None and well.fault is None


async def test_the_first_block_is_remembered_for_ever(
    store: SqliteStore, autojump_clock: trio.testing.MockClock
) -> None:
    chain = LocalChain()
    genesis = chain.newest.header
    chain.mine(700)
    await followed(store, chain, 1)
    kept = read_followed(store, chain.chain_id, 0)
    assert kept.root == genesis and len(kept.headers) == 128 and kept.position == chain.newest.header
    assert Followed(0).root is None


def with_a_channel(act: Callable[[World], Awaitable[None]], seed: int = 1) -> None:
    async def main() -> None:
        async with open_world(seed, config=CONFIG, names=("alice", "bob")) as world:
            alice, _ = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            await alice.open_channel(world.address("bob"), 10_000_000)
            await act(world)

    simulate(main, seed)


@pytest.mark.alarm(AlarmKind.CHAIN_RESET)
def test_a_node_whose_chain_is_begun_anew_pays_nothing_and_says_what_to_do() -> None:
    async def act(world: World) -> None:
        alice = world.node("alice")
        channel = alice.channels[0]
        await channel.pay(5)
        await trio.sleep(60)  # long enough for the opening to be at rest, or not
        old, new = world.chain, another(3)
        world.seats["alice"].chain._chain = new  # type: ignore[union-attr]
        await trio.sleep(10)
        await channel.force_close()
        await trio.sleep(240)
        kinds = {alarm.kind for alarm in alice.alarms}
        assert AlarmKind.CHAIN_RESET in kinds and kinds <= {AlarmKind.CHAIN_RESET, AlarmKind.FEE_ACCOUNT}
        assert not new.waiting(), "nothing is sent to a chain that is not ours"
        assert not alice.onchain.fresh
        with pytest.raises(ChannelNotReady, match="another one"):
            await alice.channels[1].pay(5)
        world.seats["alice"].chain._chain = old  # type: ignore[union-attr]
        await trio.sleep(60)
        await alice.channels[1].pay(5)
        assert AlarmKind.CHAIN_BACK in {alarm.kind for alarm in alice.alarms}
        assert await world.until(lambda: channel.phase.name == "CLOSED", 120)

    with_a_channel(act)


def test_a_node_does_not_start_on_another_chain_than_it_followed() -> None:
    async def act(world: World) -> None:
        await world.crash("alice")
        world.seats["alice"].chain_node = another(3)
        await world.start("alice")

    with pytest.raises(BaseExceptionGroup) as caught:
        with_a_channel(act)
    assert caught.group_contains(WrongChain, match="new data directory")
