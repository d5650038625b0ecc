"""Appointments of many clients go to the disk together; each has its receipt for what is durable, or its refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from simulation.tower_office import TOWER, Office
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Moment
from tallystick.sdk.bench.mass_exit import run_mass_exit
from tallystick.sdk.bench.tower import _Client, check_receipts
from tallystick.sdk.errors import MeasurementVoid
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.intake import GROUP_MAX
from tallystick.watchtower.messages import VERSION, Message, Refused, TowerReceipt, Upload, sign_receipt, verify_receipt
from tallystick.watchtower.schema import held_revision
from tallystick.watchtower.sealing import BLOB_SIZE


class SlowOffice(Office):
    """A desk whose disk takes its time: `gate` lets commits through."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.gate = trio.Semaphore(0)
        self.sizes: list[int] = []
        self.answers: dict[int, Message] = {}

    async def commit(self, moments: Sequence[Moment]) -> None:
        await self.gate.acquire()
        await super().commit(moments)
        self.sizes.append(len(moments))

    def open(self, times: int = 1) -> None:
        """Let so many commits through."""
        for _ in range(times):
            self.gate.release()

    async def ask(self, number: int, *, client: int | None = None, revision: int = 1, blob: bytes = b"") -> None:
        """Upload under locator `number`, for a client of its own unless told otherwise, and note the answer."""
        party = Address((number if client is None else client).to_bytes(20, "big"))
        upload = Upload(VERSION, keccak(number.to_bytes(4, "big")), revision, blob.ljust(BLOB_SIZE, b"b"))
        answer = await self.service.answer(party, upload, f"192.0.2.{number % 250}")
        if isinstance(answer, TowerReceipt):
            verify_receipt(answer, TOWER.public, party, upload)
            assert (held_revision(self.store, party, upload.locator) or 0) >= revision, "a receipt before the commit"
        self.answers[len(self.answers)] = answer

    @property
    def receipts(self) -> int:
        return sum(isinstance(answer, TowerReceipt) for answer in self.answers.values())


@pytest.fixture
def office(tmp_path: Path) -> Iterator[SlowOffice]:
    made = SlowOffice(tmp_path / "tower")
    yield made
    made.store.close()


async def test_what_comes_while_the_disk_is_busy_is_committed_together_in_bounded_groups(office: SlowOffice) -> None:
    count = 2 * GROUP_MAX + 10
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(office.ask, number)
        await trio.testing.wait_all_tasks_blocked()
        assert office.answers == {}
        office.open(count)
    assert office.receipts == count
    assert len(office.sizes) <= 5 and max(office.sizes) <= GROUP_MAX, "a block waits for one such commit"


async def test_who_goes_away_holds_nobody_up(office: SlowOffice) -> None:
    async with trio.open_nursery() as nursery:
        leaving = await nursery.start(_cancellable, office, 1)
        nursery.start_soon(office.ask, 2)
        second = await nursery.start(_cancellable, office, 3)
        nursery.start_soon(office.ask, 4)
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel()
        second.cancel()
        office.open(4)
    assert office.receipts >= 2
    assert len(office.service.intake) == 0


async def _cancellable(office: SlowOffice, number: int, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await office.ask(number)


async def test_a_refusing_disk_refuses_the_whole_group_and_gives_no_receipt(office: SlowOffice) -> None:
    office.disk_full = True
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(office.ask, number)
        await trio.testing.wait_all_tasks_blocked()
        office.open(5)
    refused = [answer for answer in office.answers.values() if isinstance(answer, Refused)]
    assert [answer.why for answer in refused] == [TowerRefusal.TROUBLE] * 5
    office.disk_full = False
    office.open()
    await office.ask(1)
    assert office.receipts == 1, "it is taken once the disk works"


async def test_revisions_of_one_appointment_that_come_at_once_are_answered_by_what_is_durable(
    office: SlowOffice,
) -> None:
    async with trio.open_nursery() as nursery:
        for revision, blob in ((5, b"x"), (3, b"y"), (5, b"x"), (5, b"z"), (6, b"x")):
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(_ask_again, office, revision, blob)
        await trio.testing.wait_all_tasks_blocked()
        office.open(5)
    stale = [answer for answer in office.answers.values() if isinstance(answer, Refused)]
    assert {answer.why for answer in stale} == {TowerRefusal.STALE} and min(answer.held for answer in stale) >= 5
    assert office.receipts >= 2 and len(office.answers) == 5
    assert held_revision(office.store, Address((7).to_bytes(20, "big")), keccak((7).to_bytes(4, "big"))) == 6


async def _ask_again(office: SlowOffice, revision: int, blob: bytes) -> None:
    await office.ask(7, revision=revision, blob=blob)


async def test_what_is_on_its_way_to_the_disk_counts_against_a_quota(office: SlowOffice) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(_ask_for, office, number)
        await trio.testing.wait_all_tasks_blocked()
        office.open(6)
    assert office.receipts == 2, "a client of this desk has two"


async def _ask_for(office: SlowOffice, number: int) -> None:
    await office.ask(number, client=1)


def test_a_mass_exit_is_answered_in_time_under_a_congested_fee_market(tmp_path: Path) -> None:
    found = run_mass_exit(40, str(tmp_path))
    assert (found.closes, found.answered) == (40, 40)
    assert 0 < found.latest_share_of_window < 0.6


def test_a_receipt_for_what_is_not_on_the_disk_voids_a_measurement(tmp_path: Path) -> None:
    client = _Client(1, 1)

    async def appoint() -> None:
        office = Office(tmp_path / "tower")
        upload = client._next()
        answer = await office.service.answer(client.key.address, upload)
        assert isinstance(answer, TowerReceipt)
        client.told.append((upload, answer))
        office.store.close()

    trio.run(appoint)
    check_receipts(tmp_path / "tower", [client], TOWER.public)
    upload, _ = client.told[0]
    higher = Upload(VERSION, upload.locator, upload.revision + 1, upload.blob)
    never = sign_receipt(TOWER, client.key.address, upload.locator, higher.revision, upload.blob, 0)
    client.told.append((higher, never))
    with pytest.raises(MeasurementVoid, match="not on the disk"):
        check_receipts(tmp_path / "tower", [client], TOWER.public)
