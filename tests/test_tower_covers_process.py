"""A bond with real processes: a chain and a tower that is killed, a client over TCP, and an accusation that is paid."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio
from test_tower_process import start, stop

from simulation.tower_house import Pair
from tallystick.channels.ports import Entropy, PeerAddress, system_clock, system_entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.transport.links import TcpNetwork
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.chain import Call, CloseCall, DepositCall, OpenCall
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.modules.towers import TOWERS
from tallystick.watchtower.cover_schema import SignedCover
from tallystick.watchtower.covering import CoverClient, find_broken
from tallystick.watchtower.errors import CoverRefused
from tallystick.watchtower.fetching import ask
from tallystick.watchtower.ledger_registry import accuse_call, reserve_call
from tallystick.watchtower.messages import VERSION, TowerReceipt, Upload
from tallystick.watchtower.sealing import BLOB_SIZE
from tallystick.watchtower.sqlite import CLIENT_COVERS_SCHEMA

ALICE, MALLORY, CAROL = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))
TOWER_HEX = "07" * 32
BOND, COVER = 10**6, 10**5


async def done(chain: RpcChain, key: PrivateKey, call: Call) -> None:
    """Make a call, and have it mined."""
    nonce, price = await chain.nonce(key.address), await chain.fee_price()
    sent = await chain.submit((await chain.sign(key, call, nonce, price)).raw)
    await chain.mine()
    receipt = await chain.receipt(sent)
    assert receipt is not None and receipt.success, receipt


async def covered(client: CoverClient, pair: Pair, until: int) -> SignedCover:
    """Ask for a cover until the tower has caught up with its chain."""
    while True:
        try:
            return await client.ask_cover(pair.terms, COVER, until, price_max=COVER)
        except CoverRefused as refused:
            assert "promises nothing now" in str(refused), refused


async def story(chain: RpcChain, at: PeerAddress, store: SqliteStore) -> Pair:
    """Open a channel, give the tower an appointment, and have it promise under a cover; Mallory will close."""
    pair = Pair(ALICE, MALLORY, chain_id=chain.chain_id, contract=chain.contract)
    first, second = pair.keys
    for key in (ALICE, MALLORY, CAROL):
        await chain.mint(key.address, 10**18)
    await chain.mine()
    await done(chain, first, OpenCall(pair.terms, 1_000))
    await done(chain, second, DepositCall(pair.channel, 1, 1_000))

    async def commit(moments: object) -> None:
        await trio.lowlevel.checkpoint()
        store.commit(moments)  # type: ignore[arg-type]  # moments

    entropy: Entropy = system_entropy
    network = TcpNetwork(ALICE, entropy)
    link = await network.dial(at)
    answer: object = None
    while not isinstance(answer, TowerReceipt):  # refused until it has caught up
        (answer,) = await ask(link, [Upload(VERSION, b"l" * 32, 1, bytes(BLOB_SIZE))], 30)
    await link.aclose()
    client = CoverClient(
        party=ALICE.address,
        tower=at,
        network=network,
        store=store,
        commit=commit,
        clock=system_clock,
        chain_id=chain.chain_id,
        registry=TOWERS.address,
    )
    held = await covered(client, pair, int(system_clock()) + 10_000)
    await done(chain, CAROL, reserve_call(held))
    made = await client.ask_promise(held, pair.proof(0, 3, 5), pair.proof(1, 4, 6))
    while (await chain.head()).time < made.promise.since:
        await chain.mine()
    return pair


@pytest.mark.processes
def test_a_tower_that_is_killed_after_its_promise_pays_what_it_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(TOWER_HEX)
    (tmp_path / "key").chmod(0o600)
    tower = PrivateKey(bytes.fromhex(TOWER_HEX))
    chain_run = (
        "chain",
        "run",
        "--data",
        str(tmp_path / "chain"),
        "--port",
        "0",
        "--dev",
        "--interval",
        "3600",
        "--json",
    )
    chain_process, hello = start(*chain_run)
    words = (
        "tower",
        "run",
        "--data",
        str(tmp_path / "tower"),
        "--key-file",
        str(tmp_path / "key"),
        "--fee-reserve",
        "1",
    )
    more = ("--chain", hello["url"], "--listen", "127.0.0.1:0", "--cover-most", str(BOND), "--json")

    async def run() -> None:
        async with open_rpc_chain(hello["url"], jitter=lambda: 0.5) as chain:
            await chain.mint(tower.address, 10**18)
            await chain.mine()
            await done(chain, tower, write_call("towers", "bond", [BOND], value=BOND))
            process, first = await trio.to_thread.run_sync(lambda: start(*words, *more))
            store = open_store(tmp_path / "alice", [CLIENT_COVERS_SCHEMA], owner="alice", durable=False)
            try:
                pair = await story(chain, PeerAddress.parse(first["status"]["peer_address"]), store)
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                await done(chain, MALLORY, CloseCall(pair.channel, None, None, pair.close_key))
                await chain.mine(700)
                view, head = await chain.channel(pair.channel), await chain.head()
                assert view is not None
                (broken,) = find_broken(store, view, pair.channel, head.time)
                before = await chain.balance(ALICE.address, NATIVE)
                await done(chain, CAROL, accuse_call(broken))
                assert await chain.balance(ALICE.address, NATIVE) == before + COVER
                said = await LedgerAccount(chain, CAROL).read("towers", "tower", [tower.address])
                assert (said["bond"], said["reserved"]) == (BOND + COVER // 100 - COVER, 0)
            finally:
                process.kill()
                store.close()

    try:
        trio.run(run)
    finally:
        stop(chain_process)
