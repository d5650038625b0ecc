"""The simulated chain: nonces, fees, ordering, reorganisations, knobs, restart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, Terms
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.settlement.chain import (
    ApproveCall,
    ChannelOpened,
    DepositCall,
    Deposited,
    OpenCall,
    RegisterSecretCall,
    TransferCall,
)
from tallystick.settlement.errors import Refusal, Revert, TransactionRefused
from tallystick.settlement.ethereum.transactions import GAS, sign_call
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import MINER, Mint
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.testing.local import LocalChain

ALICE = PrivateKey(keccak(b"alice"))
BOB = PrivateKey(keccak(b"bob"))
CAROL = PrivateKey(keccak(b"carol"))
TOKEN = Address(b"\x70" * 20)
TRANSFER_GAS = GAS[TransferCall]
START = 10**12


def pay(to: PrivateKey, amount: int = 1) -> TransferCall:
    return TransferCall(NATIVE, to.address, amount)


def new_chain(**more: object) -> LocalChain:
    return LocalChain(funds={ALICE.address: START, BOB.address: START}, **more)  # type: ignore[arg-type]


def terms_between(chain: SimulatedChain, asset: Address = NATIVE, number: int = 0) -> Terms:
    first, second = sorted((ALICE.address, BOB.address))
    return Terms(chain.chain_id, chain.contract, (first, second), asset, number, 600, keccak(b"k" * 32))


async def test_a_transfer_moves_the_amount_and_pays_the_fee_to_the_miner() -> None:
    chain = new_chain()
    receipt = await chain.call(ALICE, pay(CAROL, 500))
    assert receipt.success and receipt.reason == ""
    assert receipt.fee == TRANSFER_GAS
    assert await chain.balance(CAROL.address, NATIVE) == 500
    assert await chain.balance(ALICE.address, NATIVE) == START - 500 - receipt.fee
    assert await chain.balance(MINER, NATIVE) == receipt.fee
    chain.check_conservation()


async def test_a_failed_call_changes_nothing_but_nonce_and_fee_and_its_receipt_says_why() -> None:
    chain = new_chain()
    assert (await chain.call(ALICE, RegisterSecretCall(b"s" * 32))).success
    before = await chain.balance(ALICE.address, NATIVE)
    receipt = await chain.call(ALICE, RegisterSecretCall(b"s" * 32))
    assert not receipt.success
    assert receipt.revert is Revert.ALREADY_REGISTERED
    assert await chain.nonce(ALICE.address) == 2
    assert await chain.balance(ALICE.address, NATIVE) == before - receipt.fee
    assert (await chain.blocks(receipt.block.number, 1))[0].events == ()


async def test_a_token_deposit_needs_an_allowance_and_uses_it_up() -> None:
    chain = new_chain()
    chain.fund(ALICE.address, 1_000, TOKEN)
    terms = terms_between(chain, TOKEN)
    side = terms.side_of(ALICE.address)
    refused = await chain.call(ALICE, OpenCall(terms, 300))
    assert refused.revert is Revert.INSUFFICIENT_ALLOWANCE
    assert (await chain.call(ALICE, ApproveCall(TOKEN, 400))).success
    opened = await chain.call(ALICE, OpenCall(terms, 300))
    block = (await chain.blocks(opened.block.number, 1))[0]
    assert block.events == (ChannelOpened(channel_id(terms), terms), Deposited(channel_id(terms), side, 300))
    more = await chain.call(ALICE, DepositCall(channel_id(terms), side, 200, TOKEN))
    assert more.revert is Revert.INSUFFICIENT_ALLOWANCE
    assert (await chain.call(ALICE, DepositCall(channel_id(terms), side, 100, TOKEN))).success
    seen = await chain.channel(channel_id(terms))
    assert seen is not None and seen.deposits[side] == 400 and seen.status == 0
    assert await chain.balance(ALICE.address, TOKEN) == 600
    assert await chain.channel_count(BOB.address, ALICE.address, TOKEN) == 1
    chain.check_conservation()


async def test_dearer_transactions_come_first_but_each_account_in_order_of_nonce() -> None:
    chain = new_chain()
    cheap_first = await chain.send(ALICE, pay(CAROL), price=2)
    dear_second = await chain.send(ALICE, pay(CAROL), price=90)
    middle = await chain.send(BOB, pay(CAROL), price=5)
    chain.mine()
    assert [entry.hash for entry in chain.newest.entries] == [middle, cheap_first, dear_second]


async def test_transactions_beyond_the_gas_limit_wait_and_raise_the_suggested_price() -> None:
    chain = new_chain(settings=ChainSettings(gas_limit=2 * TRANSFER_GAS, dev=True))
    waiting = [await chain.send(ALICE, pay(CAROL), price=7) for _ in range(5)]
    assert await chain.fee_price() == 8
    chain.mine()
    assert [entry.hash for entry in chain.newest.entries] == waiting[:2]
    chain.mine(2)
    assert chain.waiting() == ()
    assert await chain.fee_price() == 1


async def test_a_nonce_gap_waits_until_it_is_filled() -> None:
    chain = new_chain()
    later = await chain.send(ALICE, pay(CAROL), nonce=1)
    chain.mine()
    assert await chain.receipt(later) is None
    await chain.send(ALICE, pay(CAROL), nonce=0)
    chain.mine()
    assert await chain.receipt(later) is not None


async def test_congestion_holds_back_what_offers_no_more_than_others() -> None:
    chain = new_chain()
    chain.congest(50)
    stuck = await chain.send(ALICE, pay(CAROL), price=50)
    assert await chain.fee_price() == 51
    chain.mine()
    assert await chain.receipt(stuck) is None
    replaced = await chain.send(ALICE, pay(CAROL), price=55, nonce=0)
    chain.mine()
    assert await chain.receipt(replaced) is not None
    assert await chain.receipt(stuck) is None and chain.waiting() == ()


async def test_censored_transactions_wait_until_the_censor_gives_up() -> None:
    chain = new_chain()
    chain.censor(lambda transaction: transaction.sender == ALICE.address)
    censored = await chain.send(ALICE, pay(CAROL))
    others = await chain.send(BOB, pay(CAROL))
    chain.mine()
    assert await chain.receipt(others) is not None and await chain.receipt(censored) is None
    chain.censor(None)
    chain.mine()
    assert await chain.receipt(censored) is not None


async def test_block_times_follow_the_clock_and_always_increase() -> None:
    chain = new_chain()
    times = [chain.mine().time for _ in range(3)]
    assert times == [times[0], times[0] + 1, times[0] + 2]
    assert chain.advance(600).time >= times[0] + 600


async def test_a_reorganisation_puts_transactions_back_and_mines_them_again() -> None:
    chain = new_chain()
    payment = await chain.send(ALICE, pay(CAROL, 10))
    old = chain.mine()
    chain.fund(CAROL.address, 7)
    head = chain.reorganise(2)
    assert head.number == old.number + 2
    receipt = await chain.receipt(payment)
    assert receipt is not None and receipt.block.number == old.number and receipt.block.hash != old.hash
    assert await chain.balance(CAROL.address, NATIVE) == 17
    blocks = await chain.blocks(0, 100)
    assert all(b.header.parent == a.header.hash for a, b in pairwise(blocks))
    assert [chain.find(block.header.hash) for block in blocks] == list(chain.slice(0, 100))
    assert chain.find(old.hash) is None, "it is not on the best branch any more"
    chain.check_conservation()


async def test_a_reorganisation_can_lose_a_transaction_and_take_its_effects_back() -> None:
    chain = new_chain()
    terms = terms_between(chain)
    receipt = await chain.call(ALICE, OpenCall(terms, 100))
    chain.reorganise(1, keep=lambda transaction: False)
    assert await chain.receipt(receipt.transaction) is None
    assert await chain.channel(channel_id(terms)) is None
    assert await chain.balance(ALICE.address, NATIVE) == START
    assert await chain.nonce(ALICE.address) == 0
    assert await chain.channel_count(ALICE.address, BOB.address, NATIVE) == 0


async def test_a_reorganisation_can_leave_the_chain_shorter() -> None:
    chain = new_chain()
    payment = await chain.send(ALICE, pay(CAROL))
    before = chain.mine()
    assert chain.reorganise(1, length=0).number == before.number - 1
    assert [waiting.hash for waiting in chain.waiting()] == [payment]
    with pytest.raises(InvalidInput, match="can be replaced"):
        chain.reorganise(5)


async def test_waiting_for_the_head_wakes_at_the_next_block(autojump_clock: trio.testing.MockClock) -> None:
    chain = new_chain()
    known = chain.newest.header
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.run)
        await chain.wait(known.hash)
        assert trio.current_time() == pytest.approx(1.0)
        assert (await chain.head()).number == known.number + 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (lambda c: sign_call(ALICE, 1, c.contract, pay(CAROL), 0, 1), Refusal.WRONG_CHAIN),
        (lambda c: sign_call(ALICE, c.chain_id, c.contract, pay(CAROL), 64, 1), Refusal.NONCE_TOO_HIGH),
        (lambda c: sign_call(ALICE, c.chain_id, c.contract, pay(CAROL), 0, 0), Refusal.UNDERPRICED),
        (lambda c: sign_call(ALICE, c.chain_id, c.contract, pay(CAROL, START), 0, 1), Refusal.INSUFFICIENT_FUNDS),
        (lambda c: sign_call(CAROL, c.chain_id, c.contract, pay(CAROL), 0, 1), Refusal.INSUFFICIENT_FUNDS),
        (lambda c: b"\x02\xc0", Refusal.MALFORMED),
        (lambda c: b"", Refusal.MALFORMED),
    ],
)
async def test_what_cannot_be_mined_is_refused_at_the_door(raw: object, code: Refusal) -> None:
    chain = new_chain()
    with pytest.raises(TransactionRefused) as caught:
        await chain.submit(raw(chain))  # type: ignore[operator]
    assert caught.value.code is code


async def test_a_used_nonce_is_refused_and_a_known_transaction_is_not() -> None:
    chain = new_chain()
    raw = sign_call(ALICE, chain.chain_id, chain.contract, pay(CAROL), 0, 5)
    hash = await chain.submit(raw)
    assert await chain.submit(raw) == hash
    chain.mine()
    assert await chain.submit(raw) == hash
    with pytest.raises(TransactionRefused) as caught:
        await chain.send(ALICE, pay(BOB), nonce=0)
    assert caught.value.code is Refusal.NONCE_TOO_LOW


async def test_a_replacement_must_offer_a_tenth_more() -> None:
    chain = new_chain()
    await chain.send(ALICE, pay(CAROL), nonce=0, price=100)
    with pytest.raises(TransactionRefused) as caught:
        await chain.send(ALICE, pay(BOB), nonce=0, price=109)
    assert caught.value.code is Refusal.UNDERPRICED
    await chain.send(ALICE, pay(BOB), nonce=0, price=110)
    assert [waiting.price for waiting in chain.waiting()] == [110]


async def test_a_full_pool_drops_the_cheapest_for_a_dearer_one_only() -> None:
    chain = new_chain(settings=ChainSettings(pool=2, dev=True))
    await chain.send(ALICE, pay(CAROL), price=5)
    await chain.send(ALICE, pay(CAROL), price=9)
    with pytest.raises(TransactionRefused) as caught:
        await chain.send(BOB, pay(CAROL), price=5)
    assert caught.value.code is Refusal.MEMPOOL_FULL
    kept = await chain.send(BOB, pay(CAROL), price=6)
    assert [waiting.hash for waiting in chain.waiting()] == [kept]


async def test_a_sender_who_cannot_pay_the_fee_any_more_is_left_out_and_waits() -> None:
    chain = new_chain()
    chain.fund(CAROL.address, 100_000)
    await chain.send(CAROL, pay(BOB, 40_000), nonce=0)
    stuck = await chain.send(CAROL, pay(BOB, 1), nonce=1)
    chain.mine()
    assert await chain.receipt(stuck) is None
    chain.fund(CAROL.address, 100_000)
    chain.mine()
    assert await chain.receipt(stuck) is not None


async def test_minting_is_for_development_chains_and_never_for_the_adjudicator() -> None:
    closed = LocalChain(settings=ChainSettings())
    with pytest.raises(InvalidInput, match="development"):
        closed.fund(ALICE.address)
    chain = new_chain()
    for order in (Mint(chain.contract, NATIVE, 1), Mint(BOB.address, NATIVE, 0), Mint(BOB.address, NATIVE, 2**128)):
        with pytest.raises(InvalidInput):
            chain.mint(order)
    assert await chain.balance(BOB.address, NATIVE) == START


def opened(directory: Path) -> SqliteStore:
    return open_store(directory, [SCHEMA], owner="test")


async def test_a_restart_goes_on_with_the_same_head_balances_and_receipts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    chain = new_chain(store=store)
    terms = terms_between(chain)
    receipt = await chain.call(ALICE, OpenCall(terms, 100))
    await chain.call(BOB, RegisterSecretCall(b"s" * 32))
    chain.reorganise(1)
    head, balance = chain.newest, await chain.balance(ALICE.address, NATIVE)
    store.close()

    store = opened(tmp_path)
    again = LocalChain(funds={CAROL.address: 99}, store=store)
    assert again.newest == head
    found = again.find(head.header.hash)
    assert found == head and again.find(receipt.transaction) is None
    assert again.statistics() == chain.statistics()
    assert await again.balance(ALICE.address, NATIVE) == balance
    assert await again.balance(CAROL.address, NATIVE) == 0
    assert await again.receipt(receipt.transaction) == receipt
    assert await again.channel(channel_id(terms)) == await chain.channel(channel_id(terms))
    again.reorganise(3, keep=lambda transaction: False)
    assert await again.channel(channel_id(terms)) is None
    again.check_conservation()
    store.close()


def test_data_of_another_chain_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    new_chain(store=store)
    with pytest.raises(InvalidInput, match="another chain"):
        LocalChain(settings=ChainSettings(chain_id=5, dev=True), store=store)
    store.close()
