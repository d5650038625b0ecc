"""Jamming: who holds many locks, or large ones, for long, and pays nothing, must not keep others from being served.

The slots and the value of each outgoing channel are divided into three buckets:

    general      for everybody; one incoming peer may have a part of it only
    congestion   when the general bucket is full: one small lock per incoming peer, and whoever holds it for long is out
                 for two weeks
    protected    for those with a reputation, beside what is left of the general bucket: the k-th of n places needs a
                 confidence of at least k / n

The reputation of a peer is what payments earned us against what they could have earned: a quick payment counts its fee
on both sides, a failed one on one side only, a slow one as often as quick ones would have fitted into its time. Pending
locks count as if they were held until they expire. The past halves its weight in 30 days. A payment's confidence is the
lower one of its incoming and its outgoing peer: no stranger gets in behind a good name, or before one.

Whoever got a secret and let its lock expire is barred for two weeks, restarts or not: what is too small to be claimed
on chain would be its to take (`exposure` bounds what it can take until then). So what a jammer without a reputation
can hold is bounded, and a reputation costs more fees than it can spoil. Pure.
Source: the reputation that eclair ships; Shikhelman and Tikhomirov, "Unjamming Lightning" (2022); the buckets of the
proposals for HTLC endorsement.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable
from typing import TypeVar

import msgspec

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.values.arguments import Options


class JammingLimits(Options, frozen=True, kw_only=True):
    """Shares are in percent of an outgoing channel's slots and value; times are seconds of chain time."""

    general_slots: int = 50
    general_value: int = 80
    stranger: int = 50
    """Percent of the general slots that one incoming peer may have."""
    congestion_slots: int = 10
    congestion_value: int = 10
    half_life: int = 30 * 86_400
    patience: int = 300
    """How long a payment may take and count as one."""
    banned: int = 14 * 86_400
    """How long a peer that was slow in the congestion bucket has no place in it."""


class Bucket(enum.IntEnum):
    """Which part of a channel a lock takes."""

    GENERAL = 1
    CONGESTION = 2
    PROTECTED = 3


class Reputation(msgspec.Struct, frozen=True):
    """What a peer's payments could have earned (`worth`) and have (`earned`), as of `time`. In fees, decayed."""

    worth: float = 0.0
    earned: float = 0.0
    time: int = 0

    def at(self, now: int, half_life: int) -> Reputation:
        """Return it with the past's weight of `now`."""
        kept = 0.5 ** (max(0, now - self.time) / half_life)
        return Reputation(self.worth * kept, self.earned * kept, max(now, self.time))


class ForwardRequest(msgspec.Struct, frozen=True):
    """A payment that asks to be forwarded, and the channel that it is to go through."""

    incoming: bytes
    """The peer that it comes from."""
    outgoing: bytes
    """The peer that it goes to."""
    channel: ChannelId
    amount: int
    fee: int
    expiry: int
    slots: int
    """Of the outgoing channel, in all."""
    value: int
    """Of the outgoing channel, in all: what both sides have in it."""
    asset: bytes = b""
    """Of both channels; empty for the chain's coin. Fees in different assets cannot be compared, so that each has
    reputations of its own: those who pay in worthless tokens earn one for worthless tokens."""

    @property
    def names(self) -> tuple[bytes, bytes]:
        """Whose reputations are at stake: the incoming and the outgoing peer's, in this asset."""
        return self.incoming + self.asset, self.outgoing + self.asset


class _Held(msgspec.Struct, frozen=True):
    asked: ForwardRequest
    bucket: Bucket
    began: int
    weight: int
    """What it could earn, if it is held until it expires."""


class _Use(msgspec.Struct):
    slots: int = 0
    value: int = 0


_Place = TypeVar("_Place", bound=Hashable)


