"""The ledger under a consensus: the same blocks make the same state, whatever was proposed, and wherever it crashed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.replicas import GENESIS, KEYS, application, transfer
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.settlement.chain import FailedCall
from tallystick.settlement.errors import ChainUnavailable, LedgerBroken, Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import BATCH, Deployment, Envelope, encode_batch
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.ethereum.transactions import sign_envelope
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.chain import ReplicatedChain
from tallystick.settlement.replicated.decision import MintOrder, ProposedBlock, app_hash, encode_order, history_after
from tallystick.settlement.replicated.engine_rpc import open_engine
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.roots import state_root
from tallystick.settlement.simulated.sqlite import SCHEMA
from tallystick.settlement.simulated.world import balance_key

POOL = {(sender, nonce): transfer(sender, nonce, 1 + 40 * nonce) for sender in range(3) for nonce in range(5)}
"""Signing takes longer than all else here."""
ORDERS = [
    encode_order(MintOrder(Mint(KEYS[0].address, NATIVE, amount), bytes(8))) for amount in (1, 2**127, 2**128 - 1)
]
WORKS = st.sampled_from([*POOL.values(), *ORDERS, b"", b"\xff", b"\xff\x00", b"\x02nothing"])
BLOCKS = st.lists(st.lists(WORKS, max_size=9).map(tuple), max_size=5)


def run(app: Application, blocks: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    hashes = []
    for transactions in blocks:
        decision = app.finalize(ProposedBlock(app.height + 1, 1_000 + app.height, transactions))
        app.commit()
        assert app.app_hash == decision.app_hash
        hashes.append(app.app_hash)
    return hashes


@settings(max_examples=25)
@given(BLOCKS, st.randoms(use_true_random=False))
def test_the_same_blocks_make_the_same_state_whatever_else_was_proposed(
    blocks: list[tuple[bytes, ...]], random: object
) -> None:
    one, two = application(), application()
    for number, transactions in enumerate(blocks):
        others = blocks[number - 1]
        for raw in (*others, *transactions):
            with suppress(TransactionRefused):
                two.check(raw)
        two.accepts(ProposedBlock(two.height + 1, 2_000, others))
        two.prepare(ProposedBlock(two.height + 1, 3_000, (*others, *transactions)), 10**6)
        two.accepts(ProposedBlock(two.height + 1, 1_000 + two.height, transactions))
        assert run(one, [transactions]) == run(two, [transactions])
    assert one.branch.records == two.branch.records
    one.branch.check_conservation()
    history = bytes(32)
    for record in one.branch.records:
        history = history_after(history, record)
    assert one.app_hash == app_hash(state_root(one.branch.world), history)


@settings(max_examples=10, deadline=None)
@given(BLOCKS, st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_a_crash_anywhere_is_made_good_by_being_asked_again(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[bytes, ...]], crashes: list[int]
) -> None:
    """0: none; 1: after it was executed, before it was committed; 2: committed, and nobody was told."""
    folder = tmp_path_factory.mktemp("replica")
    expected = run(application(), blocks)
    reached: list[bytes] = []
    for number, transactions in enumerate(blocks, 1):
        for crash in {crashes[number - 1], 0} if crashes[number - 1] < 2 else (2,):
            store = open_store(folder, [SCHEMA], owner="test")
            app = application(store)
            assert app.height == number - 1
            app.finalize(ProposedBlock(number, 1_000 + number - 1, transactions))
            if crash != 1:
                app.commit()
                reached.append(app.app_hash)
            store.close()
            if crash != 1:
                break
        else:
            store = open_store(folder, [SCHEMA], owner="test")
            run(app := application(store), [transactions])
            reached.append(app.app_hash)
            store.close()
    assert reached == expected


@given(st.lists(WORKS, max_size=12, unique=True), st.integers(0, 1_500))
@settings(max_examples=25)
def test_what_an_honest_validator_proposes_is_accepted_by_all(works: list[bytes], bytes_max: int) -> None:
    proposer, other = application(), application()
    proposed = proposer.prepare(ProposedBlock(1, 1_000, tuple(works)), bytes_max)
    assert sum(map(len, proposed)) <= bytes_max
    assert set(proposed) <= set(works)
    block = ProposedBlock(1, 1_000, proposed)
    assert other.accepts(block) and proposer.accepts(block)
    assert other.finalize(block).app_hash == proposer.finalize(block).app_hash


def test_a_proposal_that_holds_what_has_no_place_in_it_is_refused() -> None:
    first, second = POOL[0, 0], POOL[0, 1]
    app = application()
    for lie in (
        (second,),
        (second, first),
        (first, first),
        (first, b""),
        (b"\xff",),
        (ORDERS[1], ORDERS[1], ORDERS[1]),
    ):
        assert not app.accepts(ProposedBlock(1, 1_000, lie))
    assert not app.accepts(
        ProposedBlock(1, 1_000, tuple(POOL[sender, nonce] for nonce in range(3) for sender in range(3)))
    )
    assert app.accepts(ProposedBlock(1, 1_000, (first, second)))


def test_the_better_of_two_with_one_nonce_is_proposed() -> None:
    dear = transfer(0, 0, 3, price=9)
    assert application().prepare(ProposedBlock(1, 1_000, (POOL[0, 0], POOL[1, 0], dear)), 10**6) == (dear, POOL[1, 0])


def test_what_waits_for_ever_at_no_cost_keeps_nobody_out_of_the_blocks() -> None:
    """The engine reaps its oldest transactions, up to the bytes of a block: here such as have no nonce before them."""
    app = application()
    large = Envelope(ADJUDICATOR, 0, bytes(9_000))
    stuck = tuple(sign_envelope(KEYS[0], 1337, large, nonce, 2, 2, 100_000) for nonce in range(1, 10))
    for raw in (*stuck, POOL[1, 0]):
        app.check(raw)
    proposed = app.prepare(ProposedBlock(1, 1_000, stuck), 90_000)
    assert proposed == (POOL[1, 0],)
    assert application().accepts(ProposedBlock(1, 1_000, proposed))


@pytest.mark.parametrize("value", [0, 999_000_000])
def test_what_its_sender_cannot_pay_for_keeps_nobody_out_of_the_blocks(value: int) -> None:
    """The first of these takes what the others need: else each block would hold one of them, and room for no other."""
    app = application()
    price, gas = (10, 55_000) if value else (30_000, 21_000)
    large = Envelope(ADJUDICATOR, 0, bytes(9_000))
    first = Envelope(Address(bytes([7]) * 20), value, b"") if value else large
    rich = [sign_envelope(KEYS[0], 1337, first, 0, price, price, gas)]
    rich += [sign_envelope(KEYS[0], 1337, large, n, price, price, gas) for n in range(1, 11)]
    for raw in (*rich, POOL[1, 0]):
        app.check(raw)
    proposed = app.prepare(ProposedBlock(1, 1_000, (*rich, POOL[1, 0])), 90_000)
    assert POOL[1, 0] in proposed and rich[0] in proposed
    run(app, [proposed])
    for raw in rich[1:]:
        with pytest.raises(TransactionRefused):
            app.check(raw, again=True)
    assert not len(app.branch.pool)


def test_a_block_that_was_executed_when_it_was_proposed_is_not_executed_again() -> None:
    app = application()
    block = ProposedBlock(1, 1_000, (POOL[0, 0],))
    assert app.accepts(block)
    first = app.finalize(block)
    assert app.finalize(replace(block)) is first
    assert app.finalize(ProposedBlock(1, 1_001, (POOL[0, 0],))) is not first


def test_the_pool_takes_what_ethereum_nodes_take_and_forgets_what_is_done() -> None:
    app = application()
    app.check(POOL[0, 1])
    app.check(POOL[0, 0])
    app.check(POOL[0, 0], again=True)
    with pytest.raises(TransactionRefused) as refused:
        app.check(transfer(0, 0, 9))
    assert refused.value.code == Refusal.UNDERPRICED
    app.check(dear := transfer(0, 0, 9, price=4))
    with pytest.raises(TransactionRefused):
        app.check(POOL[0, 0], again=True)
    run(app, [(dear,)])
    assert [waiting.raw for waiting in app.branch.pool] == [POOL[0, 1]]
    with pytest.raises(TransactionRefused) as refused:
        app.check(dear)
    assert refused.value.code == Refusal.NONCE_TOO_LOW


def test_coins_come_on_demand_on_a_development_chain_only() -> None:
    app = application()
    before = app.branch.state.number(balance_key(NATIVE, KEYS[0].address))
    run(app, [(ORDERS[0],)])
    assert app.branch.state.number(balance_key(NATIVE, KEYS[0].address)) == before + 1
    strict = application(genesis=replace(GENESIS, dev=False))
    with pytest.raises(TransactionRefused):
        strict.check(ORDERS[0])
    assert strict.finalize(ProposedBlock(1, 1_000, (ORDERS[0],))).results == (None,)


def test_coins_that_cannot_be_made_wait_for_no_block() -> None:
    app = application()
    for order in (
        MintOrder(Mint(KEYS[0].address, NATIVE, 0), bytes(8)),
        MintOrder(Mint(KEYS[0].address, NATIVE, 2**128 - 1), bytes(8)),
        MintOrder(Mint(ADJUDICATOR, NATIVE, 1), bytes(8)),
        MintOrder(Mint(KEYS[0].address, NATIVE, 1), bytes(9)),
    ):
        for again in (False, True):
            with pytest.raises(TransactionRefused):
                app.check(encode_order(order), again=again)
    assert app.branch.state.number(balance_key(NATIVE, KEYS[0].address)) == 10**9


def test_another_genesis_is_refused_and_so_is_a_block_out_of_turn() -> None:
    app = application()
    written = msgspec.json.encode(GENESIS.written())
    assert app.begin(written, 1) == app.begin(written, 1) == app.app_hash
    for other, height in ((replace(GENESIS, time=1_001), 1), (GENESIS, 2)):
        with pytest.raises(InvalidInput):
            app.begin(msgspec.json.encode(other.written()), height)
    with pytest.raises(InvalidInput):
        app.begin(b"{}", 1)
    with pytest.raises(LedgerBroken):
        app.commit()
    with pytest.raises(LedgerBroken):
        app.finalize(ProposedBlock(2, 1_000, ()))
    run(app, [()])
    with pytest.raises(InvalidInput):
        app.begin(written, 1)


def test_the_hash_that_validators_agree_on_is_what_it_was() -> None:
    assert [hash.hex()[:16] for hash in run(application(), [(POOL[0, 0], ORDERS[0]), (), (POOL[1, 0],)])] == [
        "17bdae62a36ff4ac",
        "8a531c2346776343",
        "c7ca4f059434a087",
    ]


def test_how_a_library_words_what_it_refuses_is_no_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validators with different releases of a library, or of Python, must not part over a sentence."""
    junk = BATCH.selector + (32).to_bytes(32, "big") + bytes(31) + b"\1" + b"\xff" * 32
    alone = Envelope(ADJUDICATOR, 0, junk)
    within = encode_batch([Envelope(ADJUDICATOR, 0, junk)], Deployment(1337, ADJUDICATOR))
    block = tuple(sign_envelope(KEYS[at], 1337, each, 0, 2, 2, 100_000) for at, each in enumerate((alone, within)))
    one, two = application(), application()
    hashes = run(one, [block])
    monkeypatch.setattr("tallystick.settlement.ethereum.abi.decode_values", _in_other_words)
    assert run(two, [block]) == hashes
    (failed, batch), (other, other_batch) = (app.branch.newest.entries for app in (one, two))
    assert failed.execution.reason != other.execution.reason
    assert batch.execution.failures[0].reason != other_batch.execution.failures[0].reason
    assert failed.execution.reason[:12] == other.execution.reason[:12] == "unknown-call"


