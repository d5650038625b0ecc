"""The tower's appointment service: takes appointments from clients, and says why when it does not. Receipts follow the
commit.

A new appointment is refused while the tower could not be relied on (it lags, its disk is nearly full, its fee account
is empty): then it only defends what it has. A newer revision of an appointment that it has is still taken, since
with it the tower defends better, and it needs no further space.
"""

from __future__ import annotations

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
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.transport.descriptors import allowance, descriptor_limit
from tallystick.channels.transport.guests import Guest, Guests, Rank
from tallystick.channels.transport.turns import Turns
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.messages import (
    Fetch,
    Held,
    Message,
    Refused,
    Upload,
    UploadTimely,
    decode,
    encode,
    sign_receipt,
    timely_of,
)
from tallystick.watchtower.quotas import AppointmentQuota
from tallystick.watchtower.schema import (
    AppointmentStored,
    count_appointments,
    has_appointments,
    read_appointments,
    timely_data,
)

CLIENTS_PART = 0.5
"""Of the loop's time, what answering clients takes at most, waiting for the disk included: following the chain and
challenging come first. Clients take turns by the address that they come from."""

READ_SIZE = 16_384
"""Bytes that one read takes from a client at most."""

ANSWERS_AT_ONCE = 16
"""Answers that are made before they are sent: more wait for whoever does not read, in our memory."""

SLOW_SECONDS = 60.0
"""How long a client may leave answers unread before its connection is ended."""

Troubles: TypeAlias = Callable[[], Sequence[str]]
"""Returns why the tower should take nothing new now, one sentence each; empty if all is well."""


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
    stored: Callable[[Address, bytes], None] = lambda client, locator: None
    """Is told of which client, and under which locator, something was stored."""
    accepted: int = field(default=0, init=False)
    """Appointments and revisions taken since the start."""
    refused: int = field(default=0, init=False)
    """Requests refused since the start."""

    def __post_init__(self) -> None:
        self._turns = Turns(CLIENTS_PART)
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
                        answers = []
                        for message in messages[first : first + ANSWERS_AT_ONCE]:
                            async with self._turns.turn(source):
                                answers.append(encode(await self.answer(client, decode(message), source)))
                        await _send(link, answers)
                    if self._strangers.holds(guest) and self._rank(client) is Rank.PARTNER:
                        self._strangers.leave(guest)
                        self._clients.admit(known)
            finally:
                self._strangers.leave(guest)
                self._clients.leave(known)

    def _rank(self, client: Address) -> Rank:
        return Rank.PARTNER if has_appointments(self.store, client) else Rank.STRANGER

    async def answer(self, client: Address, message: Message, source: str = "") -> Message:
        """Return the answer to one message of a client; a receipt only once the blob is durable.

        `source` is the address that it comes from.
        """
        if isinstance(message, Upload | UploadTimely):
            return await self._take(client, message, source)
        if not isinstance(message, Fetch):
            raise MalformedMessage("a client sends uploads and fetches only", Fault.UNKNOWN_MESSAGE)
        held = self._held(client, message.locator)
        if held is None:
            text = "the tower holds nothing under this locator"
            return self._refuse(message.locator, TowerRefusal.UNKNOWN, 0, text)
        return Held(message.locator, held.revision, held.blob)

    def _held(self, client: Address, locator: bytes) -> AppointmentStored | None:
        return next((row for row in read_appointments(self.store, locator) if row.client == client), None)

    async def _take(self, client: Address, upload: Upload | UploadTimely, source: str) -> Message:
        held = self._held(client, upload.locator)
        revision = 0 if held is None else held.revision
        timely, before = timely_of(upload), timely_data(self.store, client, upload.locator)
        content = upload.blob + timely
        if held is not None and upload.revision == held.revision and content == held.blob + before:
            return sign_receipt(self.key, client, upload.locator, revision, content, held.time)
        if upload.revision <= revision:
            text = f"the tower holds revision {revision} of this appointment; send a higher one"
            return self._refuse(upload.locator, TowerRefusal.STALE, revision, text)
        if held is None:
            if troubles := self.troubles():
                text = f"the tower takes nothing new now: {troubles[0]}"
                return self._refuse(upload.locator, TowerRefusal.TROUBLE, 0, text)
            if count_appointments(self.store, client) >= self.quota:
                text = f"this client has {self.quota} appointments already; more need another tower"
                return self._refuse(upload.locator, TowerRefusal.QUOTA, 0, text)
            if full := self.new_quota.refusal(source, self.clock()):
                return self._refuse(upload.locator, TowerRefusal.QUOTA, 0, full)
        if timely and not before and (full := self.new_quota.timely_refusal(source)):
            return self._refuse(upload.locator, TowerRefusal.QUOTA, revision, full)
        time = int(self.clock())
        stores = AppointmentStored(
            client, upload.locator, upload.revision, upload.blob, time, self.new_quota.mark(source), timely
        )
        moments: list[Moment] = [stores]
        if overdue := self.new_quota.overdue(time, self.kept()):
            moments.insert(0, overdue)
        try:
            await self.commit(moments)
        except StoreError as error:
            text = f"the disk refused an appointment ({error}); nothing new is taken until it works"
            self.alarm(Alarm(AlarmKind.DISK, text))
            text = "the tower's disk refused; try again later"
            return self._refuse(upload.locator, TowerRefusal.TROUBLE, revision, text)
        self.stored(client, upload.locator)
        stored = self._held(client, upload.locator)
        if stored is None or (stored.revision, stored.blob) != (upload.revision, upload.blob):
            # Another connection of the same client was faster with a higher revision.
            return self._refuse(
                upload.locator, TowerRefusal.STALE, stored.revision if stored else 0, "a newer one came first"
            )
        self.accepted += 1
        return sign_receipt(self.key, client, upload.locator, upload.revision, content, stored.time)

    def _refuse(self, locator: bytes, why: TowerRefusal, held: int, text: str) -> Refused:
        self.refused += 1
        return Refused(locator, why, held, text[:512])


async def _send(link: Link, answers: list[bytes]) -> None:
    """Send answers; raise LinkClosed if the client does not read them."""
    with trio.move_on_after(SLOW_SECONDS) as slow:
        await link.send(answers)
    if slow.cancelled_caught:
        raise LinkClosed("the client does not read what is sent to it")
