"""Calls, transactions and events in Ethereum's encodings: each comes back as it was, garbage is refused by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
import rlp
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak as ethereum_keccak
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulation.module_ledger import ASSETS, calldata
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import (
    NATIVE,
    ZERO32,
    Address,
    BalanceProof,
    ChannelId,
    CooperativeClose,
    Lock,
    SignedProof,
    Terms,
    Voucher,
    Withdrawal,
)
from tallystick.settlement.chain import (
    BATCHED_SIZE,
    ApproveCall,
    BatchCall,
    Call,
    ChallengeCall,
    Challenged,
    ChannelOpened,
    CloseCall,
    Closed,
    CooperativeCloseCall,
    CooperativelyClosed,
    DepositCall,
    Deposited,
    Event,
    LinkRegistered,
    ModuleCall,
    OpenCall,
    RedeemCall,
    Redeemed,
    RegisterLinkCall,
    RegisterSecretCall,
    SecretRegistered,
    SettleCall,
    Settled,
    SingleCall,
    TransferCall,
    WithdrawCall,
    Withdrawn,
)
from tallystick.settlement.errors import ChainError, Refusal, Revert, Reverted, TransactionRefused
from tallystick.settlement.ethereum.abi import BATCH, Deployment, Envelope, decode_call, encode_call
from tallystick.settlement.ethereum.accounts import Account
from tallystick.settlement.ethereum.event_logs import Log, decode_event, encode_event
from tallystick.settlement.ethereum.transactions import (
    TRANSACTION_MAX,
    decode_transaction,
    gas_of,
    read_envelope,
    sign_call,
    transaction_hash,
)
from tallystick.settlement.ethereum.views import BALANCE_OF
from tallystick.settlement.modules.exchange import EXCHANGE
from tallystick.settlement.simulated.branch import ADJUDICATOR

AT = Deployment(1337, ADJUDICATOR)
KEY = PrivateKey(keccak(b"alice"))

WORDS = st.binary(min_size=32, max_size=32)
IDS = WORDS.map(ChannelId)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
NAMED = ADDRESSES.filter(lambda address: address not in (NATIVE, ADJUDICATOR))
SIDES = st.integers(0, 255)
UINT64 = st.integers(0, 2**64 - 1)
AMOUNTS = st.integers(0, 2**128 - 1)
SIGNATURES = st.binary(max_size=70)
PROOFS = st.builds(
    SignedProof,
    st.builds(BalanceProof, IDS, SIDES, UINT64, AMOUNTS, AMOUNTS, WORDS, UINT64),
    st.binary(min_size=1, max_size=70),
    SIGNATURES,
)
PAIRS = st.tuples(NAMED, NAMED).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: tuple(sorted(pair)))
TERMS = st.builds(Terms, st.just(AT.chain_id), st.just(AT.contract), PAIRS, ADDRESSES, UINT64, UINT64, WORDS)
LOCKS = st.builds(Lock, UINT64, AMOUNTS, UINT64, SIDES, WORDS)


@st.composite
def challenges(draw: st.DrawFn) -> ChallengeCall:
    proof = draw(PROOFS)
    if draw(st.booleans()):
        return ChallengeCall(proof)
    return ChallengeCall(proof, Voucher(proof.proof.channel, draw(NAMED)), draw(SIGNATURES))


SINGLE: st.SearchStrategy[SingleCall] = st.one_of(
    st.builds(OpenCall, TERMS, AMOUNTS),
    st.builds(DepositCall, IDS, SIDES, AMOUNTS, ADDRESSES),
    st.builds(WithdrawCall, st.builds(Withdrawal, IDS, SIDES, AMOUNTS, UINT64), SIGNATURES, SIGNATURES),
    st.builds(CooperativeCloseCall, st.builds(CooperativeClose, IDS, AMOUNTS, AMOUNTS, UINT64), SIGNATURES, SIGNATURES),
    st.builds(CloseCall, IDS, st.none() | PROOFS, st.none() | PROOFS, WORDS),
    challenges(),
    st.builds(SettleCall, IDS),
    st.builds(RedeemCall, IDS, SIDES, st.lists(LOCKS, max_size=5).map(tuple)),
    st.builds(RegisterSecretCall, WORDS),
    st.builds(RegisterLinkCall, WORDS, UINT64, WORDS, AMOUNTS, UINT64, UINT64),
    st.builds(TransferCall, NAMED | st.just(NATIVE), NAMED, AMOUNTS),
    st.builds(ApproveCall, NAMED, AMOUNTS),
    st.builds(
        lambda amount, value: ModuleCall(
            EXCHANGE.address, calldata("exchange", "swap", *ASSETS[:2], 0, amount, 0, 2**63), value
        ),
        AMOUNTS,
        AMOUNTS,
    ),
)
TOGETHER = st.one_of(
    st.builds(CooperativeCloseCall, st.builds(CooperativeClose, IDS, AMOUNTS, AMOUNTS, UINT64), SIGNATURES, SIGNATURES),
    challenges(),
    st.builds(SettleCall, IDS),
    st.builds(RedeemCall, IDS, SIDES, st.lists(LOCKS, max_size=5).map(tuple)),
    st.builds(RegisterSecretCall, WORDS),
    st.builds(RegisterLinkCall, WORDS, UINT64, WORDS, AMOUNTS, UINT64, UINT64),
)
"""Calls that travel in batches."""
CALLS: st.SearchStrategy[Call] = SINGLE | st.builds(BatchCall, st.lists(TOGETHER, min_size=1, max_size=5).map(tuple))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(ChannelOpened, IDS, TERMS),
    st.builds(Deposited, IDS, SIDES, AMOUNTS),
    st.builds(Withdrawn, IDS, SIDES, AMOUNTS),
    st.builds(CooperativelyClosed, IDS, AMOUNTS, AMOUNTS),
    st.builds(Closed, IDS, SIDES, UINT64, UINT64, WORDS, UINT64),
    st.builds(Challenged, IDS, SIDES, UINT64, ADDRESSES, st.booleans()),
    st.builds(Settled, IDS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.booleans()),
    st.builds(LinkRegistered, WORDS, WORDS, UINT64, WORDS, AMOUNTS, UINT64, UINT64),
    st.builds(Redeemed, IDS, SIDES, AMOUNTS, AMOUNTS, WORDS),
    st.builds(SecretRegistered, WORDS, WORDS, UINT64),
)


@given(CALLS)
@settings(max_examples=200, deadline=None)
def test_every_call_survives_the_way_into_calldata_and_back(call: Call) -> None:
    assert decode_call(encode_call(call, AT), AT) == call


@given(CALLS, st.integers(0, 2**63), st.integers(0, 2**64))
@settings(max_examples=60, deadline=None)
def test_every_call_survives_signing_and_decoding(call: Call, nonce: int, price: int) -> None:
    raw = sign_call(KEY, AT.chain_id, AT.contract, call, nonce, price)
    decoded = decode_transaction(raw, AT.chain_id)
    assert (decoded.sender, decoded.nonce, decoded.price, decoded.raw) == (KEY.address, nonce, price, raw)
    assert decoded.hash == transaction_hash(raw) == ethereum_keccak(raw)
    assert decode_call(decoded.envelope, AT) == call
    assert decoded.gas == gas_of(call) == read_envelope(decoded.envelope, AT).gas
    fields = {"type": 2, "chainId": AT.chain_id, "nonce": nonce, "gas": decoded.gas, "value": decoded.envelope.value}
    fields |= {"maxFeePerGas": price, "maxPriorityFeePerGas": price, "data": decoded.envelope.data}
    fields["to"] = to_checksum_address(decoded.envelope.to)
    assert raw == Account.sign_transaction(fields, KEY.reveal()).raw_transaction


@given(EVENTS)
@settings(max_examples=200, deadline=None)
def test_every_event_survives_the_way_into_a_log_and_back(event: Event) -> None:
    assert decode_event(encode_event(event), AT) == event


def test_selectors_and_topics_are_those_of_solidity() -> None:
    assert encode_call(TransferCall(Address(b"\x70" * 20), NATIVE, 1), AT).data[:4].hex() == "a9059cbb"
    assert encode_call(ApproveCall(Address(b"\x70" * 20), 1), AT).data[:4].hex() == "095ea7b3"
    assert encode_call(SettleCall(ChannelId(ZERO32)), AT).data[:4] == ethereum_keccak(b"settle(bytes32)")[:4]
    log = encode_event(Deposited(ChannelId(ZERO32), 1, 5))
    assert log.topics[0] == ethereum_keccak(b"Deposited(bytes32,uint8,uint128)")


@given(st.binary(max_size=300), st.integers(0, 2**64), st.sampled_from([ADJUDICATOR, Address(b"\x70" * 20)]))
@example(b"", 5, ADJUDICATOR)
@settings(max_examples=150, deadline=None)
def test_calldata_that_is_no_call_is_refused_and_has_a_gas_price(data: bytes, value: int, to: Address) -> None:
    envelope = Envelope(to, value, data)
    assert read_envelope(envelope, AT).gas > 0
    if to == ADJUDICATOR or data:
        with pytest.raises(Reverted) as caught:
            decode_call(envelope, AT)
        assert caught.value.code is Revert.UNKNOWN_CALL


@given(CALLS, st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_calldata_never_raises_anything_but_reverted(call: Call, data: st.DataObject) -> None:
    envelope = encode_call(call, AT)
    damaged = bytearray(envelope.data)
    for index in data.draw(st.lists(st.integers(4, max(4, len(damaged) - 1)), max_size=6)):
        if index < len(damaged):
            damaged[index] = data.draw(st.integers(0, 255))
    try:
        decode_call(
            msgspec.structs.replace(envelope, data=bytes(damaged[: data.draw(st.integers(0, len(damaged)))])), AT
        )
    except Reverted as error:
        assert error.code in (Revert.UNKNOWN_CALL, Revert.BAD_TERMS, Revert.BAD_AMOUNT)


def terms(**change: Any) -> Terms:
    made = Terms(*AT, (Address(b"\1" * 20), Address(b"\2" * 20)), NATIVE, 0, 600, ZERO32)
    return msgspec.structs.replace(made, **change)


PROOF = SignedProof(BalanceProof(ChannelId(ZERO32), 0, 1), b"s", b"c")


@pytest.mark.parametrize(
    "call",
    [
        OpenCall(terms(chain_id=1), 0),
        OpenCall(terms(contract=NATIVE), 0),
        OpenCall(terms(), 2**128),
        OpenCall(terms(), -1),
        SettleCall(ChannelId(b"short")),
        RegisterSecretCall(b"short"),
        TransferCall(NATIVE, ADJUDICATOR, -1),
        ApproveCall(NATIVE, 1),
        ApproveCall(Address(b"\x70" * 20), 2**128),
        ChallengeCall(PROOF, None, b"signature"),
        ChallengeCall(PROOF, Voucher(ChannelId(b"\1" * 32), ADJUDICATOR), b"s"),
        ChallengeCall(PROOF, Voucher(ChannelId(ZERO32), NATIVE), b"s"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_signed(call: Call) -> None:
    with pytest.raises(InvalidInput):
        encode_call(call, AT)


def test_signing_refuses_numbers_out_of_range_and_too_many_locks() -> None:
    with pytest.raises(InvalidInput):
        sign_call(KEY, *AT, SettleCall(ChannelId(ZERO32)), -1, 1)
    with pytest.raises(InvalidInput):
        sign_call(KEY, *AT, SettleCall(ChannelId(ZERO32)), 0, -1)
    many = (Lock(1, 1, 1, 0, ZERO32),) * (LOCKS_MAX + 1)
    with pytest.raises(InvalidInput):
        sign_call(KEY, *AT, RedeemCall(ChannelId(ZERO32), 0, many), 0, 1)
    full = sign_call(KEY, *AT, RedeemCall(ChannelId(ZERO32), 0, many[:LOCKS_MAX]), 0, 1)
    assert len(full) < TRANSACTION_MAX and decode_transaction(full, AT.chain_id).gas < 30_000_000


def test_a_call_must_carry_exactly_its_value() -> None:
    envelope = encode_call(OpenCall(terms(), 5), AT)
    assert envelope.value == 5
    for wrong in (4, 6, 0):
        with pytest.raises(Reverted) as caught:
            decode_call(msgspec.structs.replace(envelope, value=wrong), AT)
        assert caught.value.code is Revert.BAD_AMOUNT


def test_terms_in_the_wrong_order_and_foreign_approvals_are_refused() -> None:
    good = encode_call(OpenCall(terms(), 0), AT)
    swapped = good.data[:4] + good.data[36:68] + good.data[4:36] + good.data[68:]
    with pytest.raises(Reverted) as caught:
        decode_call(msgspec.structs.replace(good, data=swapped), AT)
    assert caught.value.code is Revert.BAD_TERMS
    approval = encode_call(ApproveCall(Address(b"\x70" * 20), 1), AT)
    with pytest.raises(Reverted) as caught:
        decode_call(approval, Deployment(AT.chain_id, Address(b"\5" * 20)))
    assert caught.value.code is Revert.UNKNOWN_CALL
    endless = msgspec.structs.replace(approval, data=approval.data[:36] + b"\xff" * 32)
    assert decode_call(endless, AT) == ApproveCall(Address(b"\x70" * 20), 2**128 - 1)


@pytest.mark.parametrize(
    "log",
    [
        Log((), b""),
        Log((ZERO32, ZERO32), b""),
        Log(encode_event(Deposited(ChannelId(ZERO32), 1, 5)).topics, b"short"),
        Log(encode_event(ChannelOpened(ChannelId(ZERO32), terms())).topics, bytes(6 * 32)),
    ],
)
def test_a_log_that_is_no_event_is_a_chain_error(log: Log) -> None:
    with pytest.raises(ChainError):
        decode_event(log, AT)


def test_a_view_names_itself_when_an_answer_or_a_question_cannot_be_read() -> None:
    for read, data in ((BALANCE_OF.decode_result, b"\1"), (BALANCE_OF.decode_call, BALANCE_OF.selector)):
        with pytest.raises(InvalidInput, match="this is not what balanceOf takes or answers: Tried to"):
            read(data)


# --- raw transactions -------------------------------------------------------------------------------------------


def fields() -> list[Any]:
    raw = sign_call(KEY, *AT, RegisterSecretCall(b"s" * 32), 3, 7)
    decoded: list[Any] = rlp.decode(raw[1:])
    return decoded


def refusal(raw: bytes) -> Refusal:
    with pytest.raises(TransactionRefused) as caught:
        decode_transaction(raw, AT.chain_id)
    return caught.value.code


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused_and_nothing_else_happens(data: bytes, typed: bool) -> None:
    assert refusal(b"\x02" * typed + data) in (Refusal.MALFORMED, Refusal.WRONG_CHAIN, Refusal.BAD_SIGNATURE)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_transaction_is_refused_or_another_senders(data: st.DataObject) -> None:
    raw = bytearray(b"\x02" + rlp.encode(fields()))
    index = data.draw(st.integers(0, len(raw) - 1))
    raw[index] ^= data.draw(st.integers(1, 255))
    with suppress(TransactionRefused):
        assert decode_transaction(bytes(raw), AT.chain_id).sender != KEY.address


@pytest.mark.parametrize(
    ("index", "value", "code"),
    [
        (0, b"\x01", Refusal.WRONG_CHAIN),
        (1, b"\x00\x03", Refusal.MALFORMED),
        (1, b"\x01" + bytes(8), Refusal.MALFORMED),
        (2, b"\x08", Refusal.MALFORMED),
        (4, b"\x01" + bytes(8), Refusal.MALFORMED),
        (5, b"", Refusal.MALFORMED),
        (6, b"\x01" + bytes(16), Refusal.MALFORMED),
        (6, b"\x01" * 33, Refusal.MALFORMED),
        (7, [b"data"], Refusal.MALFORMED),
        (8, [b"\x01" * 20], Refusal.MALFORMED),
        (8, b"", Refusal.MALFORMED),
        (9, b"\x02", Refusal.BAD_SIGNATURE),
        (10, b"", Refusal.BAD_SIGNATURE),
        (10, b"\xff" * 32, Refusal.BAD_SIGNATURE),
        (11, b"\xff" * 32, Refusal.BAD_SIGNATURE),
    ],
)
def test_each_field_of_a_transaction_is_checked(index: int, value: Any, code: Refusal) -> None:
    changed = fields()
    changed[index] = value
    assert refusal(b"\x02" + rlp.encode(changed)) is code


def test_other_kinds_too_long_ones_and_trailing_bytes_are_malformed() -> None:
    good = b"\x02" + rlp.encode(fields())
    for raw in (
        b"",
        b"\x01" + good[1:],
        good + b"\0",
        b"\x02" + bytes(TRANSACTION_MAX),
        b"\x02" + rlp.encode([b""] * 11),
    ):
        assert refusal(raw) is Refusal.MALFORMED
    assert refusal(b"\x02" + b"\xc1" * 2_000) is Refusal.MALFORMED
    assert decode_transaction(good, AT.chain_id).sender == KEY.address


@given(SINGLE)
@settings(max_examples=60, deadline=None)
def test_what_pays_or_is_too_long_is_in_no_batch(call: SingleCall) -> None:
    envelope = encode_call(call, AT)
    fits = envelope.to == AT.contract and not envelope.value and len(envelope.data) <= BATCHED_SIZE
    if fits:
        assert encode_call(BatchCall((call,)), AT).value == 0
    else:
        with pytest.raises(InvalidInput, match="without coins"):
            encode_call(BatchCall((call,)), AT)


def test_a_batch_has_room_for_what_travels_in_batches_and_no_more() -> None:
    call = RegisterSecretCall(ZERO32)
    assert gas_of(BatchCall((call, call))) < 2 * gas_of(call)
    with pytest.raises(InvalidInput, match="from 1 to 100"):
        encode_call(BatchCall((call,) * 101), AT)
    with pytest.raises(InvalidInput, match="from 1 to 100"):
        encode_call(BatchCall(()), AT)
    one = encode_call(call, AT).data
    for calls in ([one] * 101, [one + bytes(1_024)]):
        with pytest.raises(Reverted) as caught:
            decode_call(Envelope(AT.contract, 0, BATCH.encode_call(calls)), AT)
        assert caught.value.code is Revert.UNKNOWN_CALL
    with pytest.raises(Reverted) as caught:
        decode_call(Envelope(AT.contract, 1, BATCH.encode_call([one])), AT)
    assert caught.value.code is Revert.BAD_AMOUNT
