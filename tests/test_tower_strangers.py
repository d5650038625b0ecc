"""A tower that strangers fill: each address gets a share, nothing promised is dropped, somebody new gets in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from simulation.rows import sql
from simulation.tower_house import Pair
from tallystick.channels.errors import LinkClosed
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.tables import Rows
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.watchtower.appointments import AppointmentService
from tallystick.watchtower.client import TowerClient
from tallystick.watchtower.daemon import read_status, run_tower
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.messages import VERSION, Fetch, Held, Message, Refused, TowerReceipt, Upload, decode, encode
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.quotas import RENEW, SHARE, TERM, AppointmentQuota
from tallystick.watchtower.schema import TOWER as SUBJECT
from tallystick.watchtower.schema import AppointmentStored, DisputeOver, count_appointments
from tallystick.watchtower.sealing import BLOB_SIZE
from tallystick.watchtower.sqlite import CLIENT_SCHEMA, TOWER_SCHEMA

ALICE, BOB, TOWER = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))
FLOOD, HOME = "203.0.113.9", "192.0.2.1"
MOST = 320


class Office:
    """A desk with a small disk and no time of its own."""

    def __init__(self, directory: Path, rate: float = 1e9, burst: float = 1e9) -> None:
        self.store: SqliteStore = open_store(directory, [TOWER_SCHEMA], owner="a tower", durable=False)
        self.now = 1e9
        self.kept: set[bytes] = set()
        self.clients = 0
        self.service = AppointmentService(
            key=TOWER,
            store=self.store,
            commit=self.commit,
            clock=lambda: self.now,
            troubles=tuple,
            quota=10_000,
            alarm=lambda alarm: None,
            new_quota=AppointmentQuota(self.store, b"secret", MOST, rate, burst),
            kept=lambda: self.kept,
        )

    async def commit(self, moments: object) -> None:
        await trio.lowlevel.checkpoint()
        self.store.commit(moments)  # type: ignore[arg-type]

    async def upload(self, source: str, *, number: int | None = None, revision: int = 1) -> Message:
        """Upload for a client made up on the spot, or for client `number` again."""
        self.clients += number is None
        name = self.clients if number is None else number
        client = Address(name.to_bytes(20, "big"))
        return await self.service.answer(
            client, Upload(VERSION, name.to_bytes(32, "big"), revision, bytes(BLOB_SIZE)), source
        )

    async def flood(self, source: str, times: int = 2 * MOST) -> int:
        """Upload as often as that; return how many were taken."""
        return sum([isinstance(await self.upload(source), TowerReceipt) for _ in range(times)])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "tower")
    yield made
    made.store.close()


async def test_an_address_gets_its_share_of_what_is_free_and_others_still_get_in(office: Office) -> None:
    assert await office.flood(FLOOD) == MOST // (SHARE + 1)
    taken = [await office.flood(f"203.0.113.{number}", 50) for number in range(10, 30)]
    assert taken == sorted(taken, reverse=True) and min(taken) >= 1
    office.now += 100
    assert isinstance(await office.upload(HOME), TowerReceipt)
    refused = await office.upload(FLOOD)
    assert isinstance(refused, Refused) and refused.why is TowerRefusal.QUOTA


async def test_a_full_tower_refuses_what_is_new_and_drops_nothing_within_its_term(office: Office) -> None:
    assert isinstance(await office.upload(HOME, number=9_999), TowerReceipt)
    for number in range(60):
        await office.flood(f"198.51.{number}.1", 30)
    held = count_appointments(office.store)
    assert held <= MOST
    office.now += TERM - 1
    await office.flood(HOME, 5)
    assert count_appointments(office.store) >= held
    assert isinstance(await office.upload(HOME, number=9_999, revision=2), TowerReceipt), "a renewal needs no room"


async def test_what_was_not_renewed_within_its_term_makes_room_the_oldest_first(office: Office) -> None:
    mark, began = office.service.new_quota.mark(FLOOD), int(office.now)
    old = [
        AppointmentStored(Address(n.to_bytes(20, "big")), n.to_bytes(32, "big"), 1, bytes(9), began + n, mark)
        for n in range(MOST - 10)
    ]
    office.store.commit(old)
    office.clients = MOST
    office.now += TERM - 1
    assert isinstance(await office.upload("192.0.2.99"), TowerReceipt)
    assert count_appointments(office.store) == len(old) + 1, "all of it is promised yet"
    office.now += 101.5
    office.kept = {(3).to_bytes(32, "big")}
    assert isinstance(await office.upload(HOME), TowerReceipt)
    left = {row[0] for row in sql(office.store, "SELECT time FROM appointments")}
    assert min(left) == old[3].time, "an appointment of a channel that is being closed stays"
    assert sorted(left)[1] >= office.now - TERM - 1
    assert sql(office.store, "SELECT count(*) FROM appointment_sources")[0][0] == len(left)


async def test_new_appointments_come_at_a_rate_and_renewals_at_once(tmp_path: Path) -> None:
    office = Office(tmp_path, rate=0.5, burst=5)
    assert await office.flood(FLOOD, 12) == 5
    assert await office.flood(HOME, 3) == 3
    office.now += 4
    assert await office.flood(FLOOD, 12) == 2
    for revision in range(2, 20):
        assert isinstance(await office.upload(FLOOD, number=1, revision=revision), TowerReceipt)
    office.store.close()


async def test_an_end_frees_the_share_of_its_address_and_addresses_are_not_readable_on_disk(office: Office) -> None:
    assert await office.flood(FLOOD) == MOST // (SHARE + 1)
    over = DisputeOver(ChannelId(bytes(32)), tuple(n.to_bytes(32, "big") for n in range(1, 11)))
    office.store.commit([over])
    office.now += 100
    assert 9 <= await office.flood(FLOOD) <= 10
    rows = sql(office.store, "SELECT source FROM appointment_sources")
    assert {len(source) for (source,) in rows} == {16}
    assert not any(FLOOD.encode() in source for (source,) in rows)


def test_data_of_an_earlier_version_is_kept_and_its_clients_are_renewed(tmp_path: Path) -> None:
    tables = [table for table in SUBJECT.tables if table.name != "appointment_sources"]
    tables = [table for table in tables if table.name != "timely_claims"]

    def stored(rows: Rows, moment: AppointmentStored) -> None:
        rows.put(tables[0], moment.client, moment.locator, moment.revision, moment.blob, moment.time)

    older = msgspec.structs.replace(SUBJECT, tables=tuple(tables), writes={AppointmentStored: stored})
    store = open_store(tmp_path, [Schema(older, TOWER_SCHEMA.migrations[:1])], owner="a tower", durable=False)
    store.commit([AppointmentStored(ALICE.address, bytes(32), 1, b"old", 5)])
    store.close()
    store = open_store(tmp_path, [TOWER_SCHEMA], owner="a tower", durable=False)
    assert count_appointments(store) == 1
    store.commit([AppointmentStored(ALICE.address, bytes(32), 2, b"new", 6, b"s" * 16)])
    assert sql(store, "SELECT source FROM appointment_sources") == [(b"s" * 16,)]
    store.close()


def test_idle_strangers_end_each_other_and_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.channels.transport.descriptors.STRANGERS_MAX", 8)
    office, network = Office(tmp_path), MemoryNetwork(1)

    async def served(link: object) -> bool:
        try:
            await link.send([encode(Fetch(VERSION, bytes(32)))])  # type: ignore[attr-defined]
            return isinstance(decode((await link.receive())[0]), Refused | Held)  # type: ignore[attr-defined]
        except LinkClosed:
            return False

    async def story() -> None:
        async with trio.open_nursery() as nursery:
            endpoint, bound = network.endpoint(TOWER), list[PeerAddress]()

            async def serve() -> None:
                await endpoint.serve("tower", 1, office.service.handle, started=bound.append)

            nursery.start_soon(serve)
            await trio.testing.wait_all_tasks_blocked()
            client = await network.endpoint(ALICE).dial(bound[0])
            await client.send([encode(Upload(VERSION, bytes(32), 1, bytes(BLOB_SIZE)))])
            assert isinstance(decode((await client.receive())[0]), TowerReceipt)
            idle = []
            for number in range(10, 40):
                idle.append(await network.endpoint(PrivateKey(number.to_bytes(32, "big"))).dial(bound[0]))
                await trio.sleep(1)
            assert [await served(link) for link in idle] == [False] * 22 + [True] * 8
            assert await served(client)
            nursery.cancel_scope.cancel()

    simulate(story, 1)
    office.store.close()


def test_a_client_renews_in_time_what_it_was_promised(tmp_path: Path) -> None:
    office, network = Office(tmp_path / "tower"), MemoryNetwork(1)
    pair = Pair(ALICE, BOB, chain_id=1, contract=Address(bytes(20)))
    store = open_store(tmp_path / "alice", [CLIENT_SCHEMA], owner="a client", durable=False)

    async def commit(moments: object) -> None:
        store.commit(moments)  # type: ignore[arg-type]

    async def story() -> None:
        began = office.now - trio.current_time()

        def clock() -> float:
            office.now = began + trio.current_time()
            return office.now

        async with trio.open_nursery() as nursery:
            endpoint, bound = network.endpoint(TOWER), list[PeerAddress]()

            async def serve() -> None:
                await endpoint.serve("tower", 1, office.service.handle, started=bound.append)

            async def live() -> TowerClient:
                client = TowerClient(
                    key=ALICE, tower=bound[0], network=network.endpoint(ALICE), store=store, commit=commit,
                    entropy=seeded_entropy("alice"), jitter=lambda: 0.5, alarm=lambda alarm: None, clock=clock,
                    policy=ClientPolicy(),
                )  # fmt: skip
                nursery.start_soon(client.run)
                client.offer(pair.terms, pair.close_key, pair.proof(0, 1, 5), None)
                await client.wait_covered()
                return client

            nursery.start_soon(serve)
            await trio.testing.wait_all_tasks_blocked()
            client = await live()
            first = office.service.accepted
            await trio.sleep(RENEW - 7_200)
            assert office.service.accepted == first == 1
            await trio.sleep(14_400)
            assert office.service.accepted == 2 and client.statistics().dirty == 0
            await trio.sleep(RENEW - 14_400)
            client.forget(pair.channel)
            await trio.sleep(14_400)
            assert office.service.accepted == 2
            await live()  # a new life of the client: what it remembers of the receipt is old by now
            assert office.service.accepted == 3
            nursery.cancel_scope.cancel()

    simulate(story, 1)
    store.close()
    office.store.close()


async def test_a_tower_that_waits_for_its_chain_says_where_clients_will_reach_it(tmp_path: Path) -> None:
    async def wait_in_vain() -> None:
        await run_tower(
            tmp_path,
            TOWER,
            chain_url="http://127.0.0.1:1",
            host="127.0.0.1",
            port=9,
            ready=lambda status: None,
            alarm=lambda alarm: None,
        )

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_in_vain)
            while (status := read_status(tmp_path)) is None:  # noqa: ASYNC110  # it comes by way of the disk
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert status.waiting_for
    assert PeerAddress.parse(status.peer_address) == PeerAddress(bytes(TOWER.public), "127.0.0.1", 9)


class DeafLink:
    """A client that asks much at once, and reads nothing."""

    peer = ALICE.public
    dialed = False

    def __init__(self) -> None:
        self.asked = False
        self.sent: list[list[bytes]] = []

    async def receive(self) -> list[bytes]:
        if self.asked:
            await trio.sleep_forever()
        self.asked = True
        return [encode(Fetch(VERSION, bytes(32)))] * 400

    async def send(self, messages: list[bytes]) -> None:
        self.sent.append(messages)
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_who_asks_much_and_reads_nothing_takes_little_memory_and_is_ended(
    office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    link = DeafLink()
    with trio.fail_after(600), pytest.raises(LinkClosed, match="does not read"):
        await office.service.handle(link)
    assert [len(answers) for answers in link.sent] == [16]
