"""The lives of many channels, as the contract's logs tell them: drawn from a seed, for measurements without a chain.

A channel is opened with a deposit, paid into and drawn from, and ends or does not: most in agreement, some alone, a few
of these with a challenge, or with locks and their secrets. Amounts and hashes mean nothing; which logs there are, in
which order and how they are written is as the contract has it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Terms
from tallystick.settlement.chain import (
    Challenged,
    ChannelOpened,
    Closed,
    CooperativelyClosed,
    Deposited,
    Event,
    Redeemed,
    SecretRegistered,
    Settled,
    Withdrawn,
)
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import Log, encode_event
from tallystick.settlement.ethereum.evm.abi import HeldLocks, encode_held

PERIOD = 86_400
"""Seconds of the channels' challenge window."""

UNIT = 10**15
"""Amounts are some thousand of these at most."""

TOKEN = Address(b"\x70" * 20)

LINGER = 20
"""Such a share of the history passes, in the mean, until something else happens to a channel."""


class LocksHeld(NamedTuple):
    """What the contract says of the locks in a proof that it was given."""

    sender: int
    held: HeldLocks


Happening: TypeAlias = Event | LocksHeld


class DrawnChannel(NamedTuple):
    """A channel, and what happens to it: in order, with the numbers of the blocks."""

    channel: ChannelId
    terms: Terms
    happenings: tuple[tuple[int, Happening], ...]

    def logs(self) -> Iterator[tuple[int, Log]]:
        """Return its logs, with the numbers of their blocks."""
        for number, what in self.happenings:
            yield number, encode_held(self.channel, *what) if isinstance(what, LocksHeld) else encode_event(what)


class ChannelDrawer:
    """Draws channels in the blocks `first` to `last` of a chain whose blocks have these times."""

    def __init__(self, at: Deployment, seed: int, first: int, last: int, time_of: Callable[[int], int]) -> None:
        self._at = at
        self._rng = random.Random(seed)
        self._first, self._last = first, last
        self._time_of = time_of
        self._counts: dict[tuple[Address, Address, Address], int] = {}

    def channels(self, count: int) -> Iterator[DrawnChannel]:
        """Return so many channels, between half as many accounts."""
        for _ in range(count):
            one, other = (_account(number) for number in self._rng.sample(range(count // 2 + 2), 2))
            yield self._channel(one, other)

    def lasting(self, terms: Terms, deposits: int) -> DrawnChannel:
        """Return a channel that is there from the beginning, and gets so many deposits until the end."""
        channel, span = channel_id(terms), self._last - self._first
        paid = (
            (self._first + span * at // (deposits + 1), Deposited(channel, 0, at * UNIT))
            for at in range(1, deposits + 1)
        )
        return DrawnChannel(channel, terms, ((self._first, ChannelOpened(channel, terms)), *paid))

    def _channel(self, one: Address, other: Address) -> DrawnChannel:
        rng = self._rng
        asset = NATIVE if rng.random() < 0.8 else TOKEN
        pair = (min(one, other), max(one, other))
        number = self._counts.get((*pair, asset), 0)
        self._counts[*pair, asset] = number + 1
        close_key = rng.randbytes(32)
        terms = Terms(*self._at, pair, asset, number, PERIOD, keccak(close_key))
        channel = channel_id(terms)
        block = rng.randrange(self._first, self._last + 1)
        found: list[tuple[int, Happening]] = [(block, ChannelOpened(channel, terms))]
        paid, drawn = [0, 0], [0, 0]
        for _ in range(rng.randrange(1, 6)):
            side = rng.randrange(2)
            if paid[side] - drawn[side] > UNIT and rng.random() < 0.3:
                drawn[side] += UNIT
                found.append((block, Withdrawn(channel, side, drawn[side])))
            else:
                paid[side] += rng.randrange(1, 1_000) * UNIT
                found.append((block, Deposited(channel, side, paid[side])))
            block += 1 + int(rng.expovariate(LINGER / (self._last - self._first)))
        inside, ending = sum(paid) - sum(drawn), rng.random()
        if ending < 0.6:
            share = rng.randrange(inside + 1)
            found.append((block, CooperativelyClosed(channel, share, inside - share)))
        elif ending < 0.8:
            found += self._ended_alone(channel, terms, block, inside, close_key)
        return DrawnChannel(channel, terms, tuple(each for each in found if each[0] <= self._last))

    def _ended_alone(
        self, channel: ChannelId, terms: Terms, block: int, inside: int, close_key: bytes
    ) -> Iterator[tuple[int, Happening]]:
        """Return what happens to a channel that one side closes alone."""
        rng = self._rng
        closer, seqs = rng.randrange(2), (rng.randrange(1_000), rng.randrange(1_000))
        deadline = self._time_of(block) + PERIOD
        secrets = [rng.randbytes(32) for _ in range(rng.choice((0, 0, 1, 3)))]
        pot = len(secrets) * UNIT
        if secrets:
            yield block, LocksHeld(0, HeldLocks(pot, rng.randbytes(32)))
        yield block, Closed(channel, closer, *seqs, close_key, deadline)
        convicted = rng.random() < 0.2
        if convicted:
            yield block + 10, Challenged(channel, closer, seqs[closer] + 1, terms.participants[1 - closer], True)
        for secret in secrets:
            shown = block + rng.randrange(20, 200)
            yield shown, SecretRegistered(hashlib.sha256(secret).digest(), secret, self._time_of(shown))
        while self._time_of(block) <= deadline:
            block += 100
        yield block, Settled(channel, inside - pot, 0, 0, pot, 0, convicted)
        if pot:
            yield block + 5, Redeemed(channel, 0, pot, 0, ZERO32)


def _account(number: int) -> Address:
    return Address(keccak(b"account %d" % number)[12:])
