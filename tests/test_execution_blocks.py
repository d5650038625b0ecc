"""A block is the same to the last bit whoever helps to build it, and whatever its helpers do."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.disputes import ChannelFixture
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    DepositCall,
    OpenCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
)
from tallystick.settlement.contract import adjudicator
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import decode_transaction, sign_call, sign_envelope
from tallystick.settlement.execution import prepared
from tallystick.settlement.execution.ahead import Ahead, nobody
from tallystick.settlement.execution.crew import open_crew
from tallystick.settlement.execution.prepared import Alone, Bundles, Crew, Preparation
from tallystick.settlement.execution.threads import open_threads
from tallystick.settlement.simulated.ledger import BlockRecord, Mint, Plan, build_block, mint
from tallystick.settlement.simulated.raw_blocks import RawBlock, build_raw_block
from tallystick.settlement.simulated.world import Layer, World, apply_changes

FIXTURE = ChannelFixture()
RULES = Parameters(1337, FIXTURE.terms.contract)
TOKEN = Address(b"\x70" * 20)
CAROL = PrivateKey(keccak(b"carol"))
ACCOUNTS = (*FIXTURE.keys, CAROL)
PLAN = Plan(RULES, None, 1_000, 30_000_000)

CALLS: tuple[Call, ...] = (
    OpenCall(FIXTURE.terms, 1_000),
    DepositCall(FIXTURE.id, 1, 300),
    FIXTURE.withdrawal(0, 200, 2**40),
    FIXTURE.cooperative_close(900, 200, 2**40),
    FIXTURE.cooperative_close(1_000, 0, 2**40),
    FIXTURE.close(FIXTURE.proof(0, 1, 5), FIXTURE.proof(1, 1, 7)),
    FIXTURE.close(None, FIXTURE.proof(1, 1, 7)),
    FIXTURE.challenge(FIXTURE.proof(1, 2, 30), tower=CAROL.address, victim=1),
    FIXTURE.challenge(FIXTURE.proof(0, 3, 60, seen=2), tower=CAROL.address, victim=0),
    SettleCall(FIXTURE.id),
    RegisterSecretCall(b"s" * 32),
    TransferCall(NATIVE, CAROL.address, 5_000),
    TransferCall(NATIVE, CAROL.address, 10**9),
    TransferCall(NATIVE, FIXTURE.terms.contract, 1),
    TransferCall(TOKEN, CAROL.address, 50),
    ApproveCall(TOKEN, 70),
    BatchCall((FIXTURE.cooperative_close(900, 100, 2**40), RegisterSecretCall(b"s" * 32), FIXTURE.withdrawal(1, 3, 9))),
)

ACTIONS = st.lists(
    st.tuples(
        st.integers(0, len(ACCOUNTS) - 1),
        st.integers(0, len(CALLS) - 1),
        st.sampled_from((0, 0, 0, 0, 0, 1, -1)),
        st.sampled_from((None, None, None, None, 0, 40, -1)),
    ),
    max_size=14,
)
"""Who, what, how far its nonce is off, and which byte is damaged."""


def signed(actions: Sequence[tuple[int, int, int, int | None]]) -> list[bytes]:
    nonces: Counter[int] = Counter()
    raws = []
    for who, what, off, damage in actions:
        nonce = max(0, nonces[who] + off)
        raw = bytearray(sign_call(ACCOUNTS[who], RULES.chain_id, RULES.contract, CALLS[what], nonce, 1))
        nonces[who] += off == 0 and damage is None
        if damage is not None:
            raw[damage] ^= 1
        raws.append(bytes(raw))
    return raws


def world(*, opened: bool) -> World:
    """Everybody has coins and tokens, and there may be a channel."""
    found: World = {}
    genesis = Layer(found)
    for key in ACCOUNTS:
        mint(genesis, RULES, Mint(key.address, NATIVE, 10**8))
        mint(genesis, RULES, Mint(key.address, TOKEN, 1_000))
    apply_changes(found, genesis.changes)
    if opened:
        state = Layer(found)
        raw = sign_call(FIXTURE.keys[0], RULES.chain_id, RULES.contract, CALLS[0], 0, 0)
        build_block(state, PLAN, (), [decode_transaction(raw, RULES.chain_id)])
        state.put(b"n" + FIXTURE.address(0), 0)
        apply_changes(found, state.changes)
    return found


def one_by_one(found: World, raws: Sequence[bytes]) -> tuple[BlockRecord, Layer]:
    """The oracle: each is decoded, looked at and run before the next, as the chain's node does it."""
    state = Layer(found)

    def candidates() -> Iterator[object]:
        for raw in raws:
            try:
                transaction = decode_transaction(raw, RULES.chain_id)
            except TransactionRefused:
                continue
            if transaction.nonce == state.number(b"n" + transaction.sender):
                yield transaction

    return build_block(state, PLAN, (), candidates()), state  # type: ignore[arg-type]


