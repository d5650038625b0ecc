"""Coins that cross from shard to shard: executed exactly once, in order, or sent back; forged or replayed, refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import ClaimCall, TransferCall
from tallystick.settlement.errors import LedgerBroken, Refusal, Revert, TransactionRefused
from tallystick.settlement.ethereum.transactions import OUTBOX_GAS, sign_call
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.shards.receipts import PAGE_MAX, Parcel, ShardPage, ShardReceipt, outbox_root, read_parcel
from tallystick.settlement.simulated import crossing
from tallystick.settlement.simulated.ledger import BlockRecord, Mint
from tallystick.settlement.simulated.shard import WAITING_MAX
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.simulated.world import Layer, balance_key
from tallystick.settlement.testing.local import LocalChain
from tallystick.settlement.testing.shards import LocalShards, local_group, local_shard, shard_key

ALICE = PrivateKey(keccak(b"alice"))
BOB = PrivateKey(keccak(b"bob"))
TOKEN = Address(b"\x70" * 20)
START = 10**12


def new_shards(count: int = 2) -> LocalShards:
    return LocalShards(count, funds={ALICE.address: START})


def to_bob(amount: int, shard: int = 1, asset: Address = NATIVE, expiry: int = 0) -> Sending:
    return Sending(shard, asset, BOB.address, amount, expiry)


async def parcel_of(shards: LocalShards, sending: Sending, source: int = 0) -> bytes:
    await shards.send(source, ALICE, sending)
    shards.finish(source)
    return shards[source].parcels(sending.shard, 0)[-1]


def changed(raw: bytes, change: Callable[[Parcel], Parcel]) -> bytes:
    return msgspec.msgpack.encode(change(msgspec.msgpack.decode(raw, type=Parcel)))


async def test_coins_leave_one_shard_and_come_to_the_other_once_their_block_is_final() -> None:
    shards = new_shards()
    transaction = await shards.send(0, ALICE, to_bob(500))
    receipt = await shards[0].receipt(transaction)
    assert receipt is not None and receipt.success and receipt.fee == OUTBOX_GAS
    assert await shards[0].balance(ALICE.address, NATIVE) == START - 500 - OUTBOX_GAS
    assert shards.in_flight() == 500
    shards.check_conservation(2 * START)
    for _ in range(shards.group.final_blocks):
        assert shards.carry(0, 1) == 0, "nothing is believed before it is final"
        shards[0].mine()
    assert shards.carry(0, 1) == 1
    assert await shards[1].balance(BOB.address, NATIVE) == 0
    shards[1].mine()
    assert await shards[1].balance(BOB.address, NATIVE) == 500 and shards.in_flight() == 0
    assert shards.carry(0, 1) == 0
    shards.check_conservation(2 * START)


async def test_a_parcel_that_was_executed_is_refused_for_ever_whoever_brings_it() -> None:
    shards = new_shards()
    raw = await parcel_of(shards, to_bob(500))
    assert shards[1].offer(raw) == 1
    with pytest.raises(TransactionRefused, match="receipt 0 of shard 0 is known; the next one is 1") as refused:
        shards[1].offer(raw)
    assert refused.value.code is Refusal.ALREADY_KNOWN
    shards[1].mine()
    with pytest.raises(TransactionRefused, match="is known"):
        shards[1].offer(raw)
    shards[1].mine(5)
    assert await shards[1].balance(BOB.address, NATIVE) == 500


async def test_the_ledger_itself_executes_nothing_out_of_its_turn() -> None:
    """Whatever a faulty node puts into its block: the rule is the ledger's, not that of the room before it."""
    state = Layer({})
    state.changes.update(crossing.begin_shard(local_group(2), 1))
    pages = [ShardPage(0, 1, first, (ShardReceipt(NATIVE, ALICE.address, BOB.address, 5),)) for first in (0, 0, 2, 1)]
    done = crossing.cross(
        state, Address(bytes(20)), 9, 0, [], [crossing.ParcelArrival(b"%d" % i, p) for i, p in enumerate(pages)]
    )
    assert done is not None and done.parcels == (b"0", b"3")
    assert crossing.executed_of(state, 0) == 2 and crossing.came_from(state, 0, NATIVE) == 10


