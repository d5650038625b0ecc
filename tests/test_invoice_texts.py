"""Invoices: one text each, signed; whatever is changed, unknown or for somebody else is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.router.errors import InvalidInvoice
from tallystick.router.invoices import bech32
from tallystick.router.invoices.invoice import (
    HINTS_MAX,
    LOCK_LIFE_MAX,
    MULTI_PART,
    TEXT_MAX,
    Invoice,
    check_payable,
    decode_invoice,
    encode_invoice,
)
from tallystick.router.invoices.qr import as_png, as_svg, as_text
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.onion.tlv import decode_records, encode_records

KEY = PrivateKey(b"\x41" * 32)
PAYEE = NodeKey(bytes(KEY.public))
CONTRACT = Address(b"\xc0" * 20)
TOKEN = Address(b"\x70" * 20)
NOW = 1_700_000_000
EDGE = Edge(
    ChannelId(b"\x0c" * 32),
    NodeKey(bytes(PrivateKey(b"\x42" * 32).public)),
    PAYEE,
    10**18,
    ForwardingPolicy(base_fee=1, fee_ppm=100, maximum=2**80),
)
PLAIN = Invoice(
    payee=PAYEE,
    payment_hash=bytes(range(32)),
    payment_secret=bytes(range(32, 64)),
    chain_id=31337,
    contract=CONTRACT,
    amount=25_000,
    created=NOW,
    memo="a cup of coffee",
)
TEXT = encode_invoice(PLAIN, KEY)

bytes32 = st.binary(min_size=32, max_size=32)
times = st.integers(0, UINT64_MAX)
memos = st.one_of(
    st.tuples(st.text(max_size=60), st.just(b"")),
    st.tuples(st.just(""), bytes32),
)
invoices = st.builds(
    lambda memo, **fields: Invoice(payee=PAYEE, memo=memo[0], memo_hash=memo[1], **fields),
    memo=memos,
    payment_hash=bytes32,
    payment_secret=bytes32,
    chain_id=times,
    contract=st.binary(min_size=20, max_size=20).map(Address),
    asset=st.sampled_from([NATIVE, TOKEN]),
    amount=st.none() | st.integers(1, AMOUNT_MAX),
    created=times,
    lifetime=times,
    lock_life=times,
    metadata=st.binary(max_size=100),
    features=st.sampled_from([0, 1 << MULTI_PART, 1 << MULTI_PART + 1, 1 << 255]),
    hints=st.lists(st.just(EDGE), max_size=3).map(tuple),
)


def resigned(change: Callable[[dict[int, bytes]], None], prefix: str = "tally31337") -> str:
    """Return PLAIN's text with its records changed, and signed by the payee all the same."""
    body = bech32.decode(TEXT)[1][:-64]
    records = decode_records(body[1:], range(65))
    change(records)
    return signed(prefix, body[:1] + encode_records(records))


def signed(prefix: str, body: bytes, key: PrivateKey = KEY) -> str:
    digest = keccak(b"Tallystick invoice\n" + prefix.encode() + b"\n" + body)
    return bech32.encode(prefix, body + key.sign(digest))


@given(invoices)
def test_what_is_written_is_read_in_either_case(invoice: Invoice) -> None:
    text = encode_invoice(invoice, KEY)
    assert text.startswith(f"tally{invoice.chain_id}1")
    assert decode_invoice(text) == decode_invoice(f"  {text.upper()}\n") == invoice
    assert encode_invoice(decode_invoice(text), KEY) == text


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8", exclude_categories=("Cs",)))
def test_no_character_can_be_changed(place: int, wrong: str) -> None:
    if (TEXT[:place] + wrong + TEXT[place + 1 :]).strip() == TEXT:
        return
    with pytest.raises(InvalidInvoice):
        decode_invoice(TEXT[:place] + wrong + TEXT[place + 1 :])


def test_no_character_can_be_changed_to_another_of_the_alphabet_or_to_a_look_alike() -> None:
    for place, right in enumerate(TEXT):
        for wrong in (bech32.ALPHABET[place % 32], "1", "\u212a", "\u017f"):  # the lower case of the Kelvin sign is k
            if wrong != right:
                for text in (
                    TEXT[:place] + wrong + TEXT[place + 1 :],
                    TEXT[:place].upper() + wrong + TEXT[place + 1 :].upper(),
                ):
                    with pytest.raises(InvalidInvoice):
                        decode_invoice(text)


