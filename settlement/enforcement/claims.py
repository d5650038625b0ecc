"""What a node's channels hang on the chain for: locks that it may decide, secrets, keys, how long there is. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from tallystick.channels.protocol.conditions import worth
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, close_key
from tallystick.channels.protocol.objects import NATIVE, ChannelId, Puzzle


def pending_puzzles(channels: Iterable[Channel]) -> set[Puzzle]:
    """Return the puzzles of all locks that may yet be enforced, ours and the peers'."""
    return {
        lock.puzzle
        for channel in channels
        for state in (channel.ours, *channel.flight, channel.theirs)
        for lock in state.simplex.locks
    }


def amounts_at_stake(channels: Iterable[Channel]) -> dict[Puzzle, int]:
    """Return, for each secret that we revealed, what its locks owe us in all channels of the chain's own coin."""
    found: dict[Puzzle, int] = {}
    for channel in channels:
        if channel.terms.asset == NATIVE and channel.phase is not Phase.GONE:
            for known in channel.secrets:
                lock = channel.theirs.simplex.lock(known.lock)
                if lock is not None:
                    found[lock.puzzle] = found.get(lock.puzzle, 0) + worth(lock, known.secret)
    return found


def owed_for(channels: Iterable[Channel], condition: bytes) -> list[ChannelId]:
    """Return the channels in which a pending lock on that condition is to pay us."""
    return [
        channel.id for channel in channels if any(lock.condition == condition for lock in channel.theirs.simplex.locks)
    ]


def time_left(channels: Iterable[Channel], now: int) -> float | None:
    """Return within how many seconds something may have to be done on chain, None if there is nothing there."""
    times: list[float] = []
    for channel in channels:
        if channel.phase is not Phase.GONE:
            locks = (*channel.ours.simplex.locks, *channel.theirs.simplex.locks)
            times += [float(channel.terms.challenge_period), *(max(0.0, float(lock.expiry - now)) for lock in locks)]
    return min(times, default=None)


def close_keys(key: PrivateKey) -> Callable[[Channel], bytes]:
    """Return what tells the key (32 bytes) that opens a channel's `close_hash`, derived once each."""

    @functools.cache
    def derive(channel: ChannelId, peer: bytes) -> bytes:
        return close_key(key, PublicKey(peer), channel)

    return lambda channel: derive(channel.id, channel.peer_key)
