"""Snapshots: who restores one goes on as all others do, and takes nothing that is not what the consensus agreed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.replicas import GENESIS, KEYS, application, transfer
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.replicated import snapshots as module
from tallystick.settlement.replicated.answers import answer
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.chain import ReplicatedChain
from tallystick.settlement.replicated.decision import ProposedBlock
from tallystick.settlement.replicated.engine_rpc import open_engine
from tallystick.settlement.replicated.schema import MESSAGES
from tallystick.settlement.replicated.snapshot_files import KEPT, SnapshotFolder
from tallystick.settlement.replicated.snapshots import (
    FORMAT,
    FrozenLedger,
    LedgerSnapshot,
    chunks_of,
    digest_of,
    read_snapshot,
)
from tallystick.settlement.replicated.validator import keep_snapshots
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.sqlite import SCHEMA

FAILING = sign_envelope(KEYS[1], 1337, Envelope(ADJUDICATOR, 0, b"none"), 0, 2, 2, 100_000)
"""Refused, with a sentence that no hash is over."""
POOL = [transfer(0, nonce, 1 + nonce) for nonce in range(6)]


def step(app: Application, *transactions: bytes) -> None:
    app.finalize(ProposedBlock(app.height + 1, 2_000 + 10 * app.height, transactions))
    app.commit()


def advanced(store: Any = None) -> Application:
    app = application(store)
    step(app, POOL[0])
    step(app, FAILING, POOL[1])
    return app


def cut(app: Application) -> tuple[LedgerSnapshot, list[bytes]]:
    chunks = list(chunks_of(app.freeze()))
    return LedgerSnapshot(app.height, tuple(map(digest_of, chunks))), chunks


def restored(app: Application, snapshot: LedgerSnapshot, chunks: list[bytes], app_hash: bytes) -> Application:
    assert app.offer(snapshot, app_hash)
    for index, chunk in enumerate(chunks):
        assert app.restore(index, chunk)
    return app


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(0, 4), st.integers(20, 2_000))
def test_who_restores_a_snapshot_computes_the_same_app_hashes_from_then_on(before: int, after: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", size)
        one, twin = application(), application()
        for app in (one, twin):
            for raw in POOL[:before]:
                step(app, raw)
        step(one, FAILING)
        step(twin, FAILING)
        snapshot, chunks = cut(one)
        assert cut(twin) == (snapshot, chunks), "two validators have other chunks of one block"
        new = restored(application(), snapshot, chunks, one.app_hash)
    assert (new.height, new.app_hash, new.root) == (one.height, one.app_hash, one.root)
    for raw in POOL[before : before + after]:
        step(one, raw)
        step(new, raw)
        assert new.app_hash == one.app_hash
    assert new.branch.world == one.branch.world and cut(new) == cut(one)
    assert all(new.branch.find(record.header.hash) == record for record in new.branch.records)
    new.branch.check_conservation()


def test_a_snapshot_is_of_its_block_though_the_chain_goes_on_meanwhile() -> None:
    app = advanced()
    frozen, expected, app_hash = app.freeze(), cut(app), app.app_hash
    step(app, POOL[2])
    chunks = list(chunks_of(frozen))
    assert chunks == expected[1]
    assert restored(application(), *expected, app_hash).app_hash == app_hash != app.app_hash


def test_a_wrong_chunk_is_asked_for_again_of_others_than_who_sent_it() -> None:
    app, new = advanced(), application()
    snapshot, chunks = cut(app)
    offered = MESSAGES["Snapshot"](
        height=snapshot.height, format=FORMAT, chunks=len(chunks), hash=snapshot.hash, metadata=snapshot.metadata
    )
    said = answer(new, "offer_snapshot", MESSAGES["RequestOfferSnapshot"](snapshot=offered, app_hash=app.app_hash))
    assert MESSAGES["Response"].FromString(said).offer_snapshot.result == 1
    root = new.root

    def apply(index: int, chunk: bytes) -> Any:
        request = MESSAGES["RequestApplySnapshotChunk"](index=index, chunk=chunk, sender="mallory")
        return MESSAGES["Response"].FromString(answer(new, "apply_snapshot_chunk", request)).apply_snapshot_chunk

    for index, wrong in ((0, chunks[1]), (0, chunks[0] + b"\0"), (1, b""), (7, chunks[0])):
        told = apply(index, wrong)
        assert (told.result, list(told.refetch_chunks), list(told.reject_senders)) == (3, [index], ["mallory"])
    assert apply(1, chunks[1]).result == 1 and new.root == root and new.height == 0, "it counts before it is whole"
    assert apply(0, chunks[0]).result == 1 and new.app_hash == app.app_hash


def test_chunks_that_no_ledger_is_cut_into_are_not_kept() -> None:
    huge = b"x" * (module.CHUNK_MAX + 1)
    app, new = advanced(), application()
    assert new.offer(LedgerSnapshot(3, (bytes(32), digest_of(huge))), app.app_hash)
    request = MESSAGES["RequestApplySnapshotChunk"](index=1, chunk=huge, sender="mallory")
    told = MESSAGES["Response"].FromString(answer(new, "apply_snapshot_chunk", request)).apply_snapshot_chunk
    assert told.result == 5, "the snapshot is not rejected"


def forged(app: Application, **changes: Any) -> tuple[LedgerSnapshot, list[bytes]]:
    frozen = app.freeze()
    head = replace(frozen.head, **{name: value for name, value in changes.items() if name != "world"})
    chunks = list(chunks_of(FrozenLedger(head, changes.get("world", frozen.world))))
    return LedgerSnapshot(app.height, tuple(map(digest_of, chunks))), chunks


def test_a_snapshot_that_is_not_what_was_agreed_on_is_refused_whole() -> None:
    app = advanced()
    honest = app.freeze()
    key = next(key for key in sorted(honest.world) if key[:1] == b"b")
    richer = {**honest.world, key: honest.world[key] + 1}  # type: ignore[operator]
    less = {other: value for other, value in honest.world.items() if other != key}
    words = replace(app.branch.newest)
    for snapshot, chunks in (
        forged(app, world=richer),
        forged(app, world=less),
        forged(app, history=bytes(32)),
        forged(app, record=app.branch.records[1]),
        forged(app, record=words),
        (LedgerSnapshot(7, cut(app)[0].digests), cut(app)[1]),
        (LedgerSnapshot(2, (digest_of(b"junk"),)), [b"junk"]),
        (LedgerSnapshot(2, (cut(app)[0].digests[0], digest_of(b"junk"))), [cut(app)[1][0], b"junk"]),
    ):
        new = application()
        root = new.root
        assert new.offer(snapshot, app.app_hash)
        with pytest.raises(InvalidInput):
            for index, chunk in enumerate(chunks):
                assert new.restore(index, chunk)
        assert new.height == 0 and new.root == root
        restored(new, *cut(app), app.app_hash)
    assert words.entries[0].execution.reason, "there was no sentence to leave out"


def test_what_is_no_offer_is_refused_before_anything_is_fetched() -> None:
    snapshot = LedgerSnapshot(5, (bytes(32), bytes(32)))
    right = (5, FORMAT, 2, snapshot.hash, snapshot.metadata)
    assert read_snapshot(*right) == snapshot
    for at, wrong in ((0, 6), (0, 0), (1, 2), (2, 1), (2, 2**31), (3, bytes(32)), (4, bytes(65))):
        with pytest.raises(InvalidInput):
            read_snapshot(*(wrong if index == at else each for index, each in enumerate(right)))  # type: ignore[arg-type]
    request = MESSAGES["RequestOfferSnapshot"](snapshot=MESSAGES["Snapshot"](height=1, format=9))
    assert MESSAGES["Response"].FromString(answer(application(), "offer_snapshot", request)).offer_snapshot.result == 3


def test_a_ledger_that_executed_blocks_takes_no_snapshot() -> None:
    app = advanced()
    snapshot, chunks = cut(app)
    assert not advanced().offer(snapshot, app.app_hash)
    new = restored(application(), snapshot, chunks, app.app_hash)
    assert new.offer(snapshot, app.app_hash), "the engine did not hear that it was whole, and begins again"
    step(new)
    assert not new.offer(snapshot, app.app_hash)
    with pytest.raises(InvalidInput):
        application().restore(0, chunks[0])


def test_a_crash_while_a_snapshot_comes_leaves_nothing_half(tmp_path: Path) -> None:
    app = advanced()
    snapshot, chunks = cut(app)
    assert len(chunks) == 2
    for taken in (0, 1, 2):
        store = open_store(tmp_path, [SCHEMA], owner="test")
        new = application(store)
        assert new.height == 0 and new.app_hash == application().app_hash
        assert new.offer(snapshot, app.app_hash)
        for index in range(taken):
            assert new.restore(index, chunks[index])
        store.close()
    store = open_store(tmp_path, [SCHEMA], owner="test")
    again = application(store)
    assert (again.height, again.app_hash) == (2, app.app_hash) and again.branch.first == 2
    step(again, POOL[2])
    step(app, POOL[2])
    store.close()
    store = open_store(tmp_path, [SCHEMA], owner="test")
    last = application(store)
    assert last.app_hash == app.app_hash and cut(last) == cut(app)
    store.close()


async def test_what_was_before_the_snapshot_is_refused_with_a_sentence() -> None:
    app = advanced()
    async with open_engine(Path("nowhere")) as engine:
        chain = ReplicatedChain(GENESIS, engine, bytes)
        restored(chain.application, *cut(app), app.app_hash)
        for ask in (lambda: chain.slice(0, 5), lambda: chain.record(1)):
            with pytest.raises(InvalidInput, match="began with a snapshot of block 2"):
                ask()
        assert chain.record(2) is not None and chain.record(3) is None and len(chain.slice(2, 5)) == 1
        (_, second) = app.branch.newest.entries
        receipt = await chain.receipt(second.hash)
        assert receipt is not None and receipt.success and receipt.block.number == 2
        assert await chain.told(second.hash) == ()
        assert await chain.receipt(app.branch.records[1].entries[0].hash) is None
        assert await chain.balance(KEYS[0].address, NATIVE) == app.branch.state.number(b"b" + NATIVE + KEYS[0].address)


async def test_a_folder_of_snapshots_holds_whole_ones_alone_and_the_newest(tmp_path: Path) -> None:
    app = advanced()
    folder = SnapshotFolder(tmp_path / "snapshots")
    made = await folder.keep(app.freeze())
    assert made == cut(app)[0] == folder.snapshots()[0]
    assert [folder.load(2, index) for index in (0, 1, 2)] == [*cut(app)[1], b""]
    (tmp_path / "snapshots" / "unfinished-9").mkdir()
    (tmp_path / "snapshots" / "unfinished-9" / "0").write_bytes(b"half")
    again = SnapshotFolder(tmp_path / "snapshots")
    assert again.snapshots() == (made,) and not (tmp_path / "snapshots" / "unfinished-9").exists()
    (tmp_path / "snapshots" / "2" / "0").write_bytes(b"damaged")
    assert again.load(2, 0) == b"" and again.load(3, 0) == b""
    for _ in range(KEPT):
        step(app)
        await again.keep(app.freeze())
    assert [each.height for each in again.snapshots()] == [3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == ["3", "4", "5"]


async def test_a_validator_goes_on_where_its_disk_takes_no_snapshot(tmp_path: Path) -> None:
    app, said = advanced(), list[str]()
    folder = SnapshotFolder(tmp_path / "snapshots")
    (tmp_path / "snapshots").write_text("no folder")
    give, taken = trio.open_memory_channel[FrozenLedger](2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_snapshots, folder, taken, said.append)
        give.send_nowait(app.freeze())
        await trio.testing.wait_all_tasks_blocked()
        assert len(said) == 1 and "a snapshot was not kept" in said[0]
        (tmp_path / "snapshots").unlink()
        give.send_nowait(app.freeze())
        give.close()
    assert len(said) == 1 and len(folder.snapshots()) == 1


def test_snapshots_are_listed_and_given_out_as_the_engine_asks() -> None:
    app = advanced()
    snapshot, chunks = cut(app)

    class Shelf:
        def snapshots(self) -> tuple[LedgerSnapshot, ...]:
            return (snapshot,)

        def load(self, height: int, index: int) -> bytes:
            return chunks[index] if height == 2 else b""

    app.shelf = Shelf()
    said = MESSAGES["Response"].FromString(answer(app, "list_snapshots", MESSAGES["RequestListSnapshots"]()))
    (listed,) = said.list_snapshots.snapshots
    assert read_snapshot(listed.height, listed.format, listed.chunks, listed.hash, listed.metadata) == snapshot
    for form, expected in ((FORMAT, chunks[1]), (2, b"")):
        request = MESSAGES["RequestLoadSnapshotChunk"](height=2, format=form, chunk=1)
        said = MESSAGES["Response"].FromString(answer(app, "load_snapshot_chunk", request))
        assert said.load_snapshot_chunk.chunk == expected
    assert msgspec.json.encode(GENESIS.written())