@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)))
def test_no_part_of_a_text_is_an_invoice(start: int, end: int) -> None:
    if TEXT[start:end] != TEXT:
        with pytest.raises(InvalidInvoice):
            decode_invoice(TEXT[start:end])


@given(st.binary(max_size=300))
def test_noise_with_a_good_checksum_is_refused(noise: bytes) -> None:
    for data in (noise, b"\x01" + noise):
        with pytest.raises(InvalidInvoice):
            decode_invoice(bech32.encode("tally31337", data))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda records: records.pop(6), "record 6 is missing"),
        (lambda records: records.update({4: b""}), "amount must be"),
        (lambda records: records.update({4: b"\0\1"}), "leading zeros"),
        (lambda records: records.update({4: b"\1" * 17}), "17 bytes"),
        (lambda records: records.update({6: bytes(31)}), "wrong number of bytes"),
        (lambda records: records.update({16: NATIVE}), "the one way"),
        (lambda records: records.update({24: b""}), "the one way"),
        (lambda records: records.update({18: b""}), "the one way"),
        (lambda records: records.update({20: b"\x90"}), "the one way"),
        (lambda records: records.update({20: b"\xc1"}), "no message"),
        (lambda records: records.update({20: b"\x91" + b"\x95" + b"\x00" * 5}), "no message"),
        (lambda records: records.update({3: b"\xff"}), "UTF-8"),
        (lambda records: records.update({5: bytes(32)}), "not both"),
        (lambda records: records.update({26: b"new"}), "record 26 is unknown"),
        (lambda records: records.update({18: b"\x01"}), "feature 0, which is not known"),
        (lambda records: records.update({18: b"\x40\x00\x00"}), "feature 22, which is not known"),
        (lambda records: records.update({2: bytes(33)}), "public key"),
        (lambda records: records.update({2: EDGE.source}), "not signed by its payee"),
    ],
)
def test_what_a_payee_must_not_sign_is_refused_with_the_reason(
    change: Callable[[dict[int, bytes]], None], why: str
) -> None:
    with pytest.raises(InvalidInvoice, match=why):
        decode_invoice(resigned(change))


def test_what_may_be_ignored_is_ignored() -> None:
    later = resigned(lambda records: records.update({27: b"new", 18: b"\x80\x00\x00"}))
    assert decode_invoice(later) == msgspec.structs.replace(PLAIN, features=1 << 23)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no invoice of Tallystick"),
        ("lnbc1qqqqqq", "no invoice of Tallystick"),
        ("tally" * 1_000, f"at most {TEXT_MAX}"),
        (TEXT[:-1] + TEXT[-1].upper(), "mixes upper and lower"),
        (TEXT[:80], "copied wrongly"),
        (bech32.encode("tally", b"\1"), "names no chain"),
        (bech32.encode("tally01", b"\1"), "names no chain"),
        (bech32.encode("tallyx1", b"\1"), "names no chain"),
        (bech32.encode(f"tally{2**64}", b"\1"), "names no chain"),
        (signed("tally31337", b"\2" + bytes(9)), "version that is not known"),
        (bech32.encode("tally31337", b""), "version that is not known"),
        (signed("tally31337", b"\1", PrivateKey(b"\x09" * 32)), "record 2 is missing"),
    ],
)
def test_what_is_no_invoice_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidInvoice, match=why):
        decode_invoice(text)


def test_an_invoice_of_one_chain_is_none_of_another() -> None:
    data = bech32.decode(TEXT)[1]
    with pytest.raises(InvalidInvoice, match="not signed by its payee"):
        decode_invoice(bech32.encode("tally1", data))


def test_an_invoice_is_signed_by_its_payee_only_and_has_limits() -> None:
    with pytest.raises(InvalidInput, match="another's"):
        encode_invoice(PLAIN, PrivateKey(b"\x42" * 32))
    full = msgspec.structs.replace(
        PLAIN, memo="m" * 256, metadata=bytes(256), amount=AMOUNT_MAX, hints=(EDGE,) * HINTS_MAX
    )
    assert decode_invoice(encode_invoice(full, KEY)) == full
    for fields, why in (
        ({"hints": (EDGE,) * (HINTS_MAX + 1)}, "at most 8 route hints"),
        ({"hints": (msgspec.structs.replace(EDGE, source=NodeKey(b"\2")),)}, "possible channel"),
        ({"hints": (msgspec.structs.replace(EDGE, capacity=-1),)}, "possible channel"),
        ({"memo": "m" * 257}, "at most 256"),
        ({"memo_hash": bytes(32)}, "not both"),
        ({"memo_hash": bytes(31), "memo": ""}, "number of bytes"),
        ({"amount": 0}, "amount must be"),
        ({"amount": 2**128}, "amount must be"),
        ({"created": 2**64}, "times"),
        ({"features": 1 << 256}, "256 bits"),
    ):
        with pytest.raises(InvalidInput, match=why):
            msgspec.structs.replace(PLAIN, **fields)


