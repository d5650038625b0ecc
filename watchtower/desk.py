"""The tower's desk: takes appointments from clients, and says why when it does not. Receipts follow the commit.

A new appointment is refused while the tower could not be relied on (it lags, its disk is nearly full, its fee account
is empty): then it only defends what it has. A newer revision of an appointment that it has is still taken, since
with it the tower defends better, and it needs no further space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tallystick.channels.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.errors import Fault, MalformedMessage, StoreError
from tallystick.channels.keys import PrivateKey
from tallystick.channels.objects import Address
from tallystick.channels.ports import Clock, Link
from tallystick.channels.store import Moment, Store
from tallystick.settlement.sender import Commit
from tallystick.watchtower.errors import Why
from tallystick.watchtower.messages import Fetch, Held, Message, Refused, Upload, decode, encode, sign_receipt
from tallystick.watchtower.schema import (
    AppointmentStored,
    StoredAppointment,
    count_appointments,
    read_appointments,
)

Troubles: TypeAlias = Callable[[], Sequence[str]]
"""Returns why the tower should take nothing new now, one sentence each; empty if all is well."""


class Desk:
    """Answers clients. `handle` is the network's handler. `commit` fails at once when the disk refuses."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        store: Store,
        commit: Commit,
        clock: Clock,
        troubles: Troubles,
        quota: int,
        alarm: OnAlarm,
    ) -> None:
        self._key = key
        self._store = store
        self._commit = commit
        self._clock = clock
        self._troubles = troubles
        self._quota = quota
        self._alarm = alarm
        self.accepted = 0
        """Appointments and revisions taken since the start."""
        self.refused = 0
        """Requests refused since the start."""

    async def handle(self, link: Link) -> None:
        """Serve one client until its connection ends; raise what the link raises, and MalformedMessage."""
        client = link.peer.address
        while True:
            messages = await link.receive()
            answers = [await self.answer(client, decode(message)) for message in messages]
            await link.send([encode(answer) for answer in answers])

    async def answer(self, client: Address, message: Message) -> Message:
        """Return the answer to one message of a client; a receipt only once the blob is durable."""
        match message:
            case Upload():
                answer = await self._take(client, message)
            case Fetch():
                held = self._held(client, message.locator)
                answer = (
                    self._refuse(message.locator, Why.UNKNOWN, 0, "the tower holds nothing under this locator")
                    if held is None
                    else Held(message.locator, held.revision, held.blob)
                )
            case _:
                raise MalformedMessage("a client sends uploads and fetches only", Fault.UNKNOWN_MESSAGE)
        return answer

    def _held(self, client: Address, locator: bytes) -> StoredAppointment | None:
        return next((row for row in read_appointments(self._store, locator) if row.client == client), None)

    async def _take(self, client: Address, upload: Upload) -> Message:
        held = self._held(client, upload.locator)
        revision = 0 if held is None else held.revision
        if held is not None and upload.revision == held.revision and upload.blob == held.blob:
            return sign_receipt(self._key, client, upload.locator, revision, held.blob, held.time)
        if upload.revision <= revision:
            text = f"the tower holds revision {revision} of this appointment; send a higher one"
            return self._refuse(upload.locator, Why.STALE, revision, text)
        if held is None:
            if troubles := self._troubles():
                return self._refuse(upload.locator, Why.TROUBLE, 0, f"the tower takes nothing new now: {troubles[0]}")
            if count_appointments(self._store, client) >= self._quota:
                text = f"this client has {self._quota} appointments already; more need another tower"
                return self._refuse(upload.locator, Why.QUOTA, 0, text)
        time = int(self._clock())
        moment: Moment = AppointmentStored(client, upload.locator, upload.revision, upload.blob, time)
        try:
            await self._commit([moment])
        except StoreError as error:
            text = f"the disk refused an appointment ({error}); nothing new is taken until it works"
            self._alarm(Alarm(AlarmKind.DISK, text))
            return self._refuse(upload.locator, Why.TROUBLE, revision, "the tower's disk refused; try again later")
        stored = self._held(client, upload.locator)
        if stored is None or (stored.revision, stored.blob) != (upload.revision, upload.blob):
            # Another connection of the same client was faster with a higher revision.
            return self._refuse(upload.locator, Why.STALE, stored.revision if stored else 0, "a newer one came first")
        self.accepted += 1
        return sign_receipt(self._key, client, upload.locator, upload.revision, upload.blob, stored.time)

    def _refuse(self, locator: bytes, why: Why, held: int, text: str) -> Refused:
        self.refused += 1
        return Refused(locator, why, held, text[:512])