async def test_a_parcel_that_comes_before_its_turn_is_refused_and_taken_later() -> None:
    shards = new_shards()
    for amount in (1, 2, 3):
        await shards.send(0, ALICE, to_bob(amount))
    shards.finish(0)
    first, second, third = shards[0].parcels(1, 0)
    for early in (third, second):
        with pytest.raises(TransactionRefused, match="comes later; the next one is 0") as refused:
            shards[1].offer(early)
        assert refused.value.code is Refusal.NONCE_TOO_HIGH
    assert [shards[1].offer(raw) for raw in (first, second, third)] == [1, 2, 3]
    shards[1].mine()
    assert await shards[1].balance(BOB.address, NATIVE) == 6


def with_another_root(parcel: Parcel) -> Parcel:
    """Prove a page of one's own by a root of one's own, under a header that is right in all else."""
    page = msgspec.structs.replace(
        parcel.page, receipts=(msgspec.structs.replace(parcel.page.receipts[0], amount=10**6),)
    )
    header = msgspec.structs.replace(parcel.header, outbox=outbox_root([page]))
    return msgspec.structs.replace(parcel, page=page, steps=(), header=header)


def with_page(parcel: Parcel, **changes: Any) -> Parcel:
    return msgspec.structs.replace(parcel, page=msgspec.structs.replace(parcel.page, **changes))


def with_header(parcel: Parcel, **changes: Any) -> Parcel:
    return msgspec.structs.replace(parcel, header=msgspec.structs.replace(parcel.header, **changes))