def _in_other_words(types: tuple[str, ...], data: bytes) -> object:
    try:
        return decode_values(types, data)
    except InvalidInput as error:
        raise InvalidInput("in other words") from error


def test_that_a_call_failed_and_by_which_rule_is_part_of_the_hash() -> None:
    app = application()
    run(app, [(sign_envelope(KEYS[0], 1337, Envelope(ADJUDICATOR, 0, b"none"), 0, 2, 2, 100_000),)])
    record = app.branch.newest
    (entry,) = record.entries
    assert not entry.execution.success
    for other in (
        replace(entry.execution, reason="NOT_ALLOWED: so it is"),
        replace(entry.execution, success=True, reason=""),
        replace(entry.execution, failures=(FailedCall(0, "so it is"),)),
    ):
        changed = replace(record, entries=(replace(entry, execution=other),))
        assert history_after(bytes(32), changed) != history_after(bytes(32), record)


def test_what_is_kept_decoded_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can pay for nothing can send much that is well formed, without end."""
    monkeypatch.setattr("tallystick.settlement.replicated.application.READ_BYTES", 3_000)
    app = application(genesis=replace(GENESIS, mints=()))
    large = [
        sign_envelope(KEYS[0], 1337, Envelope(ADJUDICATOR, 0, bytes(1_000)), nonce, 2, 2, 100_000) for nonce in range(6)
    ]
    for raw in large:
        with pytest.raises(TransactionRefused):
            app.check(raw)
        assert app.kept_bytes <= 3_000
    assert app.kept_bytes > 2_000
    funded = application()
    run(funded, [(POOL[0, 0],)])
    assert funded.kept_bytes == 0


async def test_a_validator_refuses_by_itself_what_its_ledger_refuses_and_hands_over_the_rest() -> None:
    async with open_engine(Path("nowhere")) as engine:
        chain = ReplicatedChain(GENESIS, engine, bytes)
        for raw, why in ((transfer(0, 99), Refusal.NONCE_TOO_HIGH), (b"\2junk", Refusal.MALFORMED)):
            with pytest.raises(TransactionRefused) as refused:
                await chain.submit(raw)
            assert refused.value.code == why
        with pytest.raises(TransactionRefused):
            await chain.order_mint(Mint(KEYS[0].address, NATIVE, 0))
        with pytest.raises(ChainUnavailable):
            await chain.submit(POOL[0, 0])
        assert [waiting.raw for waiting in chain.waiting()] == [POOL[0, 0]], "it may propose it itself"


async def test_no_validator_can_be_told_what_the_others_do_not_know() -> None:
    async with open_engine(Path("nowhere")) as engine:
        chain = ReplicatedChain(GENESIS, engine, bytes)
        root = state_root(chain.application.branch.world)
        for tell in (
            lambda: chain.refuse(KEYS[0].address),
            lambda: chain.mint(Mint(KEYS[0].address, NATIVE, 1)),
            chain.mine,
            lambda: chain.reorganise(1),
        ):
            with pytest.raises(InvalidInput):
                tell()
        assert state_root(chain.application.branch.world) == root == chain.application.root
