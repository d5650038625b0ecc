"""Before a payment gets its place: whoever pays waits for room and for others' turns, and its key must be unused."""

from __future__ import annotations

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.session import Session
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage import schema
from tallystick.channels.storage.store import Store

TURN = 100
"""Payments after which whoever pays without ever waiting lets other tasks have their turn."""

KEYED_MIN = 1_000
"""Idempotency keys that are remembered before those whose payments have ended are forgotten."""

REST = 8
"""How many times as long as it signed small updates a node does everything else, if there is anything, before it signs
again. With many busy channels a round signs an update in each, at a fixed price for both sides: work that gathers
meanwhile makes the next updates larger instead of more. Batches grow with the load of the whole node."""

BATCH_WORTH = 100
"""Payments in an update that cost about as much as its fixed price: larger updates need less rest."""


def rest_after(seconds: float, updates: int, payments: int) -> float:
    """Return for how many seconds a node does everything else after a round that took so long to sign so much."""
    return REST * seconds * updates / (updates + payments / BATCH_WORTH)


class Backpressure:
    """Those who wait to pay, by channel."""

    def __init__(self) -> None:
        self._space: dict[ChannelId, trio.Event] = {}
        self._admitted = 0
        self._ended = False

    async def room(self, session: Session) -> None:
        """Wait while the channel is full; raise ChannelNotReady if it closes."""
        while session.full and not self._ended:
            session.require_payable()
            await self._space.setdefault(session.channel.id, trio.Event()).wait()

    async def turn(self) -> None:
        """Let others work after every TURN payments."""
        self._admitted += 1
        if self._admitted % TURN == 0:
            await trio.lowlevel.checkpoint()

    def look(self, session: Session) -> None:
        """Let those in who wait for a place, or let them see that there will be none."""
        if not session.full or not session.payable:
            space = self._space.pop(session.channel.id, None)
            if space is not None:
                space.set()

    def end(self) -> None:
        """Let nobody wait any more: the node goes down."""
        self._ended = True
        for space in self._space.values():
            space.set()


class PaymentKeys:
    """The keys of a node's payments, over all its channels."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Ticket] = {}
        self._many = KEYED_MIN
        """How many keys are worth looking for those whose payments have ended."""

    def require_unused(self, key: str) -> None:
        """Raise InvalidInput if that key stands for a payment."""
        waiting = self._held.get(key)
        pending = waiting is not None and not waiting.withdrawn and waiting.error is None
        if pending or schema.payment_of(self._store, key) is not None:
            raise InvalidInput(f"the key {key!r} stands for another payment already: choose another key")

    def remember(self, key: str, ticket: Ticket) -> None:
        """Note who has this key until its payment has ended: from then on the store knows it, or it is free again."""
        if len(self._held) >= self._many:
            self._held = {name: held for name, held in self._held.items() if not (held.is_done or held.withdrawn)}
            self._many = max(KEYED_MIN, 2 * len(self._held))
        self._held[key] = ticket