def by(crew: Crew, found: World, raws: Sequence[bytes]) -> tuple[RawBlock, Layer]:
    state = Layer(found)
    return build_raw_block(state, PLAN, (), raws, crew), state


def assert_same(found: World, raws: Sequence[bytes], crew: Crew) -> RawBlock:
    expected, left = one_by_one(found, raws)
    block, state = by(crew, found, raws)
    assert block.record == expected
    assert block.record.header.hash == expected.header.hash
    assert list(state.changes.items()) == list(left.changes.items())
    return block


class Helping:
    """Helpers that run in the owner's thread, when `help` says so."""

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> Bundles:
        return Ahead(preparation.prepare, bundles, self.help)

    def help(self, work: Callable[[], object]) -> None:
        raise NotImplementedError


class Diligent(Helping):
    """Does all the work before its owner has begun."""

    def help(self, work: Callable[[], object]) -> None:
        work()


class Interleaved(Helping):
    """Helpers whose steps come in a seeded order: before the owner begins, and within the work of the others."""

    def __init__(self, seed: int, patch: pytest.MonkeyPatch) -> None:
        self._random = random.Random(seed)
        self._ahead: Ahead[Any, Any] | None = None
        self._depth = 0
        decode, check = prepared.decode_transaction, prepared.verify_signer

        def decode_after(raw: bytes, chain_id: int) -> object:
            self._others()
            return decode(raw, chain_id)

        def check_after(*asked: object) -> None:
            self._others()
            check(*asked)  # type: ignore[arg-type]

        patch.setattr(prepared, "BUNDLE_MIN", 2)
        patch.setattr(prepared, "decode_transaction", decode_after)
        patch.setattr(prepared, "verify_signer", check_after)

    def help(self, work: Callable[[], object]) -> None:
        self._ahead = work.__self__  # type: ignore[attr-defined]
        self._others()

    def _others(self) -> None:
        while self._ahead is not None and self._depth < 5 and self._random.random() < 0.6:
            if self._depth and self._random.random() < 0.1:
                raise RuntimeError("a helper fails")
            self._depth += 1
            try:
                self._ahead._step()
            finally:
                self._depth -= 1


class Failing(Helping):
    """Its helpers claim some, and fail."""

    def help(self, work: Callable[[], object]) -> None:
        ahead: Ahead[Any, Any] = work.__self__  # type: ignore[attr-defined]
        for _ in range(3):
            ahead._claim()


@pytest.fixture(name="monkeypatch_module", scope="module")
def module_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(name="threads", scope="module")
def two_threads(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Crew]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    monkeypatch_module.setattr(prepared, "BUNDLE_MIN", 2)
    with open_threads(2) as crew:
        yield crew
    sys.setswitchinterval(interval)


