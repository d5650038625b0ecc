"""The ledger under random transactions and knobs: coins conserved, steps atomic, the disk an exact copy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.disputes import PERIOD, ChannelFixture
from tallystick.channels.errors import InvalidInput, StoreError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    CooperativelyClosed,
    DepositCall,
    OpenCall,
    RegisterSecretCall,
    SecretRegistered,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.errors import LedgerBroken, Revert, TransactionRefused
from tallystick.settlement.ethereum.abi import BATCH, Deployment, Envelope, encode_call
from tallystick.settlement.ethereum.transactions import BASE_GAS, Transaction, sign_envelope
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint, execute
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.simulated.world import Layer, balance_key, channel_key, check_conservation, supply_key
from tallystick.settlement.testing.local import LocalChain

FIXTURE = ChannelFixture()
TOKEN = Address(b"\x70" * 20)
CAROL = PrivateKey(keccak(b"carol"))
ACCOUNTS = (*FIXTURE.keys, CAROL)
START = 10**8

CALLS: tuple[Call, ...] = (
    OpenCall(FIXTURE.terms, 1_000),
    DepositCall(FIXTURE.id, 1, 300),
    FIXTURE.withdrawal(0, 200, 2**40),
    FIXTURE.cooperative_close(900, 200, 2**40),
    FIXTURE.close(None, FIXTURE.proof(1, 1, 7)),
    FIXTURE.challenge(FIXTURE.proof(1, 2, 30), tower=CAROL.address, victim=1),
    SettleCall(FIXTURE.id),
    RegisterSecretCall(b"s" * 32),
    TransferCall(NATIVE, CAROL.address, 5_000),
    TransferCall(TOKEN, CAROL.address, 50),
    TransferCall(TOKEN, FIXTURE.terms.contract, 50),
    TransferCall(Address(b"\x71" * 20), CAROL.address, 0),
    ApproveCall(TOKEN, 70),
    ApproveCall(Address(b"\x71" * 20), 70),
    BatchCall((FIXTURE.cooperative_close(900, 200, 2**40), RegisterSecretCall(b"s" * 32), SettleCall(FIXTURE.id))),
)

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 2), st.integers(0, len(CALLS) - 1), st.integers(1, 9)),
        st.tuples(st.just("mine"), st.integers(1, 3), st.just(0), st.just(0)),
        st.tuples(st.just("pass"), st.just(PERIOD + 1), st.just(0), st.just(0)),
        st.tuples(st.just("reorganise"), st.integers(1, 4), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("mint"), st.integers(0, 2), st.integers(1, 10**6), st.just(0)),
    ),
    max_size=25,
)


def start(store: object = None) -> LocalChain:
    chain = reopen(store)
    chain.fund(FIXTURE.address(0), 1_000, TOKEN)
    return chain


def reopen(store: object) -> LocalChain:
    funds = {key.address: START for key in ACCOUNTS}
    return LocalChain(funds=funds, clock=lambda: 1_000_000.0, store=store)  # type: ignore[arg-type]


async def perform(chain: LocalChain, actions: Sequence[tuple[str, int, int, int]]) -> None:
    for what, first, second, third in actions:
        match what:
            case "call":
                try:
                    await chain.send(ACCOUNTS[first], CALLS[second], price=third)
                except TransactionRefused:
                    continue
            case "mine":
                chain.mine(first)
            case "pass":
                chain.advance(first)
            case "mint":
                chain.mint(Mint(ACCOUNTS[first].address, TOKEN, second))
            case "reorganise":
                try:
                    chain.reorganise(first, length=second, keep=lambda transaction, keeps=third: bool(keeps))
                except InvalidInput:
                    continue
        chain.check_conservation()


@given(ACTIONS)
@settings(max_examples=60, deadline=None)
def test_no_history_of_transactions_mints_and_reorganisations_makes_or_loses_a_coin(
    actions: list[tuple[str, int, int, int]],
) -> None:
    chain = start()
    trio.run(perform, chain, actions)
    total = START * len(ACCOUNTS)
    assert chain._branch.state.number(supply_key(NATIVE)) == total
    headers = [record.header for record in chain.slice(0, 1_000)]
    assert all(after.parent == before.hash for before, after in itertools.pairwise(headers))
    assert all(after.time > before.time for before, after in itertools.pairwise(headers))


@given(ACTIONS)
@settings(max_examples=25, deadline=None)
def test_what_is_rebuilt_from_disk_is_what_was_there(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("chain")
    store = open_store(directory, [SCHEMA], owner="test", durable=False)
    chain = start(store)
    trio.run(perform, chain, actions)
    store.close()
    store = open_store(directory, [SCHEMA], owner="test", durable=False)
    again = reopen(store)
    assert again._branch._world == chain._branch._world
    assert again.slice(0, 1_000) == chain.slice(0, 1_000)
    assert again._branch.receipts == chain._branch.receipts
    store.close()


@given(ACTIONS)
@settings(max_examples=25, deadline=None)
def test_taking_all_blocks_back_leads_to_the_genesis_state(actions: list[tuple[str, int, int, int]]) -> None:
    fresh = start()
    chain = start()
    trio.run(perform, chain, actions)
    fresh.reorganise(1, length=0)
    if chain.newest.header.number:
        chain.reorganise(chain.newest.header.number, length=0)
    assert chain._branch._world == fresh._branch._world


class FullDisk:
    """A store that takes what it is given until it is full."""

    def __init__(self) -> None:
        self.full = False
        self.commits = 0

    def commit(self, moments: Sequence[Moment]) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.commits += 1

    healed = ()

    def read(self, query: TableQuery) -> list[Row]:
        return []

    def close(self) -> None:
        pass


async def test_when_the_disk_refuses_the_chain_stays_what_it_was() -> None:
    disk = FullDisk()
    chain = start(disk)
    await chain.call(CAROL, RegisterSecretCall(b"s" * 32))
    waiting = await chain.send(CAROL, TransferCall(NATIVE, FIXTURE.address(0), 5))
    before, world = chain.newest, dict(chain._branch._world)
    disk.full = True
    for step in (chain.mine, lambda: chain.reorganise(1)):
        with pytest.raises(StoreError):
            step()
        assert chain.newest == before and chain._branch._world == world
    disk.full = False
    chain.mine()
    assert await chain.receipt(waiting) is not None
    chain.check_conservation()


def test_thousands_of_blocks_are_reopened_without_replay(tmp_path: Path) -> None:
    store = open_store(tmp_path, [SCHEMA], owner="test", durable=False)
    head = start(store).mine(3_000)
    store.close()
    store = open_store(tmp_path, [SCHEMA], owner="test", durable=False)
    assert reopen(store).newest.header == head
    store.close()


async def test_coins_cannot_be_sent_to_the_adjudicator_or_calls_to_nowhere() -> None:
    chain = start()
    for call, reason in (
        (TransferCall(TOKEN, chain.contract, 1), "unknown-call: "),
        (TransferCall(Address(b"\x71" * 20), CAROL.address, 0), "unknown-call: "),
        (ApproveCall(Address(b"\x71" * 20), 1), "unknown-call: "),
        (TransferCall(TOKEN, CAROL.address, 10**6), "insufficient-balance: "),
    ):
        receipt = await chain.call(FIXTURE.keys[0], call)
        assert not receipt.success and receipt.why.startswith(reason)


async def test_a_deposit_that_fails_half_way_leaves_the_allowance_as_it_was() -> None:
    chain = start()
    owner, fixture = FIXTURE.keys[0], ChannelFixture(asset=TOKEN)
    await chain.call(owner, ApproveCall(TOKEN, 1_500))
    failed = await chain.call(owner, OpenCall(fixture.terms, 1_200))
    assert failed.revert is Revert.INSUFFICIENT_BALANCE
    chain.fund(owner.address, 500, TOKEN)
    assert (await chain.call(owner, OpenCall(fixture.terms, 1_500))).success


def test_plain_coins_to_the_adjudicator_come_back_as_a_failed_call() -> None:
    chain = start()
    state = chain._branch.state
    sent = Transaction(b"", b"", CAROL.address, 0, 1, BASE_GAS, Envelope(chain.contract, 5, b""))
    done = execute(state, chain._branch.rules, sent, 5)
    assert not done.success and done.reason.startswith("unknown-call: ")
    assert state.number(balance_key(NATIVE, CAROL.address)) == START - BASE_GAS


def test_genesis_cannot_create_coins_for_the_adjudicator() -> None:
    with pytest.raises(InvalidInput):
        LocalChain(funds={FIXTURE.terms.contract: 5})


async def test_mints_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.settlement.simulated.branch.MINTS_MAX", 1)
    chain = start()
    chain.mint(Mint(CAROL.address, TOKEN, 1))
    with pytest.raises(InvalidInput, match="wait for the next block"):
        chain.mint(Mint(CAROL.address, TOKEN, 1))
    chain.mine()
    chain.mint(Mint(CAROL.address, TOKEN, 1))


async def test_asking_for_less_than_one_block_or_a_censored_call_is_refused() -> None:
    chain = start()
    with pytest.raises(InvalidInput):
        chain.mine(0)
    chain.censor(lambda transaction: True)
    with pytest.raises(LedgerBroken, match="censorship"):
        await chain.call(CAROL, RegisterSecretCall(b"s" * 32))
    assert "block" in repr(chain) and "1" in repr(chain._branch.pool)


async def test_a_transaction_that_allows_too_little_gas_is_refused() -> None:
    chain = LocalChain(funds={CAROL.address: START}, settings=ChainSettings(gas_limit=BASE_GAS))
    with pytest.raises(TransactionRefused, match="needs"):
        await chain.send(CAROL, RegisterSecretCall(b"s" * 32))


# --- the guards themselves --------------------------------------------------------------------------------------

VAULT = FIXTURE.terms.contract
HOLDING = ChannelStorage(FIXTURE.terms, (5, 0))


@pytest.mark.parametrize(
    "after",
    [
        {balance_key(NATIVE, CAROL.address): 5},
        {supply_key(NATIVE): 5},
        {supply_key(NATIVE): 5, balance_key(NATIVE, VAULT): 5},
        {channel_key(FIXTURE.id): HOLDING},
        {supply_key(NATIVE): 5, balance_key(NATIVE, CAROL.address): 5, channel_key(FIXTURE.id): HOLDING},
    ],
)
def test_made_lost_or_stranded_coins_are_found(after: dict[bytes, int | ChannelStorage]) -> None:
    with pytest.raises(LedgerBroken, match="unaccounted"):
        check_conservation({}, after, VAULT)


def test_coins_in_channels_are_found_where_they_belong() -> None:
    after = {supply_key(NATIVE): 5, balance_key(NATIVE, VAULT): 5, channel_key(FIXTURE.id): HOLDING}
    check_conservation({}, after, VAULT)
    check_conservation(after, {**after, b"n" + CAROL.address: 3, b"s" + digest_of(ZERO32): 9}, VAULT)


def test_a_layer_refuses_values_of_the_wrong_kind_and_negative_numbers() -> None:
    layer = Layer({channel_key(FIXTURE.id): HOLDING, b"cx": 5})
    with pytest.raises(LedgerBroken):
        layer.number(channel_key(FIXTURE.id))
    with pytest.raises(LedgerBroken):
        layer.channel(b"x")  # type: ignore[arg-type]
    with pytest.raises(LedgerBroken):
        layer.add(b"n", -1)
    layer.add(b"n", 2)
    layer.add(b"n", -2)
    assert layer.changes == {b"n": None} and layer.before() == {b"n": None}


def test_stored_blocks_that_do_not_follow_each_other_are_found(tmp_path: Path) -> None:
    store = open_store(tmp_path, [SCHEMA], owner="test", durable=False)
    start(store).mine(3)
    store._writer.execute("DELETE FROM ledger_blocks WHERE number = 2")
    with pytest.raises(LedgerBroken, match="does not follow"):
        reopen(store)
    store.close()


async def test_of_a_batch_each_call_is_done_or_fails_by_itself_and_the_receipt_says_which() -> None:
    chain = start()
    await chain.call(FIXTURE.keys[0], OpenCall(FIXTURE.terms, 1_000))
    secret = RegisterSecretCall(b"s" * 32)
    calls = (SettleCall(FIXTURE.id), secret, FIXTURE.cooperative_close(900, 100, 2**40), secret)
    receipt = await chain.call(CAROL, BatchCall(calls))
    assert receipt.success and receipt.reason == ""
    assert [(each.index, each.revert) for each in receipt.failures] == [
        (0, Revert.WRONG_STATUS),
        (3, Revert.ALREADY_REGISTERED),
    ]
    kinds = [type(event) for event in chain.newest.block.events]
    assert kinds == [SecretRegistered, CooperativelyClosed]
    assert receipt.fee == chain.newest.entries[0].execution.gas * await chain.fee_price()
    chain.check_conservation()


async def test_what_is_no_call_fails_in_its_batch_alone_and_coins_are_counted_once() -> None:
    chain = start()
    at = Deployment(chain.chain_id, chain.contract)
    await chain.call(FIXTURE.keys[0], OpenCall(FIXTURE.terms, 1_000))
    deposit = encode_call(DepositCall(FIXTURE.id, 0, 5), at)
    known = encode_call(RegisterSecretCall(b"s" * 32), at)
    inner = BATCH.encode_call([b"nonsense", known.data])
    data = BATCH.encode_call([b"nonsense", deposit.data, inner, b""])
    key = FIXTURE.keys[0]
    raw = sign_envelope(key, at.chain_id, Envelope(at.contract, 0, data), await chain.nonce(key.address), 7, 7, 10**6)
    transaction = await chain.submit(raw)
    chain.mine()
    receipt = await chain.receipt(transaction)
    assert receipt is not None and receipt.success
    assert [(each.index, each.revert) for each in receipt.failures] == [
        (0, Revert.UNKNOWN_CALL),
        (1, Revert.BAD_AMOUNT),
        (0, Revert.UNKNOWN_CALL),  # of the batch within the batch
        (3, Revert.UNKNOWN_CALL),
    ]
    assert [type(event) for event in chain.newest.block.events] == [SecretRegistered]
    chain.check_conservation()


async def test_a_call_that_fails_in_a_batch_leaves_no_trace() -> None:
    chain, fixture = start(), ChannelFixture(asset=TOKEN)
    key = FIXTURE.keys[0]
    await chain.call(key, OpenCall(fixture.terms, 0))
    await chain.call(key, ApproveCall(TOKEN, 5_000))
    too_much = DepositCall(fixture.id, 0, 2_000, TOKEN)
    receipt = await chain.call(key, BatchCall((too_much, RegisterSecretCall(b"s" * 32))))
    assert [(each.index, each.revert) for each in receipt.failures] == [(0, Revert.INSUFFICIENT_BALANCE)]
    assert await chain.allowance(TOKEN, key.address) == 5_000
    assert await chain.secret_time(digest_of(b"s" * 32)) is not None
