"""Which idempotency keys stand for a payment: of those that wait or fly, in memory, and of signed ones, on disk."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage import schema
from tallystick.channels.storage.store import Store

KEYED_MIN = 1_000
"""Idempotency keys that are remembered before those whose payments have ended are forgotten."""


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