@given(actions=ACTIONS, opened=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_block_is_what_it_is_one_by_one_whoever_helps(
    actions: list[tuple[int, int, int, int | None]], opened: bool, threads: Crew
) -> None:
    raws, found = signed(actions), world(opened=opened)
    for crew in (Alone(), Diligent(), Failing(), threads):
        assert_same(found, raws, crew)


@pytest.mark.parametrize("seed", range(40))
def test_a_block_is_the_same_in_any_order_of_its_helpers_steps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = random.Random(seed)
    actions = [(choose.randrange(3), choose.randrange(len(CALLS)), 0, None) for _ in range(12)]
    raws, found = signed(actions), world(opened=True)
    with monkeypatch.context() as patch:
        block, state = by(Interleaved(seed, patch), found, raws)
    expected, left = one_by_one(found, raws)
    assert block.record == expected
    assert list(state.changes.items()) == list(left.changes.items())


def test_each_that_is_refused_is_named_with_the_reason(threads: Crew) -> None:
    raws = signed([(0, 11, 0, None), (1, 11, 0, -1), (0, 11, 0, None), (0, 11, 2, None), (0, 11, -2, None)])
    wrong_chain = sign_call(CAROL, 7, RULES.contract, CALLS[11], 0, 1)
    little_gas = raws[0][:10]
    for crew in (Alone(), threads):
        block = assert_same(world(opened=False), [*raws, wrong_chain, little_gas], crew)
        assert len(block.record.entries) in (2, 3)  # the damaged one may be somebody else's, who has no coins
        assert set(block.refused) >= {
            (3, Refusal.NONCE_TOO_HIGH),
            (4, Refusal.NONCE_TOO_LOW),
            (5, Refusal.WRONG_CHAIN),
            (6, Refusal.MALFORMED),
        }


def test_of_too_little_gas_none_is_mined() -> None:
    raw = bytearray(sign_call(CAROL, RULES.chain_id, RULES.contract, CALLS[11], 0, 1))
    decoded = decode_transaction(bytes(raw), RULES.chain_id)
    envelope = decoded.envelope
    cheap = sign_envelope(CAROL, RULES.chain_id, envelope, 0, 1, 1, decoded.gas - 1)
    block, _ = by(Alone(), world(opened=False), [cheap])
    assert block.refused == ((0, Refusal.MALFORMED),)


def test_signatures_in_calls_are_checked_ahead_and_never_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = world(opened=True)
    raws = signed([(0, 5, 0, None), (2, 7, 0, None)])
    checked: list[str] = []
    monkeypatch.setattr(prepared, "verify_signer", lambda *asked: (checked.append("ahead"), verify_signer(*asked)))
    block, _ = by(Diligent(), found, raws)
    assert [entry.execution.success for entry in block.record.entries] == [True, True]
    assert len(checked) == 4 + 3, "each of them once, and all before the first is run"


def test_an_invalid_signature_is_told_as_it_is_one_by_one(threads: Crew) -> None:
    close = FIXTURE.close(FIXTURE.proof(0, 1, 5), FIXTURE.proof(1, 1, 7))
    proof = close.proof0
    assert proof is not None
    for wrong in (b"", bytes(64), proof.signature[:32] + b"\xff" * 32, proof.signature[::-1]):
        forged = replace(close, proof0=replace(proof, countersignature=wrong))
        raw = sign_call(FIXTURE.keys[0], RULES.chain_id, RULES.contract, forged, 0, 1)
        for crew in (Diligent(), threads):
            block = assert_same(world(opened=True), [raw], crew)
            assert block.record.entries[0].execution.reason.startswith("bad-signature: side 1 has not signed this")


# --- the work itself --------------------------------------------------------------------------------------------


def test_an_error_of_the_work_is_raised_in_its_turn_whoever_met_it_first() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item * item

    for help in (nobody, Diligent().help, Failing().help):
        taken = []
        with pytest.raises(ValueError, match="three"):
            for each in Ahead(work, range(9), help):
                taken.append(each)
        assert taken == [0, 1, 4]


def test_a_helper_that_stands_still_is_not_waited_for() -> None:
    stand, claimed = threading.Event(), threading.Event()

    def work(item: int) -> int:
        if threading.current_thread() is not owner:
            claimed.set()
            stand.wait(60)
        elif item == 0:
            claimed.wait(60)
        return item

    owner = threading.current_thread()
    with open_threads(1) as crew:
        ahead = Ahead(work, range(50), crew._help)
        assert list(ahead) == list(range(50))
        assert len(ahead.again) == 1, "what the helper claimed was made by the owner, once it had nothing else to do"
        stand.set()


def test_an_owner_that_gives_up_stops_its_helpers() -> None:
    made: list[int] = []
    helpers: list[Callable[[], object]] = []

    results = iter(Ahead(made.append, range(50), helpers.append))
    next(results)
    results.close()  # type: ignore[attr-defined]
    helpers[0]()
    assert made == [0]


def test_a_crew_of_none_is_the_caller_alone() -> None:
    with open_crew(0) as crew:
        assert isinstance(crew, Alone)


def test_every_rule_asks_the_verifier_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a signature would be checked in its turn, though it was checked ahead."""
    monkeypatch.setattr(adjudicator, "verify_signer", lambda *asked: pytest.fail("asked behind the verifier's back"))
    for what in (2, 4, 5):
        assert_same(world(opened=True), signed([(0, what, 0, None)]), Alone())
