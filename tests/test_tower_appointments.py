"""Appointments: sealed until the close, one row each, receipted after the commit, uploaded newest only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.tower_office import ALICE, APPOINTMENT, BOB, CAROL, PAIR, TOWER, Office
from tallystick.channels.errors import MalformedMessage
from tallystick.channels.protocol.keys import HALF_ORDER, keccak
from tallystick.channels.protocol.objects import BalanceProof, SignedProof
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.watchtower.disputes import check
from tallystick.watchtower.errors import BadReceipt, TowerRefusal
from tallystick.watchtower.messages import (
    VERSION,
    Fetch,
    Held,
    Message,
    Refused,
    TowerReceipt,
    Upload,
    decode,
    encode,
    verify_receipt,
)
from tallystick.watchtower.schema import count_appointments, read_appointments
from tallystick.watchtower.sealing import BLOB_SIZE, Appointment, locator_of, seal, unseal


def sealed(seed: int = 0, appointment: Appointment = APPOINTMENT) -> bytes:
    return seal(appointment, PAIR.close_key, TOWER.address, ALICE.address, seeded_entropy(seed))


def test_an_appointment_opens_with_the_close_key_of_its_channel_tower_and_party_only() -> None:
    blob = sealed()
    assert unseal(blob, PAIR.close_key, TOWER.address, ALICE.address) == APPOINTMENT
    for key, tower, party in (
        (keccak(b"a guess"), TOWER, ALICE),
        (PAIR.close_key, CAROL, ALICE),
        (PAIR.close_key, TOWER, BOB),
    ):
        with pytest.raises(MalformedMessage, match="does not open"):
            unseal(blob, key, tower.address, party.address)


def test_a_blob_tells_nothing_by_its_size_or_by_what_it_repeats() -> None:
    empty = msgspec.structs.replace(APPOINTMENT, proof0=None, proof1=None)
    blobs = [sealed(1), sealed(2), sealed(3, empty)]
    assert {len(blob) for blob in blobs} == {BLOB_SIZE}
    assert len({blob[:24] for blob in blobs}) == len({blob[24:56] for blob in blobs}) == 3
    secrets = (PAIR.channel, *PAIR.terms.participants, PAIR.terms.close_hash, PAIR.close_key)
    assert not any(secret in blob for secret in secrets for blob in blobs)
    locators = {locator_of(PAIR.close_key, TOWER.address, party) for party in PAIR.terms.participants}
    assert len(locators) == 2


@given(st.integers(0, BLOB_SIZE - 1), st.integers(1, 255))
def test_a_changed_blob_does_not_open(position: int, change: int) -> None:
    blob = bytearray(sealed())
    blob[position] ^= change
    with pytest.raises(MalformedMessage):
        unseal(bytes(blob), PAIR.close_key, TOWER.address, ALICE.address)


def test_the_largest_appointment_fits() -> None:
    top = 2**64 - 1
    proofs = [
        SignedProof(BalanceProof(PAIR.channel, side, top, 2**128 - 1, 2**128 - 1, b"r" * 32, top), b"s" * 64, b"c" * 64)
        for side in (0, 1)
    ]
    terms = msgspec.structs.replace(PAIR.terms, chain_id=top, number=top, challenge_period=top)
    largest = Appointment(terms, proofs[0], proofs[1], b"v" * 64)
    assert unseal(sealed(0, largest), PAIR.close_key, TOWER.address, ALICE.address) == largest


def test_forged_proofs_and_vouchers_are_of_no_use() -> None:
    good = PAIR.proof(0, 3, 5)
    forged = msgspec.structs.replace(PAIR.proof(1, 9, 7), countersignature=good.signature)
    defence = check(Appointment(PAIR.terms, good, forged, b"v" * 64), PAIR.terms, ALICE.address, TOWER.address)
    assert defence.proofs == (good, None)
    assert defence.voucher is None
    swapped = check(Appointment(PAIR.terms, None, good, b"v" * 64), PAIR.terms, ALICE.address, TOWER.address)
    assert swapped.proofs == (None, None)


def test_a_proof_with_a_high_s_is_of_no_use_as_the_contract_would_refuse_it() -> None:
    good = PAIR.proof(0, 3, 5)
    s = 2 * HALF_ORDER + 1 - int.from_bytes(good.signature[32:], "big")
    malleated = msgspec.structs.replace(good, signature=good.signature[:32] + s.to_bytes(32, "big"))
    defence = check(Appointment(PAIR.terms, malleated, None, b"v" * 64), PAIR.terms, ALICE.address, TOWER.address)
    assert defence.proofs == (None, None)


@given(st.binary(max_size=80))
def test_garbage_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


def test_messages_are_bounded() -> None:
    good = Upload(VERSION, bytes(32), 1, bytes(BLOB_SIZE))
    assert decode(encode(good)) == good
    bad: list[Message] = [
        Upload(VERSION, bytes(31), 1, bytes(BLOB_SIZE)),
        Upload(VERSION, bytes(32), 1, bytes(BLOB_SIZE + 1)),
        Upload(VERSION, bytes(32), -1, bytes(BLOB_SIZE)),
        Upload(VERSION, bytes(32), 2**63, bytes(BLOB_SIZE)),
        Upload(VERSION + 1, bytes(32), 1, bytes(BLOB_SIZE)),
        Upload(0, bytes(32), 1, bytes(BLOB_SIZE)),
        Refused(bytes(32), TowerRefusal.QUOTA, 0, "x" * 513),
    ]
    for message in bad:
        with pytest.raises(MalformedMessage):
            decode(msgspec.msgpack.encode(message))
    with pytest.raises(MalformedMessage):
        decode(msgspec.msgpack.encode([64, VERSION, bytes(32), 1, bytes(BLOB_SIZE), "more"]))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "tower")
    yield made
    made.store.close()


async def test_an_appointment_has_one_row_however_often_it_is_replaced(office: Office) -> None:
    for revision in range(1, 50):
        assert isinstance(await office.upload(1, revision), TowerReceipt)
    assert count_appointments(office.store) == 1
    assert read_appointments(office.store, b"\1" * 32)[0].revision == 49


async def test_only_a_strictly_newer_revision_replaces(office: Office) -> None:
    first = await office.upload(1, 5, b"x")
    assert await office.upload(1, 5, b"x") == first
    for revision, blob in ((5, b"y"), (4, b"x"), (0, b"x")):
        answer = await office.upload(1, revision, blob)
        assert isinstance(answer, Refused)
        assert (answer.why, answer.held) == (TowerRefusal.STALE, 5)
    assert len(office.committed) == 1


@pytest.mark.alarm("disk")
async def test_a_receipt_is_given_only_for_what_is_durable(office: Office) -> None:
    office.disk_full = True
    answer = await office.upload(1, 1)
    assert isinstance(answer, Refused)
    assert answer.why is TowerRefusal.TROUBLE
    assert "disk" in office.alarms[0].text
    assert count_appointments(office.store) == 0


async def test_a_tower_in_trouble_takes_newer_revisions_but_nothing_new(office: Office) -> None:
    await office.upload(1, 1)
    office.troubles.append("it is 99 blocks behind the chain")
    assert isinstance(await office.upload(1, 2), TowerReceipt)
    answer = await office.upload(2, 1)
    assert isinstance(answer, Refused)
    assert answer.why is TowerRefusal.TROUBLE
    assert "99 blocks" in answer.text


async def test_the_quota_is_per_client(office: Office) -> None:
    for locator in (1, 2):
        assert isinstance(await office.upload(locator, 1), TowerReceipt)
    answer = await office.upload(3, 1)
    assert isinstance(answer, Refused)
    assert answer.why is TowerRefusal.QUOTA
    assert isinstance(await office.upload(3, 1, client=BOB), TowerReceipt)


async def test_a_client_gets_back_its_own_blobs_only(office: Office) -> None:
    await office.upload(1, 7, b"mine")
    held = await office.service.answer(ALICE.address, Fetch(VERSION, b"\1" * 32))
    assert isinstance(held, Held)
    assert (held.revision, held.blob[:4]) == (7, b"mine")
    other = await office.service.answer(BOB.address, Fetch(VERSION, b"\1" * 32))
    assert isinstance(other, Refused)
    assert other.why is TowerRefusal.UNKNOWN


async def test_the_same_locator_from_another_client_harms_nobody(office: Office) -> None:
    await office.upload(1, 1, b"alice")
    await office.upload(1, 9, b"bob", client=BOB)
    assert sorted(row.blob[:3] for row in read_appointments(office.store, b"\1" * 32)) == [b"ali", b"bob"]


def test_a_receipt_of_another_kind_is_noticed() -> None:
    upload = Upload(VERSION, bytes(32), 1, bytes(BLOB_SIZE))
    good = TowerReceipt(TOWER.address, ALICE.address, bytes(32), 1, keccak(upload.blob), 5, bytes(64))
    good = msgspec.structs.replace(good, signature=TOWER.sign(good.digest()))
    verify_receipt(good, TOWER.public, ALICE.address, upload)
    changes = {"revision": 2, "client": BOB.address, "blob_hash": bytes(32), "time": 6, "tower": bytes(20)}
    for name, value in changes.items():
        with pytest.raises(BadReceipt):
            verify_receipt(msgspec.structs.replace(good, **{name: value}), TOWER.public, ALICE.address, upload)
