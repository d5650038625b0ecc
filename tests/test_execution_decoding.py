"""The fast way into a transaction finds what the slow one finds, or nothing."""

from __future__ import annotations

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import RegisterSecretCall, TransferCall
from tallystick.settlement.errors import Revert, Reverted, TransactionRefused
from tallystick.settlement.ethereum import abi, transactions
from tallystick.settlement.ethereum.abi import BATCH, Deployment, Envelope, decode_single, read_batch
from tallystick.settlement.ethereum.fast_fields import TransactionFields, read_fields
from tallystick.settlement.ethereum.transactions import (
    BASE_GAS,
    OUTBOX,
    OUTBOX_GAS,
    Transaction,
    decode_transaction,
    gas_of,
    read_envelope,
    sign_call,
)
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.simulated.branch import ADJUDICATOR

AT = Deployment(1337, ADJUDICATOR)
KEY = PrivateKey(keccak(b"decoding"))
GOOD = sign_call(KEY, *AT, RegisterSecretCall(b"g" * 32), 3, 7)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def numbers(most: int) -> st.SearchStrategy[bytes]:
    """Numbers as they are written, some of them with a zero in front or too long."""
    good = st.one_of(st.integers(0, 300), st.integers(0, most)).map(
        lambda value: value.to_bytes(-(-value.bit_length() // 8))
    )
    return st.one_of(good, good, good, good, st.binary(max_size=34))


FIELDS = st.tuples(
    st.one_of(st.just(b"\x05\x39"), numbers(2**64)),
    numbers(2**64),
    numbers(2**128),
    st.one_of(st.just(b"\xff" * 16), numbers(2**128)),
    numbers(2**64),
    st.one_of(st.binary(min_size=20, max_size=20), st.binary(max_size=21)),
    numbers(2**128),
    st.one_of(st.binary(max_size=2), st.binary(min_size=50, max_size=70), st.binary(min_size=250, max_size=260)),
    st.one_of(st.just([]), st.just([]), st.just([]), st.just([b""]), st.just(b"")),
    st.one_of(st.sampled_from((b"", b"\1")), numbers(300)),
    numbers(2**256 - 1),
    st.one_of(numbers(ORDER // 2), numbers(2**256 - 1)),
)


def said(raw: bytes) -> Transaction | tuple[object, str]:
    try:
        return decode_transaction(raw, AT.chain_id)
    except TransactionRefused as error:
        return error.code, str(error)


def slowly(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Transaction | tuple[object, str]:
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "read_fields", lambda raw: None)
        return said(raw)


@pytest.fixture(name="patch", scope="module")
def module_patch() -> pytest.MonkeyPatch:
    return pytest.MonkeyPatch()


@given(fields=FIELDS)
@settings(max_examples=400, deadline=None)
def test_any_fields_are_taken_or_refused_as_by_the_slow_way(
    fields: tuple[object, ...], patch: pytest.MonkeyPatch
) -> None:
    raw = b"\x02" + rlp.encode(list(fields))
    assert said(raw) == slowly(raw, patch)


@given(data=st.data())
@settings(max_examples=600, deadline=None)
def test_a_damaged_transaction_is_taken_or_refused_as_by_the_slow_way(
    data: st.DataObject, patch: pytest.MonkeyPatch
) -> None:
    call = data.draw(st.sampled_from((RegisterSecretCall(b"s" * 32), TransferCall(NATIVE, KEY.address, 5))))
    raw = bytearray(sign_call(KEY, *AT, call, data.draw(st.integers(0, 300)), 7))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                raw[at] = data.draw(
                    st.sampled_from((0, 1, 0x7F, 0x80, 0x81, 0xB7, 0xB8, 0xC0, 0xF7, 0xF8, raw[at] ^ 1))
                )
            case 1:
                del raw[at]
            case _:
                raw.insert(at, data.draw(st.integers(0, 255)))
        if not raw:
            return
    assert said(bytes(raw)) == slowly(bytes(raw), patch)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("first", [0, 0x7F, 0x80])
def test_data_of_every_length_is_read_fast(size: int, first: int) -> None:
    word = b"\1" * 32
    to, payload = bytes(20), bytes([first]) * size
    fields = [b"\x05\x39", b"", b"\1", b"\2", b"\x52\x08", to, b"\3", payload, [], b"\1", word, b"\4"]
    found = read_fields(b"\x02" + rlp.encode(fields))
    digest = keccak(b"\x02" + rlp.encode(fields[:9]))
    expected = TransactionFields(1337, 0, 1, 2, 21_000, to, 3, payload, 1, word + bytes(31) + b"\4", digest)
    assert found == expected


def test_what_is_signed_here_goes_the_fast_way() -> None:
    assert read_fields(sign_call(KEY, *AT, RegisterSecretCall(b"s" * 32), 0, 7)) is not None


@pytest.mark.parametrize("to", [ADJUDICATOR, OUTBOX, bytes(20), *MODULES_AT])
@pytest.mark.parametrize("data", [b"", b"\1\2\3\4"])
def test_an_envelope_is_read_as_the_call_it_decodes_to(to: bytes, data: bytes) -> None:
    envelope = Envelope(Address(to), 5, data)
    reading = read_envelope(envelope, AT)
    try:
        call = decode_single(envelope, AT)
    except Reverted as error:
        assert isinstance(reading.call, Reverted) or to == OUTBOX
        assert reading.call is envelope or (str(reading.call), reading.gas) == (str(error), BASE_GAS)
    else:
        assert (reading.call, reading.gas) == ((envelope, OUTBOX_GAS) if to == OUTBOX else (call, gas_of(call)))


def test_the_same_signature_with_a_high_s_is_refused_on_every_way() -> None:
    fields = rlp.decode(GOOD[1:])
    fields[9] = b"" if fields[9] else b"\1"
    fields[11] = (ORDER - int.from_bytes(fields[11])).to_bytes(32)
    high = b"\x02" + rlp.encode(fields)
    assert read_fields(high) is not None
    with pytest.raises(TransactionRefused, match="high s"):
        decode_transaction(high, AT.chain_id)


def test_a_batch_of_more_calls_than_may_be_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of thousands of them may be said to be the same large one, which would be copied as often."""
    words = [32, 2_000, *[32 * 2_000] * 2_000, 60_000]
    data = BATCH.selector + b"".join(word.to_bytes(32, "big") for word in words) + bytes(60_000)
    monkeypatch.setattr(abi, "decode_values", lambda types, data: pytest.fail("it was read"))
    with pytest.raises(Reverted) as refused:
        read_batch(Envelope(AT.contract, 0, data), AT)
    assert refused.value.code == Revert.UNKNOWN_CALL
