"""Exposure: how much that is too small to be claimed on chain may be pending with one peer, each way.

Whoever gets a secret and does not pay for it is made to by the chain, if that is worth its fee. Below, honesty is all
there is until the peer is barred, so what may be lost to it has to be bounded before. A lock counts as *small* if it
is worth less than `rise` times what claiming it costs now, as fees may rise while it pends. Of those, a peer may have

    coming in     `claims` times that cost in value, and `count` in number: what a peer can take that pays for nothing
    going out     the same: what it risks with us, and what closing the channel over them costs to redeem

Whatever a peer can take so costs it more than it gains: opening and closing a channel takes 280,000 gas, five claims
take 240,000. Big locks are counted once fees make them small.

Only the chain's own coin is weighed against fees. Nobody knows what a token is worth in it, and whoever mints one has
as much of it as it likes: each secret in it that goes to the chain may cost coins for nothing. So in all assets that
the owner has not named, and of what is named below the minimum of its policy, a peer may have `claims` locks together
coming in, and `count` going out. What is worth more is claimed for up to `DutyPolicy.token_budget` in fees, and not
limited here. Amounts of one asset are never added to another's. Pure.
Source: BOLT 2's dust and `max_dust_htlc_exposure_msat` as Lightning's nodes have it, here in multiples of the fee.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.values.arguments import Options


class ExposureLimits(Options, frozen=True, kw_only=True):
    """What of one peer's may be pending that is not worth being claimed on chain. See the module's docstring."""

    claims: int = 5
    """Its value, in fees of one claim. 0: nothing small is taken at all. In assets that have no price in the coin, how
    many locks may come in."""
    count: int = 100
    """How many locks: each adds 9,000 gas to the redeem, should the channel end on chain."""
    rise: int = 2
    """How far fees may rise until a lock expires, as a factor: what would not be worth a claim then is small now."""


class LockDirection(enum.IntEnum):
    """Which way a lock goes."""

    IN = 1
    """From the peer to us."""
    OUT = 2


Name: TypeAlias = tuple[ChannelId, LockDirection, int]
"""A lock: its channel, and its number in its direction."""


class _Pending(msgspec.Struct):
    """The locks of one account in one direction. `value` and `count` are of the small ones, at the fee `fee`."""

    amounts: dict[Name, int]
    fee: int | None = 0
    value: int = 0
    count: int = 0


class Exposure:
    """All locks that this node has taken on. Bounded by what its channels can hold.

    They are counted by account: a peer's key, with a suffix for what is counted apart from its coins. Fees are what a
    claim costs now; 0: everything is claimed, None: what is claimed has no price in the coin.
    """

    def __init__(self, limits: ExposureLimits) -> None:
        self._limits = limits
        self._peers: dict[Name, bytes] = {}
        self._pending: dict[tuple[bytes, LockDirection], _Pending] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def channels(self) -> set[ChannelId]:
        """The channels in which something is pending."""
        return {name[0] for name in self._peers}

    def is_small(self, amount: int, fee: int | None) -> bool:
        """Whether a lock may not be worth a claim."""
        return fee is None or amount < self._limits.rise * fee

    def has_room(self, peer: bytes, course: LockDirection, amount: int, fee: int | None) -> bool:
        """Whether a further lock of that amount may be pending with the peer. It is not, until it `began`."""
        if not self.is_small(amount, fee):
            return True
        value, count = self.small(peer, course, fee)
        if fee is None:
            return count < (self._limits.claims if course is LockDirection.IN else self._limits.count)
        return value + amount <= self._limits.claims * fee and count < self._limits.count

    def small(self, peer: bytes, course: LockDirection, fee: int | None) -> tuple[int, int]:
        """Return the value and the number of a peer's small locks; without a fee, the value means nothing."""
        pending = self._pending.get((peer, course))
        if pending is None:
            return 0, 0
        if pending.fee != fee:  # they were counted at another one the last time
            small = [amount for amount in pending.amounts.values() if self.is_small(amount, fee)]
            pending.fee, pending.value, pending.count = fee, sum(small), len(small)
        return pending.value, pending.count

    def began(self, name: Name, peer: bytes, amount: int) -> None:
        """A lock is pending from now on. Nothing happens if it was already."""
        if name in self._peers:
            return
        self._peers[name] = peer
        pending = self._pending.setdefault((peer, name[1]), _Pending({}))
        pending.amounts[name] = amount
        if self.is_small(amount, pending.fee):
            pending.value += amount
            pending.count += 1

    def on_ended(self, name: Name) -> None:
        """It is pending no more, or can cost nothing any more. Nothing happens if it was not pending."""
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        place = (peer, name[1])
        pending = self._pending[place]
        amount = pending.amounts.pop(name)
        if self.is_small(amount, pending.fee):
            pending.value -= amount
            pending.count -= 1
        if not pending.amounts:
            del self._pending[place]

    def forget(self, channel: ChannelId) -> None:
        """Nothing is left of a channel."""
        for name in [name for name in self._peers if name[0] == channel]:
            self.on_ended(name)
