"""The "Payment" scheme: what is written is read back, bound ids hold, and one bad challenge hides no good one."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.paid.errors import MalformedPayment
from tallystick.paid.scheme import challenges, encoding, parameters, preferences, problems
from tallystick.paid.scheme.challenges import PaymentChallenge, parse_challenges
from tallystick.paid.scheme.credentials import CallReceipt, PaymentCredential, parse_credential, parse_receipt
from tallystick.paid.scheme.preferences import PaymentPreference

KEY = bytes(range(32))

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
TOKEN = st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True)
OBJECTS = st.dictionaries(
    TEXT,
    st.recursive(
        TEXT | st.booleans() | st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
CHALLENGES = st.builds(
    PaymentChallenge,
    id=TOKEN,
    realm=TEXT.filter(bool),
    method=TOKEN,
    intent=TOKEN,
    request=OBJECTS.map(encoding.write_object),
    expires=st.just("") | st.integers(0, 2**32).map(challenges.write_time),
    digest=st.just("") | st.binary(max_size=9).map(encoding.body_digest),
    opaque=st.just("") | OBJECTS.map(encoding.write_object),
    header=st.sampled_from(["", "X-Payment", "Authorization"]),
    description=TEXT,
)
HEADERS = CHALLENGES.map(lambda challenge: challenge.to_header())
OTHERS = st.sampled_from(
    [
        'Basic realm="it, says Payment id=1"',
        "Negotiate YWJjZA==",
        "Negotiate",
        'Digest qop="auth, auth-int", nonce=abc',
        'Bearer realm="a \\" , Payment b", error=x',
    ]
)
BROKEN = st.sampled_from(
    [
        'Payment id="1", realm="x"y", method="m", intent="i", request="e30"',
        'Payment id="1", id="2", realm="x", method="m", intent="i", request="e30"',
        'Payment id=, realm="x", method="m", intent="i", request="e30"',
        'Payment id="1" realm="x" method="m" intent="i" request="e30"',
        'Payment realm="x", method="m", intent="i", request="e30"',
        "Payment e30",
        "Payment",
        '=, "',
    ]
)


@given(OBJECTS)
def test_objects_come_back(value: dict[str, Any]) -> None:
    assert encoding.read_object(encoding.write_object(value)) == value


@given(st.binary(max_size=40))
def test_base64_of_either_alphabet_is_read(data: bytes) -> None:
    assert encoding.from_base64url(encoding.to_base64url(data)) == data
    assert encoding.from_base64url(base64.b64encode(data).decode()) == data


@given(st.text(max_size=40) | st.binary(max_size=60).map(encoding.to_base64url))
def test_whatever_is_read_as_an_object_can_be_written_again_or_is_refused(text: str) -> None:
    try:
        value = encoding.read_object(text)
    except MalformedPayment:
        return
    assert isinstance(value, dict)
    json.dumps(value).encode()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        '{"a":1,"a":2}',
        '{"a":NaN}',
        '{"a":"\\ud800"}',
        "{",
        "",
        '{"a":' * 5000,
        '{"a":' * 40 + "1" + "}" * 40,
    ],
)
def test_what_is_no_object_or_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(MalformedPayment):
        encoding.read_object(encoding.to_base64url(text.encode()))


@pytest.mark.parametrize("value", [{"amount": 2**53}, {"a": float("nan")}, {1: 2}, {"a": b""}, {"a": "\ud800"}])
def test_what_has_no_canonical_form_is_refused_before_it_is_sent(value: dict[Any, Any]) -> None:
    with pytest.raises(InvalidInput):
        encoding.write_object(value)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_both_forms_of_a_digest_are_known(body: bytes, other: bytes) -> None:
    plain = "sha-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()
    colons = encoding.body_digest(body)
    assert colons == plain.replace("=", "=:", 1) + ":"
    for text in (plain, colons, f"sha-512=:YWJj:, {colons}"):
        assert encoding.is_digest_of(text, body)
        assert encoding.is_digest_of(text, other) == (body == other)
    wrong = encoding.body_digest(body + b"!")
    assert not any(
        encoding.is_digest_of(text, body) for text in (f"{colons}, {wrong}", "", "sha-512=:YWJj:", colons[:-1])
    )


@given(CHALLENGES)
def test_a_challenge_comes_back_as_it_was_written(challenge: PaymentChallenge) -> None:
    assert parse_challenges([challenge.to_header()]) == [challenge]
    assert challenges.challenge_of(json.loads(json.dumps(challenge.written()))) == challenge


@given(st.lists(CHALLENGES, max_size=4), st.data())
def test_all_good_challenges_are_found_in_order_beside_whatever_else(
    good: list[PaymentChallenge], data: st.DataObject
) -> None:
    """In one value or in several, beside challenges of other schemes, and behind what breaks the grammar."""
    pieces = [challenge.to_header() for challenge in good]
    for _ in range(data.draw(st.integers(0, 3))):
        pieces.insert(data.draw(st.integers(0, len(pieces))), data.draw(OTHERS))
    values, value = [], list[str]()
    for piece in pieces:
        value.append(piece)
        if data.draw(st.booleans()):
            values.append(data.draw(st.sampled_from([", ", ",", " ,\t"])).join(value))
            value = []
    values.append(", ".join(value))
    assert parse_challenges(values) == good


@given(BROKEN, st.lists(CHALLENGES, min_size=1, max_size=3))
def test_a_broken_challenge_hides_no_good_one(broken: str, good: list[PaymentChallenge]) -> None:
    headers = [challenge.to_header() for challenge in good]
    assert parse_challenges([broken, *headers]) == good
    assert parse_challenges([", ".join([broken, *headers])]) == good
    assert parse_challenges([", ".join([headers[0], broken, *headers[1:]])]) in (good, good[1:])


@given(st.lists(st.sampled_from(['"', ",", "=", "\\", "Payment ", "id", " ", "a", "\\u00e4", "é", "\n"]), max_size=40))
def test_anything_at_all_can_be_read(pieces: list[str]) -> None:
    for parts in parameters.read_payments(["".join(pieces)]):
        assert parts and all(isinstance(text, str) for text in parts.values())


def test_a_value_of_nothing_but_open_quotes_is_read_quickly_and_in_bounds() -> None:
    value = ', Payment id="' * 4_000
    assert parse_challenges([value[: encoding.SIZE_MAX], "a," * 30_000, value * 9]) == []


def test_a_line_break_never_gets_into_a_header() -> None:
    challenge = PaymentChallenge(realm="x\r\nSet-Cookie: a=b", method="m", intent="i", request="e30", id="1")
    with pytest.raises(InvalidInput):
        challenge.to_header()


@given(CHALLENGES, st.data())
def test_an_id_is_bound_to_all_but_the_description(challenge: PaymentChallenge, data: st.DataObject) -> None:
    if any("|" in text for text in (challenge.realm, challenge.request)):
        with pytest.raises(InvalidInput):
            challenge.bind(KEY)
        return
    bound = challenge.bind(KEY)
    assert bound.is_bound(KEY) and not bound.is_bound(bytes(32))
    described = PaymentChallenge(**{**bound.written(), "description": "another"})
    assert described.is_bound(KEY)
    name = data.draw(st.sampled_from(["id", "realm", "method", "intent", "request", "expires", "digest", "opaque"]))
    changed = PaymentChallenge(**{**bound.written(), name: bound.written().get(name, "") + "x"})
    assert not changed.is_bound(KEY)


def test_no_slot_slips_into_the_next_one() -> None:
    with_header = PaymentChallenge(
        realm="r", method="m", intent="i", request="e30", header="X-Pay", expires="", digest="d"
    )
    bound = with_header.bind(KEY)
    slipped = PaymentChallenge(
        id=bound.id, realm="r", method="m", intent="i", request="e30|", expires="d", digest="X-Pay", opaque=""
    )
    assert bound.is_bound(KEY) and not slipped.is_bound(KEY)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        PaymentChallenge(realm="r", method="m", intent="i", request="e30").bind(b"secret")


@given(CHALLENGES, OBJECTS, TEXT)
def test_a_credential_comes_back(challenge: PaymentChallenge, proof: dict[str, Any], source: str) -> None:
    credential = PaymentCredential(challenge=challenge, proof=proof, source=source)
    header = credential.to_header()
    assert parse_credential([header]) == credential
    assert parse_credential(["Bearer abc", header.replace("Payment", "payment")]) == credential
    assert parse_credential([f"Bearer abc, {header}, Basic YTpi"]) == credential


def test_a_credential_shows_no_proof() -> None:
    challenge = PaymentChallenge(realm="r", method="m", intent="i", request="e30", id="1")
    assert "5ec3e7" not in repr(PaymentCredential(challenge=challenge, proof={"secret": "5ec3e7"}))


def test_no_credential_is_none_and_two_are_refused() -> None:
    assert parse_credential([]) is None
    assert parse_credential(["Bearer Payment", "Basic YTpi"]) is None
    with pytest.raises(MalformedPayment, match="one credential"):
        parse_credential(["Payment e30, Payment e30"])


@pytest.mark.parametrize("whole", [{}, {"challenge": {}}, {"challenge": {"id": "1"}, "payload": {}}, {"challenge": []}])
def test_a_credential_that_lacks_a_part_is_refused(whole: dict[str, Any]) -> None:
    with pytest.raises(MalformedPayment):
        parse_credential(["Payment " + encoding.write_object(whole)])


RECEIPTS = st.builds(
    CallReceipt,
    method=TOKEN,
    reference=TOKEN,
    timestamp=st.integers(0, 2**32).map(challenges.write_time),
    intent=st.just("") | TOKEN,
    challenge_id=st.just("") | TOKEN,
    external_id=TEXT,
    more=st.dictionaries(TOKEN.map("x-".__add__), TEXT, max_size=2),
)


@given(RECEIPTS)
def test_a_receipt_comes_back(receipt: CallReceipt) -> None:
    assert parse_receipt(receipt.to_header()) == receipt


@pytest.mark.parametrize("gone", ["status", "method", "reference", "timestamp"])
def test_a_receipt_that_lacks_a_part_is_none(gone: str) -> None:
    whole = {"status": "success", "method": "m", "reference": "r", "timestamp": "2026-08-07T12:00:00Z"}
    assert parse_receipt(encoding.write_object(whole))
    with pytest.raises(MalformedPayment):
        parse_receipt(encoding.write_object({name: text for name, text in whole.items() if name != gone}))
    with pytest.raises(MalformedPayment):
        parse_receipt(encoding.write_object(whole | {gone: 7}))


@given(st.sampled_from(problems.ProblemKind), TEXT, st.dictionaries(TOKEN.map("x-".__add__), TEXT, max_size=2))
def test_a_problem_comes_back(kind: problems.ProblemKind, detail: str, more: dict[str, str]) -> None:
    made = problems.problem(kind, detail, **more)
    assert problems.parse_problem(made.to_json()) == made and made.is_kind(kind)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title":"x"}', b'{"type":7}', b"\xff"])
def test_what_is_no_problem_is_none(body: bytes) -> None:
    assert problems.parse_problem(body) is None


@given(st.lists(st.builds(PaymentPreference, TOKEN | st.just("*"), TOKEN | st.just("*"), st.integers(0, 1000))))
def test_preferences_come_back(entries: list[PaymentPreference]) -> None:
    assert preferences.parse_preferences([preferences.write_preferences(entries)]) == entries


def test_the_closest_preference_counts_and_what_cannot_be_read_is_left_out() -> None:
    read = preferences.parse_preferences(
        ["tallystick/charge;q=0.2, x402/*, */*;q=0.1", "UPPER/x, a/b;q=2, stripe/*; q=0"]
    )
    offers = [
        (*name.split("/"), name) for name in ("stripe/charge", "lightning/charge", "tallystick/charge", "x402/exact")
    ]
    assert preferences.rank([(one, two, name) for one, two, name in offers], read) == [
        "x402/exact",
        "tallystick/charge",
        "lightning/charge",
    ]
    assert preferences.rank([("a", "b", 1), ("c", "d", 2)], []) == [1, 2]
    assert preferences.rank([("a", "b", 1)], preferences.parse_preferences(["c/d"])) == []


@given(st.integers(0, 2**33))
def test_times_come_back(seconds: int) -> None:
    assert challenges.read_time(challenges.write_time(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2026-08-07T12:00:00", "2026-13-01T00:00:00Z"])
def test_a_time_without_zone_or_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedPayment):
        challenges.read_time(text)


@pytest.mark.parametrize("method", ["vendor-pay", "vendor_pay", "vendor:pay", "a2"])
def test_a_preference_is_read_whatever_a_methods_name_may_have(method: str) -> None:
    read = preferences.parse_preferences([f"{method}/charge, other/charge;q=0"])
    assert preferences.rank([(method, "charge", 1), ("other", "charge", 2)], read) == [1]
