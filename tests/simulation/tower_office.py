"""A tower's appointments over a real store, with a client's key, for tests without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from simulation.tower_house import Pair
from tallystick.channels.errors import StoreError
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.watchtower.appointments import AppointmentService
from tallystick.watchtower.messages import (
    VERSION,
    Refused,
    TowerReceipt,
    Upload,
    verify_receipt,
)
from tallystick.watchtower.quotas import AppointmentQuota
from tallystick.watchtower.sealing import BLOB_SIZE, Appointment
from tallystick.watchtower.sqlite import TOWER_SCHEMA

ALICE, BOB, TOWER, CAROL = (PrivateKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
PAIR = Pair(ALICE, BOB, chain_id=1337, contract=Address(b"\x09" * 20))
APPOINTMENT = Appointment(PAIR.terms, PAIR.proof(0, 3, 2**120), PAIR.proof(1, 9, 2**127), b"v" * 64)


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
