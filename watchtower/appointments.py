"""The tower's appointment service: takes appointments from clients, and says why when it does not. Receipts follow the
commit.

A new appointment is refused while the tower could not be relied on (it lags, its disk is nearly full, its fee account
is empty): then it only defends what it has. A newer revision of an appointment that it has is still taken, since
with it the tower defends better, and it needs no further space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import trio

from tallystick.channels.errors import Fault, LinkClosed, MalformedMessage, StoreError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.ports import Clock, Link, PlacedLink
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Store
from tallystick.channels.transport.descriptors import allowance, descriptor_limit
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.turns import Turns
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.covers import CoverService, named_by
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.intake import Intake, PendingAppointment, Work, here
from tallystick.watchtower.messages import (
    AskCover,
    AskPromise,
    Fetch,
    Held,
    Message,
    Refused,
    TowerReceipt,
    Upload,
    UploadTimely,
    decode,
    encode,
    sign_receipt,
    timely_of,
)
from tallystick.watchtower.quotas import AppointmentQuota
from tallystick.watchtower.schema import (
    AppointmentsDropped,
    AppointmentStored,
    count_appointments,
    has_appointments,
    held_revision,
    read_appointment,
    timely_data,
)

CLIENTS_PART = 0.5
"""Of the loop's time, what judging clients' messages takes at most: following the chain and challenging come first.
Clients take turns by the address that they come from. For the disk they wait together (`intake`)."""

READ_SIZE = 16_384
"""Bytes that one read takes from a client at most."""

ANSWERS_AT_ONCE = 16
"""Answers that are made before they are sent: more wait for whoever does not read, in our memory."""

SLOW_SECONDS = 60.0
"""How long a client may leave answers unread before its connection is ended."""

Troubles: TypeAlias = Callable[[], Sequence[str]]
"""Returns why the tower should take nothing new now, one sentence each; empty if all is well."""


@dataclass(frozen=True, eq=False)
class _After:
    """An upload that is answered once one of the same name is on the disk, whose revision is as high or higher."""

    before: PendingAppointment
    upload: Upload | UploadTimely


_Step: TypeAlias = Message | PendingAppointment | _After
"""An answer, or what it waits for."""


@dataclass(kw_only=True, eq=False, repr=False)
class AppointmentService:
    """Answers clients. `handle` is the network's handler."""

    key: PrivateKey
    store: Store
    commit: Commit
    """Fails at once when the disk refuses."""
    clock: Clock
    troubles: Troubles
    quota: int
    alarm: OnAlarm
    new_quota: AppointmentQuota
    kept: Callable[[], Collection[bytes]] = frozenset
    """Returns the locators of channels that are being closed: nothing is dropped of them."""
    stored: Callable[[Address, bytes, bool], None] = lambda client, locator, timely: None
    """Is told of which client, and under which locator, something was stored, and whether any of it is timely."""
    work: Work = here
    """Signs a group's receipts."""
    covers: CoverService | None = None
    """Answers what is asked about covers; None: there are none."""
    accepted: int = field(default=0, init=False)
    """Appointments and revisions taken since the start."""
    refused: int = field(default=0, init=False)
    """Requests refused since the start."""

    def __post_init__(self) -> None:
        self._turns = Turns(CLIENTS_PART)
        self._coming = Counter[tuple[bytes, bool]]()
        """What is on its way to the disk: new ones by client and by address, and what is timely (True) likewise."""
        self.intake = Intake(self.commit, self._sign, before=self._overdue, after=self._written, work=self.work)
        allowed = allowance(descriptor_limit())
        self._strangers = Guests(allowed.strangers)
        self._clients = Guests(allowed.links - allowed.strangers)

    async def handle(self, link: Link) -> None:
        """Serve one client until its connection ends; raise what the link raises, and MalformedMessage."""
        client, source = link.peer.address, bytes(link.peer).hex()
        if isinstance(link, PlacedLink):
            link.read_size, source = READ_SIZE, link.source
        with trio.CancelScope() as scope:
            guest = Guest(source, partial(self._rank, client), scope.cancel)
            known = Guest(source, lambda: Rank.OPENING, scope.cancel)
            if self._rank(client) is Rank.STRANGER:
                self._strangers.admit(guest)
            else:
                self._clients.admit(known)
            try:
                while True:
                    messages = await link.receive()
                    for first in range(0, len(messages), ANSWERS_AT_ONCE):
                        frames = messages[first : first + ANSWERS_AT_ONCE]
                        async with self._turns.turn(source):
                            steps = [self._begin(client, decode(frame), source) for frame in frames]
                        await _send(link, [encode(answer) for answer in await self._finish(client, steps, source)])
                    if self._strangers.holds(guest) and self._rank(client) is Rank.PARTNER:
                        self._strangers.leave(guest)
                        self._clients.admit(known)
            finally:
                self._strangers.leave(guest)
                self._clients.leave(known)

    @property
    def connected(self) -> tuple[int, int]:
        """How many are connected whose appointments are held, and how many others."""
        return len(self._clients), len(self._strangers)

    def _rank(self, client: Address) -> Rank:
        return Rank.PARTNER if has_appointments(self.store, client) else Rank.STRANGER

    async def answer(self, client: Address, message: Message, source: str = "") -> Message:
        """Return the answer to one message of a client; a receipt only once the blob is durable.

        `source` is the address that it comes from.
        """
        (answer,) = await self._finish(client, [self._begin(client, message, source)], source)
        return answer

    def _begin(self, client: Address, message: Message, source: str) -> _Step:
        """Return the answer to a message, or what has to be durable, or to be waited for, before there is one."""
        if isinstance(message, Upload | UploadTimely):
            return self._take(client, message, source)
        if isinstance(message, AskCover | AskPromise):
            return message
        if not isinstance(message, Fetch):
            text = "a client sends uploads, fetches and questions for covers only"
            raise MalformedMessage(text, Fault.UNKNOWN_MESSAGE)
        held = read_appointment(self.store, client, message.locator)
        if held is None:
            text = "the tower holds nothing under this locator"
            return self._refuse(message.locator, TowerRefusal.UNKNOWN, 0, text)
        return Held(message.locator, held.revision, held.blob)

    async def _finish(self, client: Address, steps: Sequence[_Step], source: str) -> list[Message]:
        """Wait for the disk; return the answers, in the order of the messages."""
        waited = [s.before if isinstance(s, _After) else s for s in steps if isinstance(s, _After | PendingAppointment)]
        await self.intake.settle(waited)
        return [await self._concluded(client, step, source) for step in steps]

    async def _concluded(self, client: Address, step: _Step, source: str) -> Message:
        while isinstance(step, _After):
            step = self._take(client, step.upload, source)
            if isinstance(step, _After | PendingAppointment):
                await self.intake.settle([step.before if isinstance(step, _After) else step])
        if isinstance(step, AskCover | AskPromise):
            return await self._ask_covers(client, step)
        if not isinstance(step, PendingAppointment):
            return step
        if step.receipt is not None:
            return step.receipt
        text, held = "the tower's disk refused; try again later", held_revision(self.store, *step.name)
        return self._refuse(step.moment.locator, TowerRefusal.TROUBLE, held or 0, text)

    async def _ask_covers(self, client: Address, asked: AskCover | AskPromise) -> Message:
        if self.covers is None:
            return self._refuse(
                named_by(asked), TowerRefusal.NO_COVER, 0, "this tower offers no covers: it has no bond"
            )
        return await self.covers.answer(client, asked)

    def _take(self, client: Address, upload: Upload | UploadTimely, source: str) -> _Step:
        coming = self.intake.pending((client, upload.locator))
        if coming is not None and upload.revision <= coming.moment.revision:
            return _After(coming, upload)  # whether that will be held is not known before it is durable
        held = held_revision(self.store, client, upload.locator)
        revision = max(held or 0, 0 if coming is None else coming.moment.revision)
        if held is not None and upload.revision <= held:
            return self._held_already(client, upload, held)
        if upload.revision == 0:
            return self._refuse_stale(upload, 0)
        mark, is_new = self.new_quota.mark(source), held is None and coming is None
        if is_new and (refused := self._refuse_new(client, upload, source, mark)):
            return refused
        timely = timely_of(upload)
        if timely and not timely_data(self.store, client, upload.locator):
            ways = self._coming[mark, True], self._coming[b"", True]
            if full := self.new_quota.timely_refusal(source, *ways):
                return self._refuse(upload.locator, TowerRefusal.QUOTA, revision, full)
        moment = AppointmentStored(
            client, upload.locator, upload.revision, upload.blob, int(self.clock()), mark, timely
        )
        pending = PendingAppointment(moment, upload.blob + timely, is_new=is_new)
        self._count(pending, 1)
        self.intake.add(pending)
        return pending

    def _held_already(self, client: Address, upload: Upload | UploadTimely, revision: int) -> Message:
        """Return the same receipt again for what is held, or say that something newer is."""
        held = read_appointment(self.store, client, upload.locator) if upload.revision == revision else None
        content = upload.blob + timely_of(upload)
        if held is None or content != held.blob + timely_data(self.store, client, upload.locator):
            return self._refuse_stale(upload, revision)
        return sign_receipt(self.key, client, upload.locator, revision, content, held.time)

    def _refuse_stale(self, upload: Upload | UploadTimely, revision: int) -> Refused:
        text = f"the tower holds revision {revision} of this appointment; send a higher one"
        return self._refuse(upload.locator, TowerRefusal.STALE, revision, text)

    def _refuse_new(self, client: Address, upload: Upload | UploadTimely, source: str, mark: bytes) -> Refused | None:
        """Return why a new appointment is not taken, None if it is."""
        if troubles := self.troubles():
            text = f"the tower takes nothing new now: {troubles[0]}"
            return self._refuse(upload.locator, TowerRefusal.TROUBLE, 0, text)
        if count_appointments(self.store, client) + self._coming[client, False] >= self.quota:
            text = f"this client has {self.quota} appointments already; more need another tower"
            return self._refuse(upload.locator, TowerRefusal.QUOTA, 0, text)
        if full := self.new_quota.refusal(source, self.clock(), self._coming[mark, False]):
            return self._refuse(upload.locator, TowerRefusal.QUOTA, 0, full)
        return None

    def _count(self, pending: PendingAppointment, one: int) -> None:
        """Count what is on its way to the disk with what is there: all at once would get beyond any limit."""
        moment, names = pending.moment, list[tuple[bytes, bool]]()
        if pending.is_new:
            names += (moment.client, False), (moment.source, False)
        if moment.timely:
            names += (moment.source, True), (b"", True)
        for name in names:
            self._coming[name] += one
            if not self._coming[name]:
                del self._coming[name]

    def _overdue(self) -> AppointmentsDropped | None:
        return self.new_quota.overdue(int(self.clock()), self.kept())

    def _written(self, group: Sequence[PendingAppointment], error: StoreError | None) -> None:
        """A group is durable, or the disk has refused it."""
        for pending in group:
            self._count(pending, -1)
            if error is None:
                self.stored(pending.moment.client, pending.moment.locator, bool(pending.moment.timely))
        if error is None:
            self.accepted += len(group)
        else:
            text = f"the disk refused an appointment ({error}); nothing new is taken until it works"
            self.alarm(Alarm(AlarmKind.DISK, text))

    def _sign(self, moment: AppointmentStored, content: bytes) -> TowerReceipt:
        return sign_receipt(self.key, moment.client, moment.locator, moment.revision, content, moment.time)

    def _refuse(self, locator: bytes, why: TowerRefusal, held: int, text: str) -> Refused:
        self.refused += 1
        return Refused(locator, why, held, text[:512])


async def _send(link: Link, answers: list[bytes]) -> None:
    """Send answers; raise LinkClosed if the client does not read them."""
    with trio.move_on_after(SLOW_SECONDS) as slow:
        await link.send(answers)
    if slow.cancelled_caught:
        raise LinkClosed("the client does not read what is sent to it")
