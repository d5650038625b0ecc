"""Both implementations of `Chain`, in process and over JSON-RPC, keep one and the same contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from simulation.disputes import PERIOD, ChannelFixture
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId
from tallystick.settlement.chain import (
    ApproveCall,
    Call,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.errors import Refusal, Revert, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.port import Chain
from tallystick.settlement.simulated.rpc_server import serve_chain
from tallystick.settlement.testing.local import LocalChain

CAROL = PrivateKey(keccak(b"carol"))
FIXTURE = ChannelFixture()
ONE, TWO = FIXTURE.keys
TOKEN = Address(b"\x70" * 20)
START = 10**12

Open = Callable[[], AbstractAsyncContextManager[tuple[LocalChain, Chain]]]


def local() -> LocalChain:
    return LocalChain(funds={ONE.address: START, TWO.address: START})


@asynccontextmanager
async def in_process() -> AsyncIterator[tuple[LocalChain, Chain]]:
    chain = local()
    yield chain, chain


@asynccontextmanager
async def over_rpc() -> AsyncIterator[tuple[LocalChain, Chain]]:
    chain = local()
    urls: list[str] = []
    listening, stop = trio.Event(), trio.Event()

    def started(url: str) -> None:
        urls.append(url)
        listening.set()

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await serve_chain(chain, "127.0.0.1", 0, started=started, stop=stop.wait)

        nursery.start_soon(serve)
        await listening.wait()
        at = Deployment(chain.chain_id, chain.contract)
        async with open_rpc_chain(urls[0], jitter=lambda: 0.0, expected=at) as client:
            yield chain, client
        stop.set()


both = pytest.mark.parametrize("opened", [in_process, over_rpc])


async def act(chain: LocalChain, key: PrivateKey, call: Call) -> None:
    receipt = await chain.call(key, call)
    assert receipt.success, receipt.reason


async def story(chain: LocalChain) -> None:
    """Bring every event and every status about."""
    chain.fund(ONE.address, 1_000, TOKEN)
    await act(chain, ONE, OpenCall(FIXTURE.terms, 100))
    await act(chain, TWO, DepositCall(FIXTURE.id, 1, 50))
    await act(chain, ONE, FIXTURE.withdrawal(0, 10, 2**40))
    await act(chain, ONE, RegisterSecretCall(b"s" * 32))
    await act(chain, ONE, ApproveCall(TOKEN, 10))
    await act(chain, ONE, TransferCall(TOKEN, TWO.address, 5))
    await act(chain, ONE, FIXTURE.close())
    await act(chain, TWO, FIXTURE.challenge(FIXTURE.proof(1, 1, 4, seen=0), tower=CAROL.address, victim=1))
    chain.advance(PERIOD + 1)
    await act(chain, TWO, SettleCall(FIXTURE.id))


@both
async def test_identity_head_headers_and_blocks_agree(opened: Open) -> None:
    async with opened() as (local, chain):
        await story(local)
        assert (chain.chain_id, chain.contract) == (local.chain_id, local.contract)
        head = await chain.head()
        assert head == local.newest.header
        assert await chain.header(head.number) == head
        assert await chain.header(head.number + 1) is None
        assert await chain.header(0) == (await chain.blocks(0, 1))[0].header
        blocks = await chain.blocks(0, 500)
        assert [block.header.number for block in blocks] == list(range(head.number + 1))
        assert all(after.header.parent == before.header.hash for before, after in pairwise(blocks))
        assert blocks == await local.blocks(0, 500)
        assert await chain.blocks(head.number + 1, 5) == ()
        assert await chain.blocks(2, 3) == blocks[2:5]
        kinds = {type(event).__name__ for block in blocks for event in block.events}
        assert kinds == {
            "ChannelOpened",
            "Deposited",
            "Withdrawn",
            "SecretRegistered",
            "Closed",
            "Challenged",
            "Settled",
        }


@both
async def test_state_is_that_of_the_head(opened: Open) -> None:
    async with opened() as (local, chain):
        await story(local)
        seen = await chain.channel(FIXTURE.id)
        assert seen is not None and seen == await local.channel(FIXTURE.id)
        assert (seen.status, seen.convicted, seen.closer) == (3, True, 0)
        assert await chain.channel(ChannelId(ZERO32)) is None
        assert await chain.channel_count(ONE.address, TWO.address, NATIVE) == 1
        assert await chain.channel_count(ONE.address, TWO.address, TOKEN) == 0
        assert await chain.secret_time(digest_of(b"s" * 32)) == await local.secret_time(digest_of(b"s" * 32))
        assert await chain.secret_time(digest_of(b"s" * 32)) is not None
        assert await chain.secret_time(ZERO32) is None
        assert await chain.balance(TWO.address, TOKEN) == 5
        assert await chain.balance(CAROL.address, NATIVE) > 0
        assert await chain.balance(ONE.address, NATIVE) == await local.balance(ONE.address, NATIVE)
        assert await chain.nonce(ONE.address) == await local.nonce(ONE.address) > 0


@both
async def test_an_open_channel_shows_no_closer_and_a_settled_one_its_pots(opened: Open) -> None:
    async with opened() as (local, chain):
        await act(local, ONE, OpenCall(FIXTURE.terms, 100))
        seen = await chain.channel(FIXTURE.id)
        assert seen is not None and seen.closer is None and seen.deadline is None and seen.status == 0
        assert seen.terms == FIXTURE.terms and channel_id(seen.terms) == FIXTURE.id


@both
async def test_a_transaction_goes_from_submission_to_its_receipt(opened: Open) -> None:
    async with opened() as (local, chain):
        price = await chain.fee_price()
        raw = sign_call(ONE, chain.chain_id, chain.contract, TransferCall(NATIVE, CAROL.address, 9), 0, price)
        hash = await chain.submit(raw)
        assert await chain.submit(raw) == hash
        assert await chain.receipt(hash) is None
        header = local.mine()
        receipt = await chain.receipt(hash)
        assert receipt is not None and receipt == await local.receipt(hash)
        assert (receipt.transaction, receipt.block, receipt.success, receipt.reason) == (hash, header, True, "")
        assert receipt.fee > 0


@both
async def test_a_failed_call_has_a_receipt_with_code_and_sentence(opened: Open) -> None:
    async with opened() as (local, chain):
        failed = await local.call(ONE, RedeemCall(FIXTURE.id, 0, ()))
        receipt = await chain.receipt(failed.transaction)
        assert receipt == failed
        assert receipt is not None and not receipt.success and receipt.revert is Revert.UNKNOWN_CHANNEL


@both
@pytest.mark.parametrize(
    ("nonce", "price", "amount", "code"),
    [
        (0, 0, 1, Refusal.UNDERPRICED),
        (99, 1, 1, Refusal.NONCE_TOO_HIGH),
        (0, 1, START, Refusal.INSUFFICIENT_FUNDS),
    ],
)
async def test_refusals_keep_their_code(opened: Open, nonce: int, price: int, amount: int, code: Refusal) -> None:
    async with opened() as (_, chain):
        call = TransferCall(NATIVE, CAROL.address, amount)
        with pytest.raises(TransactionRefused) as caught:
            await chain.submit(sign_call(ONE, chain.chain_id, chain.contract, call, nonce, price))
        assert caught.value.code is code


@both
async def test_waiting_ends_when_the_head_changes_also_by_a_reorganisation(opened: Open) -> None:
    async with opened() as (local, chain):
        local.mine()
        for change in (local.mine, lambda: local.reorganise(1)):
            known = (await chain.head()).hash
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chain.wait, known)
                await trio.testing.wait_all_tasks_blocked(0.01)
                change()
            assert (await chain.head()).hash != known
        with trio.fail_after(5):
            await chain.wait(ZERO32)


@both
async def test_a_receipt_goes_away_with_its_block(opened: Open) -> None:
    async with opened() as (local, chain):
        receipt = await local.call(ONE, RegisterSecretCall(b"s" * 32))
        local.reorganise(1, keep=lambda transaction: False)
        assert await chain.receipt(receipt.transaction) is None
        assert await chain.secret_time(digest_of(b"s" * 32)) is None
        assert await chain.head() == local.newest.header
