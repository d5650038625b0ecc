"""Whose a data directory is, and that one process uses it: no deleted file, and no copy, lets a second one in."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from simulation.rows import sql
from simulation.tower_house import Pair
from tallystick.channels.errors import StoreError, StoreForeign, StoreInUse
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.directory import hold_identity, lock_directory
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.running import open_node
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.settlement.chain import Closed, Header
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.sqlite import SCHEMA as LEDGER
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.daemon import run_tower
from tallystick.watchtower.disputes import DisputeEvent
from tallystick.watchtower.schema import DisputeSeen, said_by_tower
from tallystick.watchtower.sqlite import SCHEMAS as TOWER_SCHEMAS

ALICE, BOB, CAROL = (PrivateKey(keccak(name)) for name in (b"alice", b"bob", b"carol"))
PATIENCE = 20


def test_a_removed_lock_file_lets_no_second_process_in(tmp_path: Path) -> None:
    with lock_directory(tmp_path, "the first"):
        (tmp_path / "lock").unlink()
        with pytest.raises(StoreInUse, match="its file `lock` was removed"):
            lock_directory(tmp_path, "the second")
        (tmp_path / "lock").unlink()
        with pytest.raises(StoreInUse, match="in use"):
            open_store(tmp_path, [LEDGER], owner="a third")
    lock_directory(tmp_path, "the second").close()


def test_a_moved_directory_is_still_held(tmp_path: Path) -> None:
    with lock_directory(tmp_path / "data", "the first"):
        (tmp_path / "data").rename(tmp_path / "moved")
        with pytest.raises(StoreInUse, match="the first"):
            lock_directory(tmp_path / "moved", "the second")


def test_what_is_no_directory_or_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path / "file", [LEDGER], owner="test")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path / "file" / "below", [LEDGER], owner="test")


def test_of_two_copies_of_a_directory_at_most_one_may_run_on_a_machine() -> None:
    alice, bob = (Identity(key.address, 1337, Address(bytes(20))) for key in (ALICE, BOB))
    with hold_identity("node of a test", alice), hold_identity("node of a test", bob), hold_identity("tower", alice):
        refused = pytest.raises(StoreInUse, match=f"process [0-9]+ of this machine .* 0x{ALICE.address.hex()}")
        with refused, hold_identity("node of a test", alice):
            raise AssertionError("two processes are one node")
    with hold_identity("node of a test", alice):
        pass


@asynccontextmanager
async def a_chain(chain_id: int = 1337) -> AsyncIterator[LocalChain]:
    settings = ChainSettings(dev=True, interval=0.02, chain_id=chain_id)
    chain = LocalChain(funds={key.address: 10**18 for key in (ALICE, BOB, CAROL)}, settings=settings)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run)
            yield chain
            nursery.cancel_scope.cancel()


def forget_whose(directory: Path) -> None:
    """Make the directory one of version 0.1.0, which did not remember whose it was."""
    with sqlite3.connect(directory / "tally.db") as database:
        database.execute("DROP TABLE identity")
        database.execute("DELETE FROM schemas WHERE name IN ('identity', '')")
    database.close()


async def pay_once(alice: Node, bob: Node) -> None:
    channel = await alice.open_channel(str(bob.listening), deposit=1_000_000)
    await channel.pay(5)


async def test_a_directory_refuses_another_key_chain_and_contract_and_harms_no_channel(
    tmp_path: Path,
) -> None:
    async with a_chain() as chain, open_node(tmp_path / "bob", key=BOB, chain=chain) as bob:
        async with open_node(tmp_path / "alice", key=ALICE, chain=chain) as alice:
            await pay_once(alice, bob)
        for old in (False, True):
            if old:
                forget_whose(tmp_path / "alice")
            with pytest.raises(StoreForeign, match=f"0x{ALICE.address.hex()}, and this is the key 0x"):
                async with open_node(tmp_path / "alice", key=CAROL, chain=chain):
                    raise AssertionError("another key was let in")
            async with a_chain(5) as other:
                with pytest.raises(StoreForeign, match="chain of id 1337, and this is the chain of id 5"):
                    async with open_node(tmp_path / "alice", key=ALICE, chain=other):
                        raise AssertionError("another chain was let in")
        async with open_node(tmp_path / "alice", key=ALICE, chain=chain) as alice:
            assert [channel.phase for channel in alice.channels] == [Phase.OPEN]
            await alice.until(lambda: alice.channels[0].connected)
            await alice.channels[0].pay(5)
    store = open_store(tmp_path / "alice", SCHEMAS, owner="test")
    assert sql(store, "SELECT account, chain_id, contract FROM identity") == [(ALICE.address, "1337", chain.contract)]
    store.close()


def test_a_directory_of_another_kind_of_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    for name, schemas in (("node", SCHEMAS), ("tower", TOWER_SCHEMAS), ("chain", [LEDGER])):
        open_store(tmp_path / name, schemas, owner="test").close()
    for name, schemas in (("node", TOWER_SCHEMAS), ("node", [LEDGER]), ("tower", SCHEMAS), ("chain", SCHEMAS)):
        before = (tmp_path / name / "tally.db").read_bytes()
        with pytest.raises(StoreForeign, match="does not know"):
            open_store(tmp_path / name, schemas, owner="test")
        assert (tmp_path / name / "tally.db").read_bytes() == before


def test_a_tower_finds_out_whose_its_old_directory_is(tmp_path: Path) -> None:
    ours = Identity(ALICE.address, 1337, Address(bytes(20)))
    pair = Pair(BOB, CAROL, chain_id=1337, contract=Address(bytes(20)))
    store = open_store(tmp_path, TOWER_SCHEMAS, owner="test")
    closed = Closed(pair.channel, 0, 1, 1, pair.close_key, 90)
    store.commit([DisputeSeen(pair.channel, pair.terms, 0, DisputeEvent(Header(7, bytes(32), bytes(32), 70), closed))])
    for other in (Identity(ALICE.address, 5, ours.contract), Identity(ALICE.address, 1337, Address(b"\1" * 20))):
        with pytest.raises(StoreForeign):
            claim_directory(store, other, said_by_tower(store), "here")
    claim_directory(store, ours, said_by_tower(store), "here")
    with pytest.raises(StoreForeign, match="belongs to the key"):
        claim_directory(store, Identity(BOB.address, 1337, ours.contract), said_by_tower(store), "here")
    store.close()


async def test_a_node_that_is_to_be_the_only_one_does_not_run_beside_a_copy(tmp_path: Path) -> None:
    async with a_chain() as chain:
        async with open_node(tmp_path / "alice", key=ALICE, chain=chain, sole=True):
            shutil.copytree(tmp_path / "alice", tmp_path / "copy")
            with pytest.raises(StoreInUse, match="of this machine is the node of the key"):
                async with open_node(tmp_path / "copy", key=ALICE, chain=chain, sole=True):
                    raise AssertionError("two nodes of one key run")
            async with open_node(tmp_path / "bob", key=BOB, chain=chain, sole=True):
                pass
        async with open_node(tmp_path / "copy", key=ALICE, chain=chain, sole=True):
            pass


async def test_a_tower_runs_with_its_own_data_only_and_beside_no_copy_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_chain() as chain, trio.open_nursery() as nursery:

        @asynccontextmanager
        async def answered(*arguments: object) -> AsyncIterator[LocalChain]:
            yield chain

        monkeypatch.setattr("tallystick.watchtower.daemon._patient_chain", answered)

        async def tower(name: str, key: PrivateKey, started: trio.Event) -> None:
            await run_tower(
                tmp_path / name,
                key,
                chain_url="http://127.0.0.1:1",
                host="127.0.0.1",
                port=0,
                ready=lambda status: started.set(),
                alarm=lambda alarm: None,
            )

        async def refused(name: str, key: PrivateKey) -> str:
            with pytest.RaisesGroup(StoreError, flatten_subgroups=True, allow_unwrapped=True) as error:
                with trio.fail_after(5):
                    await tower(name, key, trio.Event())
            return str(error.value) if isinstance(error.value, StoreError) else str(error.value.exceptions[0])

        started = trio.Event()
        nursery.start_soon(tower, "tower", CAROL, started)
        await started.wait()
        shutil.copytree(tmp_path / "tower", tmp_path / "copy")
        assert "of this machine is the tower of the key" in await refused("copy", CAROL)
        assert f"belongs to the key 0x{CAROL.address.hex()}" in await refused("copy", ALICE)
        nursery.cancel_scope.cancel()
