"""Sealed appointments with claims: what is in them is read back, in sizes that tell little, older ones included."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.tower_house import Pair
from simulation.tower_office import ALICE, APPOINTMENT, BOB, CAROL, PAIR, TOWER, Office
from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.watchtower import sealing
from tallystick.watchtower.claims import (
    DAY,
    SHARE,
    TIMELY_MAX,
    FreeClaims,
    LockClaim,
    decode_claims,
    encode_claims,
    fitting,
    mark_of,
    timely,
)
from tallystick.watchtower.errors import BadReceipt
from tallystick.watchtower.messages import (
    TOWER_MESSAGE_MAX,
    VERSION,
    TowerReceipt,
    Upload,
    UploadTimely,
    decode,
    encode,
    timely_of,
    verify_receipt,
)
from tallystick.watchtower.sealing import BLOB_SIZES, Appointment, seal, seal_page, unseal, unseal_page

OF_VERSION_2 = bytes.fromhex("474d3310a55003f81af8e6d7928f660a26845d6948f0a8c81c3a9c1fa26486cd")
"""The same of one with claims, when there was no version 3."""

OF_VERSION_1 = bytes.fromhex("9573f25048c0cf2864d2690bbd63307774db285372253c82c8bfe1c45caedbeb")
"""Hash of the blob that a client without claims made when there was no version 2."""

claims = st.builds(
    LockClaim,
    st.builds(
        Lock, st.integers(0, 2**64 - 1), st.integers(1, 2**128 - 1), st.integers(0, 2**64 - 1), st.just(HASH),
        st.binary(min_size=32, max_size=32),
    ),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip


def sealed(appointment: Appointment, pair: Pair = PAIR, seed: int = 0) -> bytes:
    return seal(appointment, pair.close_key, TOWER.address, ALICE.address, seeded_entropy(seed))


def opened(blob: bytes) -> Appointment:
    return unseal(blob, PAIR.close_key, TOWER.address, ALICE.address)


def claim(number: int, amount: int = 5, expiry: int = 99) -> LockClaim:
    secret = keccak(b"%d" % number)
    return LockClaim(Lock(number, amount, expiry, HASH, digest_of(secret)), secret)


def test_an_appointment_without_claims_is_written_as_before_and_older_towers_read_it() -> None:
    assert keccak(sealed(APPOINTMENT)) == OF_VERSION_1
    assert opened(sealed(APPOINTMENT)).claims == ()


def test_an_appointment_with_claims_alone_is_written_as_before_and_read_by_all() -> None:
    with_claims = msgspec.structs.replace(APPOINTMENT, claims=(claim(1), claim(2)))
    assert keccak(sealed(with_claims)) == OF_VERSION_2
    assert opened(sealed(with_claims)) == with_claims


def test_pending_locks_are_read_back_whole_or_left_out_for_claims_of_the_highest_worth() -> None:
    claimed = (claim(1), claim(2))
    for count, size, whole in ((1, 0, True), (30, 1, True), (200, 0, False)):
        locks = tuple(claim(number).lock for number in range(count))
        made = msgspec.structs.replace(APPOINTMENT, claims=claimed, pending=(locks, (claim(7).lock,)))
        blob = sealed(made)
        assert len(blob) == BLOB_SIZES[size]
        assert opened(blob) == (made if whole else msgspec.structs.replace(APPOINTMENT, claims=claimed))


def test_a_page_is_no_appointment_and_an_appointment_no_page() -> None:
    named = PAIR.close_key, TOWER.address, ALICE.address
    page = seal_page(b"a page", *named, seeded_entropy(1))
    assert len(page) == BLOB_SIZES[0] and unseal_page(page, *named) == b"a page"
    with pytest.raises(MalformedMessage, match="another version, 4"):
        unseal(page, *named)
    with pytest.raises(MalformedMessage, match="no page"):
        unseal_page(sealed(APPOINTMENT), *named)
    with pytest.raises(MalformedMessage, match="does not open"):
        unseal_page(page, bytes(32), *named[1:])


@given(st.lists(claims, max_size=40))
def test_claims_are_read_back_or_those_of_the_highest_worth(found: list[LockClaim]) -> None:
    blob = sealed(msgspec.structs.replace(APPOINTMENT, claims=tuple(found)))
    assert len(blob) in BLOB_SIZES
    read = opened(blob).claims
    assert list(read) == [one for one in found if one in read]
    left = [one.lock.amount for one in found if one not in read]
    assert not left or max(left) <= min(one.lock.amount for one in read)
    assert len(read) >= min(len(found), 20)


@given(st.lists(claims, max_size=12), st.integers(0, 1_000))
def test_what_fits_fits(found: list[LockClaim], room: int) -> None:
    chosen = fitting(found, room)
    assert len(encode_claims(chosen)) <= max(room, 0)
    assert decode_claims(encode_claims(tuple(found))) == tuple(found)


def test_two_channels_of_equal_size_and_timing_cannot_be_told_apart_before_a_close() -> None:
    """Another peer, other amounts, other secrets: all that a tower sees of both differs by random bytes alone."""
    other = Pair(ALICE, CAROL, chain_id=1337, contract=Address(b"\x09" * 20))
    for count in (0, 2, 20):
        mine = tuple(claim(number) for number in range(count))
        theirs = tuple(claim(100 + number, amount=250, expiry=111) for number in range(count))
        uploads = []
        for pair, held, seed in ((PAIR, mine, 1), (other, theirs, 2)):
            seq = 9 + seed
            made = Appointment(pair.terms, pair.proof(0, seq, 70 * seed), pair.proof(1, seq, 80), b"v" * 64, held)
            locator = sealing.locator_of(pair.close_key, TOWER.address, ALICE.address)
            uploads.append(encode(Upload(VERSION, locator, 3, sealed(made, pair, seed))))
            for secret in (*pair.terms.participants, pair.channel, *(one.proof for one in held)):
                assert secret not in uploads[-1]
        assert len(uploads[0]) == len(uploads[1])
        same = [at for at, pair in enumerate(zip(*uploads, strict=True)) if pair[0] == pair[1]]
        assert len(same) < len(uploads[0]) // 50 + 16, "the frame, and chance"


@pytest.mark.parametrize(
    "plain",
    [b"\3\0\0", b"\4\0\0", b"\5\0\0", b"\0\0\0", b"\2\0\1\x90", b"\1\0\5aaaaa", b"\2\xff\xff", b"\1\0\0\0\0\1"],
)
def test_what_is_not_written_as_it_should_be_is_refused(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_plain", lambda appointment: plain.ljust(sealing.PLAIN_SIZES[0], b"\0"))
    with pytest.raises(MalformedMessage):
        opened(sealed(APPOINTMENT))


def test_no_version_reads_what_the_other_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    good = sealing._plain(msgspec.structs.replace(APPOINTMENT, claims=(claim(1),)))
    for version, plain in ((1, good), (2, sealing._plain(APPOINTMENT))):
        monkeypatch.setattr(sealing, "_plain", lambda appointment, made=bytes([version]) + plain[1:]: made)
        with pytest.raises(MalformedMessage):
            opened(sealed(APPOINTMENT))


def test_what_is_told_openly_is_little_and_in_a_message_that_fits() -> None:
    many = [claim(number, amount=2**127 + number, expiry=2**60 - number) for number in range(TIMELY_MAX + 5)]
    told = timely(many)
    assert len(told) == TIMELY_MAX and [one.lock.expiry for one in told] == sorted(one.lock.expiry for one in told)
    assert {(one.lock.amount, one.lock.id) for one in told} == {(2**127, 0)}
    assert told[0].proof == many[-1].proof and told[0].worth == 2**127
    upload = UploadTimely(VERSION, bytes(32), 1, bytes(BLOB_SIZES[-1]), True, told)
    assert len(encode(upload)) <= TOWER_MESSAGE_MAX and decode(encode(upload)) == upload
    for broken in (
        msgspec.structs.replace(upload, blob=bytes(BLOB_SIZES[0] + 1)),
        msgspec.structs.replace(upload, version=VERSION + 1),
    ):
        with pytest.raises(MalformedMessage):
            decode(encode(broken))
    for count in (0, TIMELY_MAX + 1):
        with pytest.raises((MalformedMessage, InvalidInput)):
            decode(encode(msgspec.structs.replace(upload, claims=tuple(many[:count]))))


async def test_a_receipt_is_for_what_is_timely_too(tmp_path: object) -> None:
    office = Office(tmp_path / "tower")  # type: ignore[operator]  # a Path
    upload = UploadTimely(VERSION, b"\1" * 32, 1, bytes(BLOB_SIZES[0]), True, (claim(1),))
    receipt = await office.service.answer(ALICE.address, upload, "")
    assert isinstance(receipt, TowerReceipt)
    verify_receipt(receipt, TOWER.public, ALICE.address, upload)
    assert await office.service.answer(ALICE.address, upload, "") == receipt
    other = msgspec.structs.replace(upload, claims=(claim(2),))
    with pytest.raises(BadReceipt):
        verify_receipt(receipt, TOWER.public, ALICE.address, other)
    assert not isinstance(await office.service.answer(ALICE.address, other, ""), TowerReceipt)
    assert timely_of(Upload(VERSION, bytes(32), 1, b"")) == b""
    office.store.close()


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 200), st.integers(0, 3 * DAY))))
def test_no_more_is_given_away_in_a_day_and_no_address_gets_more_than_its_share(
    asked: list[tuple[bytes, int, int]],
) -> None:
    free, given_away = FreeClaims(1_600), dict[int, dict[bytes, int]]()
    for source, fee, now in sorted(asked, key=lambda each: each[2]):
        day = given_away.setdefault(now // DAY, {})
        if free.take(source, fee, now):
            day[source] = day.get(source, 0) + fee
        else:
            assert day.get(source, 0) + fee > (1_600 - sum(day.values())) // SHARE
    for day in given_away.values():
        assert sum(day.values()) <= 1_600 and all(spent <= 100 for spent in day.values())


def test_claims_are_told_apart_by_their_mark() -> None:
    assert mark_of(()) == b"" and len(mark_of((claim(1),))) == 16
    assert mark_of((claim(1),)) != mark_of((claim(2),)) != mark_of((claim(1), claim(2)))
    assert BOB.address != ALICE.address
