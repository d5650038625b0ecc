"""`tally bench chain`: its client, its books, and (in `make soak`) all three chains for real."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import trio
from rich.console import Console

from tallystick.sdk.bench.chain import ChainResult, ChainRow, Transfers, chain_table, run_chain
from tallystick.sdk.bench.chain_subjects import CHAIN_ID, LedgerSubject, cpu_seconds
from tallystick.sdk.bench.raw_rpc import RawClient, RpcRefused, open_raw
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum.transactions import decode_transaction, transaction_hash
from tallystick.settlement.go_programs import COMETBFT
from tallystick.settlement.simulated.branch import ADJUDICATOR, ChainSettings
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.rpc_server import serve_chain


async def test_a_chain_of_ours_is_counted_and_looked_at_over_the_raw_client() -> None:
    transfers = Transfers(1)
    mints = [Mint(account, bytes(20), 10**9) for account in transfers.addresses()]  # type: ignore[arg-type]
    chain = SimulatedChain(ChainSettings(chain_id=CHAIN_ID), lambda: 1_000, genesis=mints)
    urls: list[str] = []
    async with trio.open_nursery() as nursery:
        up = trio.Event()

        def started(url: str) -> None:
            urls.append(url)
            up.set()

        nursery.start_soon(lambda: serve_chain(chain, "127.0.0.1", 0, started=started))
        await up.wait()
        subject = LedgerSubject("one node", urls, [], [])
        async with open_raw(urls[0]) as door, open_raw(urls[0]) as other:
            assert await subject.count(other) == 0
            source = transfers.of_task(0)
            raws = [next(source) for _ in range(3)]
            for raw in raws:
                await subject.hand_in(door, raw)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(subject.wait_shown, other, raws[2], transaction_hash(raws[2]))
                await trio.testing.wait_all_tasks_blocked(0.05)
                chain.mine()
            assert await subject.count(other) == 3 == await subject.count(other)
            chain.mine()
            assert await subject.count(other) == 3
            with pytest.raises(RpcRefused, match="no transaction"):
                await subject.hand_in(door, b"\2junk")
        nursery.cancel_scope.cancel()


def test_transfers_are_in_order_of_each_account_and_signed_once() -> None:
    transfers = Transfers(2)
    source = transfers.of_task(1)
    found = [decode_transaction(next(source), CHAIN_ID) for _ in range(24)]
    assert [each.nonce for each in found] == [0] * 8 + [1] * 8 + [2] * 8
    assert len({each.sender for each in found}) == 8 and found[0].envelope.to != ADJUDICATOR
    assert transfers.transfer(3, 0) is transfers.transfer(3, 0)
    single = decode_transaction(next(transfers.singles()), CHAIN_ID)
    assert single.sender not in {decode_transaction(transfers.transfer(at, 0), CHAIN_ID).sender for at in range(16)}
    with pytest.raises(TransactionRefused):
        decode_transaction(next(transfers.singles()), CHAIN_ID + 1)


async def test_an_answer_that_is_cut_or_has_no_length_is_told() -> None:
    for said in (b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"):
        ours, theirs = trio.testing.memory_stream_pair()
        client = RawClient(ours, "x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_void, client)
            await theirs.receive_some()
            await theirs.send_all(said)
            await theirs.send_eof()


async def _expect_void(client: RawClient) -> None:
    with pytest.raises(MeasurementVoid):
        await client.ask("m", [])


def test_a_process_that_is_gone_is_told() -> None:
    with pytest.raises(MeasurementVoid):
        cpu_seconds([2**22 + 1])


def test_the_table_shows_each_row() -> None:
    figures = {"p50_ms": 150.0, "p99_ms": 300.0, "samples": 9, "per_second": 1_234.0, "transactions": 9}
    row = ChainRow(
        interval=0.5, chain="validators", validators=4, ledger_us=3.0, engine_us=2.0, client_us=1.0, **figures
    )
    result = ChainResult(control=1.9, validators=4, seconds=6, rows=[row])
    out = StringIO()
    Console(file=out, width=160).print(chain_table(result))
    assert "1,234" in out.getvalue() and "1.90 of 2" in out.getvalue()
    assert result.row("validators", 0.5) is row


@pytest.mark.soak
@pytest.mark.processes
@pytest.mark.skipif(COMETBFT.find() is None, reason=COMETBFT.missing)
async def test_all_three_chains_are_measured(tmp_path: Path) -> None:
    result = await run_chain(2, [0.1], 1.0, str(tmp_path), lambda text: None, tasks=4)
    assert [row.chain for row in result.rows] == ["kvstore", "validators", "one node"]
    for row in result.rows:
        assert row.samples and row.transactions and 0 < row.p50_ms <= row.p99_ms and row.per_second > 0
        assert (row.engine_us > 0) == (row.chain != "one node") and (row.ledger_us > 0) == (row.chain != "kvstore")