FORGERIES: dict[str, tuple[Callable[[Parcel], Parcel], str]] = {
    "another amount": (
        lambda p: with_page(p, receipts=(msgspec.structs.replace(p.page.receipts[0], amount=501),)),
        "none of the block's",
    ),
    "another number": (lambda p: with_page(p, first=1), "none of the block's"),
    "another source": (lambda p: with_page(p, source=2), "not its source's"),
    "from itself": (lambda p: with_page(p, source=1), "no parcels come from"),
    "from nowhere": (lambda p: with_page(p, source=9), "no parcels come from"),
    "another block": (lambda p: with_header(p, number=77), "not signed by"),
    "another chain": (lambda p: with_header(p, chain_id=1), "of chain 1"),
    "another root": (with_another_root, "not signed by"),
    "no page": (lambda p: with_page(p, receipts=()), "out of range"),
    "half a hash": (lambda p: with_header(p, outbox=bytes(16)), "too short"),
    "no signature": (lambda p: msgspec.structs.replace(p, signature=bytes(64)), "not signed by"),
    "the signature of another shard": (
        lambda p: msgspec.structs.replace(
            p, signature=shard_key(2).sign(keccak(b"tallystick: a shard's final block" + p.header.hash))
        ),
        "not signed by",
    ),
    "a signature over the hash alone": (
        lambda p: msgspec.structs.replace(p, signature=shard_key(0).sign(p.header.hash)),
        "not signed by",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_is_forged_is_refused(forgery: str) -> None:
    shards = new_shards(3)
    raw = await parcel_of(shards, to_bob(500))
    forge, why = FORGERIES[forgery]
    with pytest.raises(TransactionRefused, match=why):
        shards[1].offer(changed(raw, forge))
    assert shards[1].offer(raw) == 1


async def test_a_parcel_for_one_shard_is_void_on_all_others() -> None:
    shards = new_shards(3)
    raw = await parcel_of(shards, to_bob(500))
    with pytest.raises(TransactionRefused, match="for shard 1, not 2"):
        shards[2].offer(raw)
    with pytest.raises(TransactionRefused, match="for shard 1, not 0"):
        shards[0].offer(raw)


@pytest.mark.parametrize("junk", [b"", b"\x90", b"\xff" * 200_000, b"\x94\x95\x00\x01\x00\x90\x00"])
def test_junk_is_no_parcel(junk: bytes) -> None:
    with pytest.raises(TransactionRefused):
        read_parcel(junk, local_group(2), 1)


async def test_a_transaction_for_one_shard_is_void_on_another() -> None:
    shards = new_shards()
    for raw in (
        sign_call(ALICE, shards[0].chain_id, shards[0].contract, TransferCall(NATIVE, BOB.address, 5), 0, 1),
        sign_sending(ALICE, shards[0].chain_id, to_bob(5), 0, 1),
    ):
        with pytest.raises(TransactionRefused, match="is for chain 7000, this is chain 7001"):
            await shards[1].submit(raw)


async def test_a_reorganisation_withdraws_what_is_not_final_and_reaches_nothing_that_is() -> None:
    shards = new_shards()
    await shards.send(0, ALICE, to_bob(500))
    shards[0].reorganise(1, keep=lambda transaction: False)
    shards.finish(0)
    assert shards.carry(0, 1) == 0
    assert await shards[0].balance(ALICE.address, NATIVE) == START
    raw = await parcel_of(shards, to_bob(7))
    with pytest.raises(InvalidInput, match="replaces 3 blocks at most"):
        shards[0].reorganise(4)
    with pytest.raises(InvalidInput, match="by no fewer"):
        shards[0].reorganise(3, length=2)
    shards[0].reorganise(3)
    assert shards[0].parcels(1, 0) == [raw]


async def test_where_it_was_executed_a_reorganisation_takes_it_back_and_it_is_brought_again() -> None:
    shards = new_shards()
    await shards.send(0, ALICE, to_bob(500))
    shards.finish(0)
    shards.carry(0, 1)
    shards[1].mine()
    shards[1].reorganise(1)
    assert await shards[1].balance(BOB.address, NATIVE) == 0 and shards.in_flight() == 500
    assert shards.carry(0, 1) == 1
    shards[1].mine()
    assert await shards[1].balance(BOB.address, NATIVE) == 500
    shards.check_conservation(2 * START)


async def test_a_shard_goes_on_from_its_disk() -> None:
    group, disk = local_group(2), SimulatedDisk([SCHEMA])
    shards = new_shards()
    first = local_shard(group, 0, funds={ALICE.address: START}, store=disk.open())
    await first.submit(sign_sending(ALICE, first.chain_id, to_bob(500), 0, 1))
    first.mine(1 + group.final_blocks)
    told = first.parcels(1, 0)
    again = local_shard(group, 0, store=disk.open())
    assert again.parcels(1, 0) == told and again.others() == first.others()
    assert shards[1].offer(told[0]) == 1


def test_the_data_of_one_shard_is_not_taken_for_that_of_another() -> None:
    disk = SimulatedDisk([SCHEMA])
    local_shard(local_group(2), 0, store=disk.open())
    with pytest.raises(InvalidInput, match="another shard, or another group"):
        local_shard(local_group(3), 0, store=disk.open())


async def test_tokens_cross_too_and_come_back() -> None:
    shards = new_shards()
    shards[0].fund(ALICE.address, 900, TOKEN)
    await shards.send(0, ALICE, Sending(1, TOKEN, ALICE.address, 900))
    assert not (await shards[0].call(ALICE, TransferCall(TOKEN, BOB.address, 1))).success
    shards.carry_all()
    assert await shards[1].balance(ALICE.address, TOKEN) == 900
    await shards.send(1, ALICE, Sending(0, TOKEN, BOB.address, 400))
    shards.carry_all()
    assert await shards[0].balance(BOB.address, TOKEN) == 400
    shards.check_conservation(900, TOKEN)
    shards.check_conservation(2 * START)


async def test_what_its_receiver_refuses_goes_back_to_whom_it_came_from() -> None:
    shards = new_shards()
    shards[1].refuse(BOB.address)
    await shards.send(0, ALICE, to_bob(500))
    before = await shards[0].balance(ALICE.address, NATIVE)
    shards.carry_all()
    assert await shards[1].balance(BOB.address, NATIVE) == 0
    assert await shards[0].balance(ALICE.address, NATIVE) == before + 500
    assert shards[1].is_refunded(0, 0) and not shards[1].is_refunded(0, 1)
    shards.check_conservation(2 * START)


async def test_who_refuses_what_comes_back_is_owed_it() -> None:
    shards = new_shards()
    shards[1].refuse(BOB.address)
    await shards.send(0, ALICE, to_bob(500))
    shards[0].refuse(ALICE.address)
    shards.carry_all()
    assert await shards[0].owed(NATIVE, ALICE.address) == 500
    shards.check_conservation(2 * START)
    assert (await shards[0].call(ALICE, ClaimCall(NATIVE, BOB.address))).success
    assert await shards[0].balance(BOB.address, NATIVE) == 500


@pytest.mark.parametrize("late", [0, 1])
async def test_what_comes_after_its_expiry_goes_back(late: int) -> None:
    shards = new_shards()
    expiry = shards[1].newest.header.time + 1_000
    await shards.send(0, ALICE, to_bob(500, expiry=expiry))
    shards.finish(0)
    shards.carry(0, 1)
    shards[1].advance(expiry + late - shards[1].newest.header.time)
    assert shards[1].newest.header.time == expiry + late
    assert await shards[1].balance(BOB.address, NATIVE) == (0 if late else 500)
    shards.carry_all()
    assert shards[1].is_refunded(0, 0) is bool(late)
    shards.check_conservation(2 * START)


@pytest.mark.parametrize(
    ("sending", "revert"),
    [
        (to_bob(5, shard=0), Revert.UNKNOWN_CALL),
        (to_bob(5, shard=2), Revert.UNKNOWN_CALL),
        (to_bob(START), Revert.INSUFFICIENT_BALANCE),
        (to_bob(5, asset=TOKEN), Revert.INSUFFICIENT_BALANCE),
        (Sending(1, NATIVE, NATIVE, 5), Revert.TRANSFER_FAILED),
        (Sending(1, TOKEN, TOKEN, 5), Revert.TRANSFER_FAILED),
        (Sending(1, NATIVE, local_group(2).contract, 5), Revert.TRANSFER_FAILED),
        (Sending(1, NATIVE, min(MODULES_AT), 5), Revert.TRANSFER_FAILED),
    ],
)
async def test_what_cannot_leave_stays(sending: Sending, revert: Revert) -> None:
    shards = LocalShards(2, funds={ALICE.address: START, BOB.address: 1})
    funded = 2 * START + 2
    if sending.amount == START:  # the node's door asks for the fee and the amount, so it is spent behind its back
        raw = sign_sending(ALICE, shards[0].chain_id, sending, 1, 1)
        await shards[0].send(ALICE, TransferCall(NATIVE, BOB.address, 10**6), nonce=0)
        with pytest.raises(TransactionRefused):
            await shards[0].submit(raw)
        return
    transaction = await shards.send(0, ALICE, sending)
    receipt = await shards[0].receipt(transaction)
    assert receipt is not None and receipt.revert is revert
    assert shards.in_flight() == 0
    shards.check_conservation(funded)


async def test_a_chain_that_is_no_shard_sends_nothing_away() -> None:
    chain = LocalChain(funds={ALICE.address: START})
    transaction = await chain.submit(sign_sending(ALICE, chain.chain_id, to_bob(5), 0, 1))
    chain.mine()
    receipt = await chain.receipt(transaction)
    assert receipt is not None and receipt.revert is Revert.UNKNOWN_CALL
    assert await chain.balance(ALICE.address, NATIVE) == START - OUTBOX_GAS
    with pytest.raises(InvalidInput, match="is no shard"):
        chain.parcels(1, 0)


async def test_many_receipts_of_a_block_go_on_several_pages() -> None:
    count = PAGE_MAX + 3
    keys = [PrivateKey(keccak(b"payer %d" % number)) for number in range(count)]
    shards = LocalShards(3, funds={key.address: 10**6 for key in keys})
    for number, key in enumerate(keys):
        sending = Sending(1 + (number == 0), NATIVE, BOB.address, 1 + number)
        await shards[0].submit(sign_sending(key, shards[0].chain_id, sending, 0, 1))
    shards[0].mine(4)
    assert [
        len(page.receipts) for record in shards[0].slice(0, 99) if record.crossing for page in record.crossing.pages
    ]
    shards.carry_all()
    assert await shards[1].balance(BOB.address, NATIVE) == sum(range(2, count + 1))
    assert await shards[2].balance(BOB.address, NATIVE) == 1
    shards.check_conservation(3 * count * 10**6)


async def test_a_shard_may_make_its_share_of_all_numbers_wherever_the_coins_are() -> None:
    shards = new_shards()
    most = AMOUNT_MAX // 2
    shards[0].fund(ALICE.address, most, TOKEN)
    await shards.send(0, ALICE, Sending(1, TOKEN, BOB.address, most))
    shards.carry_all()
    with pytest.raises(InvalidInput):
        shards[0].mint(Mint(ALICE.address, TOKEN, 1))
    shards[1].fund(ALICE.address, most, TOKEN)
    assert await shards[1].balance(BOB.address, TOKEN) == most
    for source in (1, 0, 1, 0):  # what ever crossed is more than there are numbers
        await shards[1 - source].call(ALICE, TransferCall(NATIVE, BOB.address, 10**6))
        await shards[source].call(ALICE, TransferCall(NATIVE, BOB.address, 10**6))
        await shards.send(source, BOB, Sending(1 - source, TOKEN, BOB.address, most))
        shards.carry_all()
    shards.check_conservation(2 * most, TOKEN)


def test_coins_that_come_from_no_shard_stop_the_ledger() -> None:
    with pytest.raises(LedgerBroken, match="came from no shard"):
        crossing.check_flow({}, {b"t" + TOKEN: 5}, [(TOKEN, 4)])
    crossing.check_flow({}, {b"t" + TOKEN: 5}, [(TOKEN, 5)])


async def test_no_more_than_some_parcels_wait() -> None:
    shards = new_shards()
    for _ in range(WAITING_MAX + 1):
        await shards.send(0, ALICE, to_bob(1))
    shards.finish(0)
    parcels = shards[0].parcels(1, 0)
    for raw in parcels[:WAITING_MAX]:
        shards[1].offer(raw)
    with pytest.raises(TransactionRefused, match="32 parcels of shard 0 wait"):
        shards[1].offer(parcels[WAITING_MAX])
    shards.carry_all()
    shards.check_conservation(2 * START)


@pytest.mark.parametrize("to", [Address(b"\x0c" * 20), min(MODULES_AT)])
def test_what_is_for_the_contract_or_a_module_goes_back(to: Address) -> None:
    """No shard of ours sends such; one that is faulty might, and nobody could take it out again."""
    state = Layer({})
    state.changes.update(crossing.begin_shard(local_group(2), 1))
    page = ShardPage(0, 1, 0, (ShardReceipt(NATIVE, ALICE.address, to, 5),))
    done = crossing.cross(state, Address(b"\x0c" * 20), 9, 0, [], [crossing.ParcelArrival(b"raw", page)])
    assert done is not None
    assert done.pages == (ShardPage(1, 0, 0, (ShardReceipt(NATIVE, to, ALICE.address, 5, refund_of=0),)),)
    assert state.number(balance_key(NATIVE, to)) == 0


async def test_a_block_that_was_stored_before_there_were_shards_is_read_as_it_was() -> None:
    chain = LocalChain(funds={ALICE.address: START})
    await chain.call(ALICE, TransferCall(NATIVE, BOB.address, 5))
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(chain.newest))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields[:4]), type=BlockRecord) == chain.newest
