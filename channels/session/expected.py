"""Locks that are taken only by who expects their condition: of some kinds (`LockKind.expected`), one entry per kind.

A hash lock is anybody's payment. A stake in an app is taken only if this node plays that very instance, and a kind
with other conditions has somebody else who knows which of them are awaited. Whoever does registers here, once, before
the node has peers. A lock of such a kind is looked at in the step in which it comes: over a channel, or at the end of
an onion. What nobody expects is rejected at once, so that no lock pends for nothing.

`LockWanted` is the other side: a lock that is to arrive at a node, over whatever channels lead there. Who knows the
network carries it out (`LockSender`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.protocol.virtual import WayIn
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet


class Expecter(Protocol):
    """Knows which locks of a kind are awaited. Called within a step: must neither wait nor raise."""

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """Return why a peer's new lock is none that is awaited, None if it is one.

        `word`: what stood for the receiver at the end of the lock's onion (`LockWanted.word`); None if it came
        without one, from the peer itself.
        """

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours, of that kind, was given up before it was signed."""


class ExpectedLocks:
    """Who expects locks of which kind: see the module's docstring. Part of an `Engine`."""

    def __init__(self) -> None:
        self._by_kind: dict[int, Expecter] = {}

    def __repr__(self) -> str:
        return f"<ExpectedLocks of kinds {sorted(self._by_kind)}>"

    def register(self, kind: int, expecter: Expecter) -> None:
        """Let somebody answer for locks of a kind; raise InvalidInput if somebody does already."""
        if kind in self._by_kind:
            raise InvalidInput(f"locks of kind {kind} are expected by somebody already: there can be one")
        self._by_kind[kind] = expecter

    def objection(self, channel: Channel, lock: Lock, word: bytes | None = None) -> str | None:
        """Return why a peer's new lock is none that is awaited, None if it is one."""
        expecter = self._by_kind.get(lock.kind)
        if expecter is None:
            return f"nobody here expects locks of kind {lock.kind}"
        return expecter.objection(channel, lock, word)

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours was given up before it was signed."""
        expecter = self._by_kind.get(lock.kind)
        if expecter is not None:
            expecter.on_dropped(lock)


class LockWanted(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """A lock that is to arrive at a node: the same condition, amount and expiry in every channel on its way."""

    target: bytes
    """Public key: 33 bytes."""
    asset: Address
    amount: int
    expiry: int
    kind: int
    condition: bytes
    over: tuple[bytes, ...] = ()
    """Public keys of the nodes that it is to go over, in order; none: any."""
    ways: tuple[WayIn, ...] = ()
    """Over which channels it may reach the receiver, by the receiver's word: beside those that the network knows."""
    indirect: bool = False
    """Whether it must go over others, also if there is a channel with the receiver."""
    word: bytes
    """32 bytes that only the receiver and we know: by it nobody on the way can try out who waits for this lock."""


class LockSender(Protocol):
    """Sends locks over others."""

    def send(self, wanted: LockWanted, attach: Callable[[ChannelId, int], Moment] | None = None) -> ChannelId:
        """Queue a lock on one of our channels, with an onion, and return which.

        `attach(channel, lock)` makes what is stored with its signature. Raise ChannelNotReady if it may be possible
        later, InvalidInput if nothing leads there; nothing was done then. Each call takes another way than those that
        failed before.
        """

    def check(self, wanted: LockWanted) -> None:
        """Raise as `send` does, and do nothing."""

    def find_hubs(self, asset: Address, hubs: Sequence[Address]) -> tuple[bytes, ...]:
        """Return the public keys of hubs by their addresses: our peer, a peer of that, …; raise InvalidInput."""

    def failure(self, condition: bytes) -> str:
        """Return in words why such a lock came back last, empty if none did."""

    def forget(self, condition: bytes) -> None:
        """Such a lock is wanted no more: forget which ways failed."""