def test_a_hint_whose_node_is_no_key_is_refused() -> None:
    hint = msgspec.structs.replace(EDGE, source=NodeKey(bytes(33)))
    with pytest.raises(InvalidInvoice, match="public key"):
        decode_invoice(encode_invoice(msgspec.structs.replace(PLAIN, hints=(hint,)), KEY))


def test_what_a_node_can_pay() -> None:
    def payable(invoice: Invoice = PLAIN, now: int = NOW, amount: int | None = None) -> int:
        return check_payable(invoice, chain_id=31337, contract=CONTRACT, assets=(NATIVE,), now=now, amount=amount)

    open_amount = msgspec.structs.replace(PLAIN, amount=None)
    assert payable() == 25_000 and payable(amount=50_000) == 50_000 and payable(now=NOW + 3_599) == 25_000
    assert payable(open_amount, amount=7) == 7
    for invoice, now, amount, why in (
        (PLAIN, NOW + 3_600, None, "expired 0 seconds ago"),
        (PLAIN, NOW, 24_999, "asks for 25000"),
        (PLAIN, NOW, 50_001, "at most twice"),
        (open_amount, NOW, None, "names no amount"),
        (open_amount, NOW, 0, "amount must be"),
        (msgspec.structs.replace(PLAIN, chain_id=1), NOW, None, "for chain 1 "),
        (msgspec.structs.replace(PLAIN, contract=TOKEN), NOW, None, "contract 0x7070"),
        (msgspec.structs.replace(PLAIN, asset=TOKEN), NOW, None, "asks for asset 0x7070"),
    ):
        with pytest.raises(InvalidInput, match=why):
            payable(invoice, now, amount)
    assert PLAIN.takes_parts and not msgspec.structs.replace(PLAIN, features=0).takes_parts


def test_an_invoice_keeps_its_text_for_ever() -> None:
    assert TEXT == (
        "tally313371qypzzqhwcuj966ma9n9nqwqtl032xeyv6755yeflt235pmww58egx6rxryps7cfqvd6hqgr0vcsxxmmxvejk2pqzv"
        "x5qvgqqqypqxpq9qcrsszg2pvxq6rs0zqg3yyc5z5tpwxqergd3c8g7ruyzqgppyg3jgffxyu5zj23t9skjutesxyerxdp4xcmns"
        "wf68v7r603lpgzx25l3qqxqyrsspc2vpsxqcrqvpsxqcrqvpsxqcrqvpsxqcrqpyqczqqqpvqsztqyj3t4j4eagya3xt5rszu2kz"
        "3pnlxw8lnnn7pn268fn6vv7nenm6l6309d9ekm7cd36nd5sp7au8m94ldzlc8rhw69wu32dyg87jj8y24hauz"
    )


def test_qr_codes_hold_every_invoice() -> None:
    shown = as_text(TEXT)
    assert set(shown) <= set("█▀▄ \n") and len(shown.splitlines()) * 2 - len(shown.splitlines()[0]) in (0, 1)
    assert as_text(TEXT.upper()) == shown != as_text(TEXT[:-1])
    assert as_png(TEXT).startswith(b"\x89PNG") and as_svg(TEXT).startswith("<?xml")
    assert as_text("tally1" + "q" * (TEXT_MAX - 6))
    with pytest.raises(InvalidInput, match="QR code"):
        as_text("q" * 4_297)
    with pytest.raises(InvalidInput, match="QR code"):
        as_text("é")


def test_an_invoice_whose_locks_would_bind_money_for_days_is_not_paid() -> None:
    def payable(life: int) -> int:
        asked = msgspec.structs.replace(PLAIN, lock_life=life, amount=7)
        return check_payable(asked, chain_id=31337, contract=CONTRACT, assets=(NATIVE,), now=asked.created)

    assert payable(LOCK_LIFE_MAX) == 7
    with pytest.raises(InvalidInvoice, match="bound for"):
        payable(LOCK_LIFE_MAX + 1)
