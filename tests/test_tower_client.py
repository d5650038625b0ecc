"""A client uploads each channel's newest appointment, and counts as covered only what a tower gave a receipt for."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from simulation.tower_office import ALICE, CAROL, PAIR, TOWER, Office
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Moment
from tallystick.channels.testing.clock import seeded_entropy
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.watchtower.client import TowerClient
from tallystick.watchtower.messages import (
    Message,
    TowerReceipt,
    Upload,
    decode,
    encode,
)
from tallystick.watchtower.offers import ClientPolicy
from tallystick.watchtower.schema import Coverage
from tallystick.watchtower.sqlite import CLIENT_SCHEMA


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "tower")
    yield made
    made.store.close()


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
        await client.wait_covered()
        assert home.journal == ["store 1 covering 0,0", "upload 1", "store 1 covering 4,0"]


@pytest.mark.parametrize(("first", "most"), [(60.0, 30.0), (0.0, 30.0), (0.0, 0.0)])
async def test_a_client_tries_again_with_whatever_pauses_its_policy_takes(
    home: Home, first: float, most: float, autojump_clock: trio.testing.MockClock
) -> None:
    home.policy = ClientPolicy(every=1.0, backoff_first=first, backoff_max=most)
    async with home.client() as client:
        home.network.partition(ALICE.public)
        offer(client, 4, 9)
        await trio.sleep(90)
        assert client.statistics().dirty == 1 and client.statistics().last_fault
        home.network.heal()
        with trio.fail_after(100):
            await client.wait_covered()


async def test_many_payments_make_one_upload_of_the_newest_and_no_write(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        for seq in range(1, 201):
            offer(client, seq, seq * 10)
        assert home.journal == []
        assert client.statistics().exposed == 2_000
        await client.wait_covered()
        assert home.journal[-1] == "store 1 covering 200,0"
        assert client.statistics().uploads == 1
        assert client.statistics().exposed == 0


async def test_what_a_client_covered_is_known_after_a_restart(
    home: Home, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 4, 9)
        await client.wait_covered()
    async with home.client() as client:
        offer(client, 4, 9)
        assert client.statistics().dirty == 0
        offer(client, 5, 10)
        assert client.statistics().exposed == 1
        await client.wait_covered()
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
        await client.wait_covered()
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
            await client.wait_covered()


@pytest.mark.alarm("old-data")
async def test_an_old_copy_of_the_data_never_overwrites_a_newer_appointment(
    home: Home, office: Office, autojump_clock: trio.testing.MockClock
) -> None:
    async with home.client() as client:
        offer(client, 4, 9)
        await client.wait_covered()
        offer(client, 5, 10)
        await client.wait_covered()
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
        await client.wait_covered()


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
            await client.wait_covered()


async def test_fetching_what_no_tower_holds_gives_none(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    async with home.client() as client:
        assert await client.fetch(PAIR.terms, PAIR.close_key) is None


async def test_a_forgotten_channel_is_not_uploaded(home: Home, autojump_clock: trio.testing.MockClock) -> None:
    async with home.client() as client:
        offer(client, 1, 1)
        client.forget(PAIR.channel)
        await client.wait_covered()
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
