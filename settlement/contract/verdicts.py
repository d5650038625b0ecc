"""Who gets a pending lock's amount once its channel is settled: one entry per kind of condition.

| kind     | the receiver gets                                               | decided                          |
| -------- | --------------------------------------------------------------- | -------------------------------- |
| 0 hash   | all of it, if the secret was registered at or before the expiry | then, or once the expiry is past |
| 2 stream | as many units as the deepest registered link is deep            | once the expiry is past          |
| unknown  | nothing                                                         | once the expiry is past          |

The sender gets the rest. A stream waits for its expiry because until then a deeper link may come: else its payer could
register an early link itself and have it decided at once. Links are registered in time or not at all (`registry`).

A lock of a kind that this table does not know cannot be shown to hold, so it falls back to its sender: money never
stays in the contract for ever, and nobody is paid on a condition that nobody can check. No node signs such a lock
(`tallystick.channels.protocol.conditions`).
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.objects import Lock

SecretTime = Callable[[bytes], int | None]
"""Returns the block time at which the secret of a sha256 digest was registered."""

Streamed = Callable[[bytes], int]
"""Returns what the deepest registered link of the stream with this condition is worth, 0 if there is none."""


def _hash_holds(lock: Lock, secret_time: SecretTime) -> bool:
    registered = secret_time(lock.condition)
    return registered is not None and registered <= lock.expiry


def decide(lock: Lock, time: int, secret_time: SecretTime, streamed: Streamed) -> int | None:
    """Return how much of the lock's amount goes to the receiver in a block of `time`, None while it is undecided.

    Once decided, it is the same at every later time.
    """
    if lock.kind == HASH and _hash_holds(lock, secret_time):
        return lock.amount
    if time <= lock.expiry:
        return None
    return min(streamed(lock.condition), lock.amount) if lock.kind == STREAM else 0
