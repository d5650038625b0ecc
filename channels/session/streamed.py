"""One stream, paid or received: how far it was asked for, released, stored and acknowledged (`streams` says when)."""

from __future__ import annotations

from collections import deque

import trio

from tallystick.channels.protocol.hashchain import HashChain, StreamProof, StreamTerms
from tallystick.channels.protocol.objects import Lock


class OutgoingStreamState:
    """A stream that we pay. Depths count units: wanted ≥ released ≥ acked."""

    def __init__(self, lock: Lock, terms: StreamTerms, chain: HashChain | None, bound: int, released: int = 0) -> None:
        """`bound`: how many units may be without acknowledgement."""
        self.lock = lock.id
        self.condition = lock.condition
        self.signed = False
        """Whether its lock was ever part of our simplex."""
        self.expiry = lock.expiry
        self.terms = terms
        self._bound = bound
        self.limit = min(terms.length, bound)
        """Up to what depth may be wanted now."""
        self.chain = chain
        self.wanted = self.released = released
        self.acked = 0
        self.closing = False
        """No units are taken any more; it is unlocked as soon as possible."""
        self.paid: int | None = None
        """What it came to, once its lock is gone."""
        self.link = terms.tip
        """The deepest that was released."""
        self.frames: deque[int] = deque()
        """Depths that were sent on this connection and not acknowledged."""
        self._reach = terms.length
        self._over = trio.Event()
        self._waiting: dict[trio.Event, int] = {}

    @property
    def is_ended(self) -> bool:
        """Whether its lock is gone, or never came to be."""
        return self.paid is not None

    @property
    def proof(self) -> StreamProof:
        """What unlocks it."""
        return StreamProof(self.link, self.released, self.terms)

    async def wait(self, depth: int) -> None:
        """Return once the payee has acknowledged that depth, or never will."""
        if self._pends(depth):
            event = trio.Event()
            self._waiting[event] = depth
            try:
                await event.wait()
            finally:
                self._waiting.pop(event, None)

    async def wait_ended(self) -> None:
        """Return once its lock is gone."""
        await self._over.wait()

    def _pends(self, depth: int) -> bool:
        return self.acked < depth <= self._reach and not self.is_ended

    def acknowledge(self, depth: int) -> None:
        """The payee holds everything up to this depth durably."""
        self.acked = max(self.acked, depth)
        self.limit = min(self.terms.length, self.acked + self._bound)
        while self.frames and self.frames[0] <= depth:
            self.frames.popleft()
        self._wake()

    def freeze(self) -> None:
        """Nothing more will be released: nobody need wait for it."""
        self.closing, self._reach = True, self.released
        self._wake()

    def end(self, paid: int) -> None:
        """Its lock is gone, and paid this."""
        self.closing, self.paid = True, paid
        self.acked = max(self.acked, paid // self.terms.unit)
        self._over.set()
        self._wake()

    def _wake(self) -> None:
        for event in [event for event, depth in self._waiting.items() if not self._pends(depth)]:
            del self._waiting[event]
            event.set()


class IncomingStreamState:
    """A stream that the peer pays."""

    def __init__(self, lock: int, expiry: int, proof: StreamProof) -> None:
        self.lock = lock
        self.expiry = expiry
        self.terms = proof.terms
        self.depth = self.stored = self.secured = proof.depth
        """`secured` ≤ `stored` ≤ `depth`: durable, part of the round's commit, received."""
        self.link = proof.link
        self.waiting: StreamProof | None = None
        """A deeper link that is right and not taken yet: whether there is time left to claim it is not known."""
        self.must_ack = False
        self.shown = 0
        """How deep a link the payer has shown on this connection."""
        self.paid: int | None = None
        """What it came to, once its lock is gone."""

    def secure(self, depth: int, paid: int | None) -> None:
        """All up to that depth is durable; if its lock is gone, it paid so much."""
        self.secured, self.paid = depth, paid

    @property
    def proof(self) -> StreamProof:
        """What claims it."""
        return StreamProof(self.link, self.depth, self.terms)
