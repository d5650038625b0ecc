"""Appointments: sealed until the close, one row each, receipted after the commit, uploaded newest only."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulation.tower_house import Pair
from tallystick.channels.errors import MalformedMessage, StoreError
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address, BalanceProof, SignedProof
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.watchtower.appointments import AppointmentService
from tallystick.watchtower.client import ClientPolicy, TowerClient
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
from tallystick.watchtower.quotas import AppointmentQuota
from tallystick.watchtower.schema import Coverage, count_appointments, read_appointments
from tallystick.watchtower.sealing import BLOB_SIZE, Appointment, locator_of, seal, unseal
from tallystick.watchtower.sqlite import CLIENT_SCHEMA, TOWER_SCHEMA

ALICE, BOB, TOWER, CAROL = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
PAIR = Pair(ALICE, BOB, chain_id=1337, contract=Address(b"\x09" * 20))
APPOINTMENT = Appointment(PAIR.terms, PAIR.proof(0, 3, 2**120), PAIR.proof(1, 9, 2**127), b"v" * 64)


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
        Refused(bytes(32), TowerRefusal.QUOTA, 0, "x" * 513),
    ]
    for message in bad:
        with pytest.raises(MalformedMessage):
            decode(msgspec.msgpack.encode(message))
    with pytest.raises(MalformedMessage):
        decode(msgspec.msgpack.encode([64, VERSION, bytes(32), 1, bytes(BLOB_SIZE), "more"]))


class Office:
    """A desk with a store, and switches for what can be wrong with it."""

    def __init__(self, directory: Path) -> None:
        self.store: SqliteStore = open_store(directory, [TOWER_SCHEMA], owner="a tower", durable=False)
        self.now = 1_000.0
        self.troubles: list[str] = []
        self.alarms: list[Alarm] = []
        self.disk_full = False
        self.committed: list[Moment] = []
        self.service = AppointmentService(
            key=TOWER,
            store=self.store,
            commit=self.commit,
            clock=lambda: self.now,
            troubles=lambda: self.troubles,
            quota=2,
            alarm=self.alarms.append,
            new_quota=AppointmentQuota(self.store, b"secret", 1_000, 1.0, 100.0),
        )

    async def commit(self, moments: Sequence[Moment]) -> None:
        await trio.lowlevel.checkpoint()
        if self.disk_full:
            raise StoreError("no space left")
        self.store.commit(moments)
        self.committed += moments

    async def upload(
        self, locator: int, revision: int, blob: bytes = b"", client: PrivateKey = ALICE
    ) -> TowerReceipt | Refused:
        message = Upload(VERSION, bytes([locator]) * 32, revision, blob.ljust(BLOB_SIZE, b"b"))
        answer = await self.service.answer(client.address, message)
        if isinstance(answer, TowerReceipt):
            verify_receipt(answer, TOWER.public, client.address, message)
        assert isinstance(answer, TowerReceipt | Refused)
        return answer


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


class Home:
    """Alice's side: a store, a journal of commits and sent messages, and a client of the office."""

    def __init__(self, directory: Path, office: Office) -> None:
        self.directory = directory
        self.office = office
        self.network = MemoryNetwork(1)
        self.endpoint = self.network.endpoint(TOWER)
        self.alarms: list[Alarm] = []
        self.journal: list[str] = []
        self.policy = ClientPolicy(every=1.0)
        self.arrived: Callable[[], None] = lambda: None
        """Called when an upload has arrived, before it is answered."""

    async def serve(self, link: Link) -> None:
        """Serve as the desk does, and write down what arrives."""
        while True:
            for data in await link.receive():
                message = decode(data)
                if isinstance(message, Upload):
                    self.journal.append(f"upload {message.revision}")
                    self.arrived()
                await link.send([encode(await self.office.service.answer(link.peer.address, message))])

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TowerClient]:
        store = open_store(self.directory, [CLIENT_SCHEMA], owner="alice", durable=False)

        async def commit(moments: Sequence[Moment]) -> None:
            await trio.lowlevel.checkpoint()
            store.commit(moments)
            for moment in moments:
                assert isinstance(moment, Coverage)
                self.journal.append(f"store {moment.revision} covering {moment.seq0},{moment.seq1}")

        async with trio.open_nursery() as nursery:
            address = await nursery.start(self._listen)
            client = TowerClient(
                key=ALICE,
                tower=address,
                network=self.network.endpoint(ALICE),
                store=store,
                commit=commit,
                entropy=seeded_entropy("alice"),
                jitter=random.Random(2).random,
                alarm=self.alarms.append,
                clock=lambda: self.office.now,
                policy=self.policy,
            )
            nursery.start_soon(client.run)
            yield client
            nursery.cancel_scope.cancel()
        store.close()

    async def _listen(self, task_status: trio.TaskStatus[PeerAddress]) -> None:
        await self.endpoint.serve("tower", 9, self.serve, started=task_status.started)


