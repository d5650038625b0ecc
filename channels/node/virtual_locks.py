"""Where the locks of a virtual channel are, and what is owed in the end. Sessions are looked at, and not changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tallystick.channels.node.virtual_store import VirtualHolding, VirtualPhase
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.virtual import VIRTUAL, Amounts, conditions_of
from tallystick.channels.session.session import Session


class HeldLock(NamedTuple):
    """A pending lock of a virtual channel."""

    channel: Channel
    lock: Lock
    place: int
    """Of its condition: 0 to 3."""
    signed: bool
    """By both sides of its channel."""
    given_back: bool = False
    """Whether we have let the peer take it back."""


def locks_of(sessions: Mapping[ChannelId, Session], holding: VirtualHolding, *, ours: bool) -> Iterator[HeldLock]:
    """Yield the pending locks of a virtual channel in our channels, ours or the peers'.

    Of ours all that a peer may still hold us to: also one whose end it has not acknowledged.
    """
    conditions = conditions_of(holding.id)
    for session in list(sessions.values()):
        channel = session.channel
        if channel.phase is Phase.GONE:
            continue
        for lock in _ours(channel) if ours else channel.theirs.simplex.locks:
            if lock.kind == VIRTUAL and lock.condition in conditions:
                signed = lock in channel.ours.simplex.locks if ours else bool(channel.theirs.countersignature)
                back = not ours and any(rejection.lock == lock.id for rejection in channel.rejections)
                yield HeldLock(channel, lock, conditions.index(lock.condition), signed, back)


def _ours(channel: Channel) -> Iterable[Lock]:
    states = (channel.ours, *channel.flight)
    return {lock.id: lock for state in states for lock in state.simplex.locks}.values()


def is_here(sessions: Mapping[ChannelId, Session], holding: VirtualHolding, place: int, amount: int) -> bool:
    """Whether a lock of the other's is here as it should be, countersigned, in a channel that is open."""
    wanted = amount, holding.terms.expiry
    return amount == 0 or any(
        held.signed and not held.given_back and held.place == place and (held.lock.amount, held.lock.expiry) == wanted
        for held in locks_of(sessions, holding, ours=False)
        if held.channel.terms.asset == holding.terms.asset and held.channel.phase is Phase.OPEN
    )


def forms(holding: VirtualHolding, channel: Channel) -> tuple[int, Amounts, Amounts]:
    """Return who owes (2: nobody), and the outcomes by which it is paid: out of its stake, and by a settlement."""
    owed = holding.terms.stakes[0] - channel.balances()[0]
    first, second = max(0, owed), max(0, -owed)
    owes = 0 if first else 1 if second else 2
    return owes, (first, second, 0, 0), (0, 0, first, second)


def is_expected(
    sessions: Mapping[ChannelId, Session], holding: VirtualHolding, channel: Channel, lock: Lock, word: bytes | None
) -> bool:
    """Whether a peer's new lock, which has one of the four conditions, is one of the other's that may come now.

    `word`: see `Expecter.objection`; the other's stand for the channel's id.
    """
    terms, place = holding.terms, conditions_of(holding.id).index(lock.condition)
    stake = terms.stakes[holding.other]
    if place == holding.other:
        comes = lock.amount == stake and holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING)
    else:
        comes = place == 2 + holding.other and lock.amount <= stake and holding.phase is VirtualPhase.OPEN
    known = channel.peer_key == holding.peer if word is None else word == holding.id
    twice = any(
        held.place == place and not held.given_back and (held.channel.id, held.lock.id) != (channel.id, lock.id)
        for held in locks_of(sessions, holding, ours=False)
    )
    return comes and known and not twice and (lock.expiry, channel.terms.asset) == (terms.expiry, terms.asset)
