"""`tally tower rescan`: what a tower holds of disputes, against the chain read anew; and what it changes if asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from typer.testing import CliRunner

from simulation.tower_world import CAROL, MALLORY, TOWER, TowerWorld
from tallystick.channels.errors import InvalidInput, StoreError, StoreForeign, StoreVersion
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.identity import DirectoryClaimed, Identity
from tallystick.channels.storage.sqlite.snapshots import open_snapshot
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.tables import Reader
from tallystick.sdk.cli.app import app
from tallystick.settlement.chain import Challenged, Header, SettleCall
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.sending.moments import ChainAdvanced, ObligationStored, read_book
from tallystick.settlement.sending.obligations import ObligationStatus
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.watchtower.comparing import DifferenceKind
from tallystick.watchtower.rescan import PATIENCE, Rescan, account_of, corrections, read_record, rescan
from tallystick.watchtower.schema import DisputeOver, DisputeSeen, DisputesUndone, read_disputes
from tallystick.watchtower.sqlite import CLIENT_SCHEMA, SCHEMAS


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TowerWorld]:
    made = TowerWorld(tmp_path)
    yield made
    made.store.close()


def opened(world: TowerWorld) -> Any:
    """The tower's store, without the tower."""
    return open_store(world.house.directory, SCHEMAS, owner="a test", durable=False)


async def look(world: TowerWorld, store: Store, *, repair: bool = False) -> Rescan:
    """Compare, and correct what differs if asked."""

    def snapshot() -> AbstractContextManager[Reader]:
        return nullcontext(store)

    record = read_record(store, world.chain, 0)
    found, rebuilt = await rescan(record, snapshot, world.chain, TOWER.address, 0, lambda: 0.5)
    if repair:
        store.commit(corrections(found.differences, rebuilt.disputes, rebuilt.events))
    return found


def kinds(found: Rescan) -> list[DifferenceKind]:
    return [difference.kind for difference in found.differences]


async def cheated(world: TowerWorld, *, blocks: int = 3) -> None:
    """Mallory closes with an old state, and the tower follows for some blocks."""
    await world.appointed()
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(blocks)
        await tower.follower.wait_reached(world.chain.newest.header.number)
        await trio.sleep(1)


async def test_what_a_tower_holds_is_what_the_chain_shows(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await cheated(world)
    store = opened(world)
    found = await look(world, store)
    assert found.differences == () and found.held == found.found == 1 and found.lag == 0
    assert found.position == world.chain.newest.header.number
    store.close()


def forget(world: TowerWorld) -> list[Moment]:
    return [DisputeOver(world.pair.channel, ())]


def make_up(world: TowerWorld) -> list[Moment]:
    store = opened(world)
    (dispute,) = read_disputes(store).values()
    store.close()
    terms = msgspec.structs.replace(dispute.terms, number=dispute.terms.number + 1)
    seen, closed = dispute.sightings[0], dispute.closed
    assert closed is not None
    changed = msgspec.structs.replace(closed, channel=channel_id(terms))
    return [DisputeSeen(channel_id(terms), terms, 0, msgspec.structs.replace(seen, event=changed))]


def lose_an_event(world: TowerWorld) -> list[Moment]:
    store = opened(world)
    (dispute,) = read_disputes(store).values()
    store.close()
    challenged = next(one for one in dispute.sightings if isinstance(one.event, Challenged))
    return [DisputesUndone(challenged.block.number)]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (forget, DifferenceKind.DISPUTE_UNKNOWN),
        (make_up, DifferenceKind.DISPUTE_MADE_UP),
        (lose_an_event, DifferenceKind.EVENTS_DIFFER),
    ],
)
async def test_each_difference_is_told_in_words_and_repaired_only_if_asked(
    world: TowerWorld, damage: Any, kind: DifferenceKind, autojump_clock: trio.testing.MockClock
) -> None:
    await cheated(world)
    moments = damage(world)
    store = opened(world)
    right = read_disputes(store)
    store.commit(moments)
    wrong = read_disputes(store)
    assert wrong != right
    found = await look(world, store)
    assert kinds(found) == [kind]
    (difference,) = found.differences
    assert difference.channel is not None and difference.channel.hex()[:8] in difference.text
    assert world.pair.close_key.hex() not in difference.text
    assert read_disputes(store) == wrong, "nothing is changed unless asked"
    await look(world, store, repair=True)
    assert read_disputes(store) == right
    assert (await look(world, store)).differences == ()
    store.close()