class Jamming:
    """What is pending, and who is worth what. Bounded by the locks of this node's channels, and by its peers.

    Reputations go by `ForwardRequest.names`: a peer's key, followed by the asset unless it is the coin.
    """

    def __init__(
        self,
        limits: JammingLimits,
        reputations: Iterable[tuple[bytes, Reputation]] = (),
        bars: Iterable[tuple[bytes, int]] = (),
    ) -> None:
        """Begin with what is on disk: peers with their reputations, and those that are barred, until when."""
        self.limits = limits
        self._reputations = dict(reputations)
        self._changed: set[bytes] = set()
        self._held: dict[Hashable, _Held] = {}
        self._used: dict[tuple[ChannelId, Bucket], _Use] = {}
        self._by_peer: dict[tuple[ChannelId, Bucket, bytes], _Use] = {}
        self._pending: dict[bytes, int] = {}
        """Weights of what is held, by peer: whole numbers, so that taking one away leaves the others."""
        self._banned: dict[bytes, int] = {}
        self._barred = dict(bars)

    def __len__(self) -> int:
        return len(self._held)

    def reputation(self, peer: bytes, now: int) -> Reputation:
        """Return what a peer is worth now."""
        return self._reputations.get(peer, Reputation(time=now)).at(now, self.limits.half_life)

    def confidence(self, peer: bytes, weight: float, now: int) -> float:
        """Return from 0 to 1 how likely a further payment of that weight with this peer is good and quick."""
        reputation = self.reputation(peer, now)
        return reputation.earned / (reputation.worth + self._pending.get(peer, 0) + weight)

    def admit(self, asked: ForwardRequest, now: int) -> Bucket | None:
        """Return which bucket the payment may take a place in, None if it has to be refused."""
        limits = self.limits
        if self.is_barred(asked.incoming, now):
            return None
        general = self._room(asked, limits.general_slots, limits.general_value)
        used = self._use(asked.channel, Bucket.GENERAL)
        mine = self._by_peer.get((asked.channel, Bucket.GENERAL, asked.incoming), _Use())
        allowed = max(1, general.slots * limits.stranger // 100)
        if _fits(used, asked.amount, general) and mine.slots < allowed:
            return Bucket.GENERAL
        if self._is_trusted(asked, now):
            return Bucket.PROTECTED
        return Bucket.CONGESTION if self._is_small(asked, now) else None

    def _is_trusted(self, asked: ForwardRequest, now: int) -> bool:
        """Whether the payment may go beyond what is left of the general bucket, and how far."""
        limits = self.limits
        general = self._room(asked, limits.general_slots, limits.general_value)
        congestion = self._room(asked, limits.congestion_slots, limits.congestion_value)
        slots, value = asked.slots - general.slots - congestion.slots, asked.value - general.value - congestion.value
        taken = [self._use(asked.channel, bucket) for bucket in (Bucket.GENERAL, Bucket.PROTECTED)]
        beyond_slots = sum(use.slots for use in taken) + 1 - general.slots
        beyond_value = sum(use.value for use in taken) + asked.amount - general.value
        if beyond_slots > slots or beyond_value > value:
            return False
        occupied = max(beyond_slots / slots if slots else 0.0, beyond_value / value if value else 0.0)
        weight = self._weight(asked, now)
        return max(occupied, 1 / asked.slots) <= min(self.confidence(name, weight, now) for name in asked.names)

    def _is_small(self, asked: ForwardRequest, now: int) -> bool:
        room = self._room(asked, self.limits.congestion_slots, self.limits.congestion_value)
        mine = self._by_peer.get((asked.channel, Bucket.CONGESTION, asked.incoming))
        if mine is not None or now < self._banned.get(asked.incoming, 0) or not room.slots:
            return False
        return asked.amount <= room.value // room.slots and _fits(
            self._use(asked.channel, Bucket.CONGESTION), asked.amount, room
        )

    def _room(self, asked: ForwardRequest, slots: int, value: int) -> _Use:
        return _Use(asked.slots * slots // 100, asked.value * value // 100)

    def _use(self, channel: ChannelId, bucket: Bucket) -> _Use:
        return self._used.get((channel, bucket), _Use())

    def _weight(self, asked: ForwardRequest, now: int) -> int:
        return _worth(asked.fee, asked.expiry - now, self.limits.patience)

    def began(self, name: Hashable, asked: ForwardRequest, bucket: Bucket, now: int) -> None:
        """The payment is under way, under a name of the caller's."""
        held = self._held[name] = _Held(asked, bucket, now, self._weight(asked, now))
        for peer in asked.names:
            self._pending[peer] = self._pending.get(peer, 0) + held.weight
        place = (asked.channel, bucket)
        for use in (self._used.setdefault(place, _Use()), self._by_peer.setdefault((*place, asked.incoming), _Use())):
            use.slots += 1
            use.value += asked.amount

    def on_ended(self, name: Hashable, paid: bool, now: int) -> None:
        """It has ended. Nothing happens if no payment has that name."""
        held = self.forget(name)
        if held is None:
            return
        asked, duration = held.asked, now - held.began
        if held.bucket is Bucket.CONGESTION and duration > self.limits.patience:
            self._banned[asked.incoming] = now + self.limits.banned
        for peer in dict.fromkeys(asked.names):
            before = self.reputation(peer, now)
            worth = before.worth + _worth(asked.fee, duration, self.limits.patience)
            earned = before.earned + (1 + asked.fee if paid else 0)
            self._reputations[peer] = Reputation(worth, earned, before.time)
            self._changed.add(peer)

    def bar(self, peer: bytes, now: int, seconds: int | None = None) -> int | None:
        """Admit nothing from a peer for two weeks (or so long): it did not pay for what it got, or only on chain.

        Return until when, to be stored; None if it was barred before: it begins again only if it still owes then.
        """
        if self.is_barred(peer, now):
            return None
        until = self._barred[peer] = now + (self.limits.banned if seconds is None else seconds)
        return until

    def cost(self, peer: bytes, fee: int, now: int) -> None:
        """A peer made us pay that much for nothing: it counts as what its payments could have earned, and have not."""
        before = self.reputation(peer, now)
        self._reputations[peer] = Reputation(before.worth + 1 + fee, before.earned, before.time)
        self._changed.add(peer)

    def is_barred(self, peer: bytes, now: int) -> bool:
        """Whether nothing is admitted from a peer."""
        return now < self._barred.get(peer, 0)

    def forget(self, name: Hashable) -> _Held | None:
        """It never began: nobody gains or loses by it. Return what it held; None if no payment has that name."""
        held = self._held.pop(name, None)
        if held is None:
            return None
        asked, place = held.asked, (held.asked.channel, held.bucket)
        _leave(self._used, place, asked.amount)
        _leave(self._by_peer, (*place, asked.incoming), asked.amount)
        for peer in asked.names:
            self._pending[peer] -= held.weight
            if not self._pending[peer]:
                del self._pending[peer]
        return held

    def take_changed(self) -> list[tuple[bytes, Reputation]]:
        """Return the reputations that changed since the last call: to be stored, now and then."""
        changed = [(peer, self._reputations[peer]) for peer in sorted(self._changed) if peer in self._reputations]
        self._changed.clear()
        return changed


def _worth(fee: int, duration: int, patience: int) -> int:
    """Return what a payment could have earned in the time that it took. One unit is added: free ones count too."""
    return (1 + fee) * max(patience, duration) // patience


def _fits(used: _Use, amount: int, room: _Use) -> bool:
    return used.slots < room.slots and used.value + amount <= room.value


def _leave(uses: dict[_Place, _Use], place: _Place, amount: int) -> None:
    use = uses[place]
    use.slots -= 1
    use.value -= amount
    if not use.slots:
        del uses[place]