def offer(client: TowerClient, seq: int, amount: int) -> None:
    client.offer(PAIR.terms, PAIR.close_key, PAIR.proof(0, seq, amount), None)


@pytest.fixture
def home(tmp_path: Path, office: Office) -> Home:
    return Home(tmp_path / "alice", office)


async def test_a_revision_is_stored_before_it_is_sent_and_covers_after_the_receipt(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 4, 9)
        await client.covered()
        assert home.journal == ["store 1 covering 0,0", "upload 1", "store 1 covering 4,0"]


async def test_many_payments_make_one_upload_of_the_newest_and_no_write(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        for seq in range(1, 201):
            offer(client, seq, seq * 10)
        assert home.journal == []
        assert client.statistics().exposed == 2_000
        await client.covered()
        assert home.journal[-1] == "store 1 covering 200,0"
        assert client.statistics().uploads == 1
        assert client.statistics().exposed == 0


async def test_what_a_client_covered_is_known_after_a_restart(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 4, 9)
        await client.covered()
    async with home.client() as client:
        offer(client, 4, 9)
        assert client.statistics().dirty == 0
        offer(client, 5, 10)
        assert client.statistics().exposed == 1
        await client.covered()
        assert home.journal[-2:] == ["upload 2", "store 2 covering 5,0"]


async def test_a_crash_before_the_receipt_leads_to_a_higher_revision(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        home.network.partition(ALICE.public, silent=True)
        home.network.heal()
        offer(client, 4, 9)
        while "upload 1" not in home.journal:
            await trio.lowlevel.checkpoint()
            await trio.sleep(0.001)
    async with home.client() as client:
        offer(client, 4, 9)
        assert client.statistics().dirty == 1
        await client.covered()
    assert home.journal[-2:] == ["upload 2", "store 2 covering 4,0"]


async def test_exposure_beyond_the_policy_is_uploaded_at_once(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    home.policy = ClientPolicy(every=1_000.0, units=50)
    async with home.client() as client:
        offer(client, 1, 49)
        await trio.sleep(100)
        assert home.journal == []
        offer(client, 2, 50)
        with trio.fail_after(5):
            await client.covered()


@pytest.mark.alarm("old-data")
async def test_an_old_copy_of_the_data_never_overwrites_a_newer_appointment(
    home: Home, office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 4, 9)
        await client.covered()
        offer(client, 5, 10)
        await client.covered()
    home.directory = home.directory.parent / "an old copy"
    async with home.client() as client:
        offer(client, 1, 1)
        await trio.sleep(300)
        assert client.statistics().dirty == 1
        assert home.journal.count("upload 1") == 2
        assert "old copy" in home.alarms[0].text
        fetched = await client.fetch(PAIR.terms, PAIR.close_key)
        assert fetched is not None
        assert fetched.proof0 == PAIR.proof(0, 5, 10)


@pytest.mark.alarm("tower-refuses")
async def test_a_refusal_is_reported_once_and_tried_again_later(
    home: Home, office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    office.troubles.append("its fee account is empty")
    async with home.client() as client:
        offer(client, 1, 1)
        await trio.sleep(100)
        assert 2 <= client.statistics().refused <= 6
        assert len(home.alarms) == 1
        office.troubles.clear()
        await client.covered()


@pytest.mark.alarm("tower-misbehaves")
async def test_a_tower_that_breaks_the_protocol_covers_nothing(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async def lie(client: Address, message: Message) -> Message:
        await trio.lowlevel.checkpoint()
        assert isinstance(message, Upload)
        return TowerReceipt(
            TOWER.address, client, message.locator, message.revision, keccak(message.blob), 1, CAROL.sign(bytes(32))
        )

    home.office.service.answer = lie  # type: ignore[method-assign]  # Mallory runs the tower
    async with home.client() as client:
        offer(client, 1, 1)
        await trio.sleep(20)
        assert client.statistics().dirty == 1
        assert "not signed by the tower" in home.alarms[0].text


async def test_a_silent_tower_is_connected_to_afresh(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    async with home.client() as client:
        home.network.partition(ALICE.public, TOWER.public, silent=True)
        offer(client, 1, 1)
        await trio.sleep(120)
        assert client.statistics().dirty == 1
        home.network.heal()
        with trio.fail_after(120):
            await client.covered()


async def test_fetching_what_no_tower_holds_gives_none(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    async with home.client() as client:
        assert await client.fetch(PAIR.terms, PAIR.close_key) is None


async def test_a_forgotten_channel_is_not_uploaded(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    async with home.client() as client:
        offer(client, 1, 1)
        client.forget(PAIR.channel)
        await client.covered()
        await trio.sleep(10)
        assert client.statistics().exposed == 0
        assert home.journal == []


async def test_a_channel_may_be_forgotten_while_its_upload_is_on_its_way(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 1, 1)
        home.arrived = lambda: client.forget(PAIR.channel)
        await trio.sleep(10)
        assert client.statistics().channels == 0 and client.statistics().uploads == 1