async def test_a_dispute_that_was_forgotten_is_defended_once_it_is_repaired(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await world.appointed()
    world.chain.censor(lambda transaction: transaction.sender == TOWER.address)
    async with world.house.open() as (tower, _):
        await world.cheat()
        await world.mine(1)
        await tower.follower.wait_reached(world.chain.newest.header.number)
    store = opened(world)
    waiting = list(read_book(store, world.chain.chain_id, TOWER.address).obligations.values())
    assert len(waiting) == 2
    store.commit(forget(world))
    for obligation in waiting:
        ended = obligation.finish(ObligationStatus.SUPERSEDED, "lost")
        store.commit([ObligationStored(world.chain.chain_id, TOWER.address, ended)])
    found = await look(world, store)
    assert kinds(found) == [
        DifferenceKind.DISPUTE_UNKNOWN,
        DifferenceKind.DUTY_MISSING,
        DifferenceKind.DUTY_MISSING,
    ], "both that it is not known, and that two challenges are due"
    await look(world, store, repair=True)
    store.close()
    world.chain.censor(None)
    async with world.house.open():
        await world.mine(6)
    store = opened(world)
    assert kinds(await look(world, store)) == []
    store.close()
    await world.assert_caught()


async def test_what_cannot_be_challenged_any_more_is_left_aside(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await cheated(world)
    world.chain.advance(700)
    assert (await world.chain.call(CAROL, SettleCall(world.pair.channel))).success
    async with world.house.open() as (tower, _):
        await tower.follower.wait_reached(world.chain.newest.header.number)
        await trio.sleep(1)
    store = opened(world)
    store.commit(forget(world))
    found = await look(world, store)
    assert found.differences == () and found.held == found.found == 0
    store.close()


async def test_a_position_that_is_none_of_the_chains_is_told(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await cheated(world)
    store = opened(world)
    await trio.sleep(10)
    for _ in range(2):
        world.chain.mine()
    position = read_record(store, world.chain, 0).followed.position
    assert position is not None
    strange = Header(position.number + 1, b"\x01" * 32, position.hash, position.time + 1)
    store.commit([ChainAdvanced(world.chain.chain_id, strange)])
    with pytest.raises(ChainUnavailable, match="just left the chain"):
        await look(world, store)
    alone = Header(position.number + 1, b"\x01" * 32, b"\x02" * 32, position.time + 1)
    store.commit([ChainAdvanced(world.chain.chain_id, alone, 1)])
    record = read_record(store, world.chain, 0)
    record = msgspec.structs.replace(record, followed=msgspec.structs.replace(record.followed, headers=(alone,)))
    found, _ = await rescan(record, lambda: nullcontext(store), world.chain, TOWER.address, 0, lambda: 0.5)
    assert kinds(found)[0] is DifferenceKind.POSITION_GONE
    store.close()


async def test_a_chain_node_that_is_behind_the_tower_is_no_judge(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    await cheated(world)
    store = opened(world)
    position = read_record(store, world.chain, 0).followed.position
    assert position is not None
    store.commit([ChainAdvanced(world.chain.chain_id, Header(position.number + 9, b"\x01" * 32, position.hash, 0))])
    with pytest.raises(ChainUnavailable, match="behind the tower"):
        await look(world, store)
    store.close()


async def test_a_chain_node_that_does_not_know_what_was_closed_is_not_waited_for_without_end(
    world: TowerWorld, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cheated(world)
    store = opened(world)

    async def knows_none(asked: Sequence[ChannelId]) -> list[None]:
        return [None for _ in asked]

    monkeypatch.setattr(world.chain, "channels", knows_none)
    began = trio.current_time()
    with pytest.raises(ExceptionGroup) as found:
        await look(world, store)
    assert found.group_contains(ChainUnavailable, match="out of step")
    assert PATIENCE <= trio.current_time() - began < 2 * PATIENCE
    store.close()


async def test_a_snapshot_reads_beside_the_owner_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"), open_snapshot(tmp_path / "none", SCHEMAS):
        pass
    store = open_store(tmp_path / "tower", SCHEMAS, owner="a tower")
    ours = Identity(TOWER.address, 5, MALLORY.address)
    store.commit([DirectoryClaimed(ours)])
    with open_snapshot(tmp_path / "tower", SCHEMAS) as source:
        store.commit([ChainAdvanced(5, Header(1, b"\x01" * 32, bytes(32), 9))])
        chain = FakeChain(5, MALLORY.address)
        assert account_of(source, chain, "here") == TOWER.address  # type: ignore[arg-type]
        with pytest.raises(StoreForeign):
            account_of(source, FakeChain(6, MALLORY.address), "here")  # type: ignore[arg-type]
        assert source.read(store.tables[1].rows()) == [], "of the moment at which it was opened"
    with pytest.raises(StoreVersion), open_snapshot(tmp_path / "tower", [CLIENT_SCHEMA]):
        pass
    store.close()


class FakeChain(msgspec.Struct):
    chain_id: int
    contract: bytes


async def test_a_tower_that_followed_nothing_has_nothing_to_compare(
    world: TowerWorld, autojump_clock: trio.testing.MockClock
) -> None:
    store = opened(world)
    with pytest.raises(InvalidInput, match="no block yet"):
        read_record(store, world.chain, 0)
    with pytest.raises(InvalidInput, match="no tower has run"):
        account_of(store, world.chain, "there")
    store.close()


def tally(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


async def test_the_command_says_in_words_what_differs_and_exits_with_one(tmp_path: Path) -> None:
    world = TowerWorld(tmp_path)
    data = world.house.directory
    async with trio.open_nursery() as nursery:
        urls, listening = list[str](), trio.Event()

        def started(url: str) -> None:
            urls.append(url)
            listening.set()

        nursery.start_soon(partial(serve_chain, world.chain, "127.0.0.1", 0, started=started))
        await listening.wait()
        await world.appointed()
        async with world.house.open() as (tower, _):
            await world.cheat()
            await tower.follower.wait_reached(world.chain.newest.header.number)
        store = opened(world)
        store.commit([DirectoryClaimed(Identity(TOWER.address, world.chain.chain_id, world.chain.contract))])
        words = ("tower", "rescan", "--data", str(data), "--chain", urls[0])

        async def ask(*more: str) -> Any:
            return await trio.to_thread.run_sync(partial(tally, *words, *more))

        found = await ask()
        assert found.exit_code == 0 and "The tower knows what the chain shows." in found.output, found.output
        refused = await ask("--repair")
        assert refused.exit_code == 1 and "is in use by a test" in refused.output
        store.commit(forget(world))
        found = await ask("--json")
        assert found.exit_code == 1
        told = json.loads(found.output)
        assert told["held"] == 0 and told["found"] == 1 and told["differences"][0]["kind"] == "dispute-unknown"
        store.close()
        found = await ask("--repair")
        assert found.exit_code == 1 and "was closed in block" in found.output and "repaired      1" in found.output
        found = await ask()
        assert found.exit_code == 0, found.output
        nursery.cancel_scope.cancel()
    world.store.close()
