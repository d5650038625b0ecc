"""Group commit of appointments: what many clients upload at the same time is made durable together, then receipted.

    handler: add, add, …, settle ──▶ queue ──▶ one commit of at most GROUP_MAX ──▶ receipts signed ──▶ handlers go on

Nobody's task is the committer: of the handlers that wait, one leads a group, and hands that on once its commit is
done, so that the next group is written while the receipts of this one are signed. What is led is never broken off: it
ends by itself, with the commit.

A receipt is signed after the commit and over what was in it: no receipt is ever given for what is not durable. Within
a group revisions are written in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from tallystick.channels.errors import StoreError
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Moment
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.messages import TowerReceipt
from tallystick.watchtower.schema import AppointmentsDropped, AppointmentStored

GROUP_MAX = 128
"""Appointments in one commit at most: the commit of a block waits for one such commit, and no longer."""

Name: TypeAlias = tuple[Address, bytes]
"""Client and locator."""

Signer: TypeAlias = Callable[[AppointmentStored, bytes], TowerReceipt]
"""Signs that an appointment with this content is durable."""

Work: TypeAlias = Callable[[Callable[[], list[TowerReceipt]]], Awaitable[list[TowerReceipt]]]
"""Does a piece of work that takes long: in a thread, or here and now."""


async def here(work: Callable[[], list[TowerReceipt]]) -> list[TowerReceipt]:
    """Do the work on the loop: under virtual time nothing may run beside it."""
    await trio.lowlevel.checkpoint()
    return work()


class PendingAppointment:
    """An appointment on its way to the disk. It ends with a receipt, or with the disk's refusal."""

    __slots__ = ("content", "error", "is_new", "moment", "receipt", "waiters")

    def __init__(self, moment: AppointmentStored, content: bytes, *, is_new: bool) -> None:
        self.moment = moment
        self.content = content
        """What the receipt is for: the blob, and what is timely beside it."""
        self.is_new = is_new
        self.receipt: TowerReceipt | None = None
        self.error: StoreError | None = None
        self.waiters: list[trio.Event] = []

    @property
    def name(self) -> Name:
        """Client and locator."""
        return self.moment.client, self.moment.locator

    @property
    def is_done(self) -> bool:
        """Whether it is durable and receipted, or refused."""
        return self.receipt is not None or self.error is not None

    def end(self, receipt: TowerReceipt | None, error: StoreError | None) -> None:
        """It is durable and receipted, or refused: wake who waits."""
        self.receipt, self.error = receipt, error
        for waiter in self.waiters:
            waiter.set()


class Intake:
    """The queue before the disk.

    `before` returns what else each group is to write, `after` is told what is durable, or why it is not.
    """

    def __init__(
        self,
        commit: Commit,
        sign: Signer,
        *,
        before: Callable[[], AppointmentsDropped | None],
        after: Callable[[Sequence[PendingAppointment], StoreError | None], None],
        work: Work = here,
    ) -> None:
        self._commit = commit
        self._sign = sign
        self._before = before
        self._after = after
        self._work = work
        self._queue: deque[PendingAppointment] = deque()
        self._newest: dict[Name, PendingAppointment] = {}
        self._parked: dict[trio.Event, None] = {}
        self._committing = False
        self.groups = 0
        """Commits since the start."""

    def pending(self, name: Name) -> PendingAppointment | None:
        """Return the newest revision of a name that is on its way to the disk, None if none is."""
        return self._newest.get(name)

    def __len__(self) -> int:
        """How many wait for a commit."""
        return len(self._queue)

    def add(self, pending: PendingAppointment) -> None:
        """Put an appointment into the queue. Who adds must `settle` it; its revision is above all that are pending."""
        self._queue.append(pending)
        self._newest[pending.name] = pending

    async def settle(self, waited: Sequence[PendingAppointment]) -> None:
        """Wait until all of these are done, and lead a group if it is one's turn."""
        mine = trio.Event()
        while any(not pending.is_done for pending in waited):
            if self._queue and not self._committing:
                with trio.CancelScope(shield=True):
                    await self._lead()
                continue
            for pending in waited:
                if not pending.is_done:
                    pending.waiters.append(mine)
            self._parked[mine] = None
            try:
                await mine.wait()
            finally:
                self._parked.pop(mine, None)
                self._call_next()  # whoever was called and goes away calls another one
            mine = trio.Event()

    def _call_next(self) -> None:
        if self._queue and not self._committing and self._parked:
            next(iter(self._parked)).set()

    async def _lead(self) -> None:
        group = [self._queue.popleft() for _ in range(min(GROUP_MAX, len(self._queue)))]
        self._committing, error = True, None
        try:
            moments: list[Moment] = [pending.moment for pending in group]
            if overdue := self._before():
                moments.insert(0, overdue)
            await self._commit(moments)
        except StoreError as refused:
            error = refused
        finally:
            self.groups += 1
            self._committing = False
            self._call_next()
        self._after(group, error)
        receipts: Sequence[TowerReceipt | None] = [None] * len(group)
        if error is None:
            receipts = await self._work(lambda: [self._sign(pending.moment, pending.content) for pending in group])
        for pending, receipt in zip(group, receipts, strict=True):
            pending.end(receipt, error)
            if self._newest.get(pending.name) is pending:
                del self._newest[pending.name]
