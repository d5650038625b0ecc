"""Who gets a pending lock's amount once its channel is settled: one entry per kind of condition.

| kind    | the receiver gets the whole amount if             | the sender gets it back if            | else  |
| ------- | ------------------------------------------------- | ------------------------------------- | ----- |
| 0 hash  | the secret was registered at or before the expiry | not so, and the block time is past it | waits |
| unknown | never                                             | the block time is past the expiry     | waits |

A lock of a kind that this table does not know cannot be shown to hold, so it falls back to its sender: money never
stays in the contract for ever, and nobody is paid on a condition that nobody can check. No node signs such a lock
(`tallystick.channels.conditions`). A new kind touches that module and this one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from tallystick.channels.conditions import HASH
from tallystick.channels.objects import Lock

SecretTime = Callable[[bytes], int | None]
"""Returns the block time at which the secret of a sha256 digest was registered."""


class Verdict(enum.Enum):
    """What becomes of a lock."""

    PAID = "paid"
    REFUNDED = "refunded"
    KEPT = "kept"


def _hash_holds(lock: Lock, secret_time: SecretTime) -> bool:
    registered = secret_time(lock.condition)
    return registered is not None and registered <= lock.expiry


_HOLDS: dict[int, Callable[[Lock, SecretTime], bool]] = {HASH: _hash_holds}


def decide(lock: Lock, time: int, secret_time: SecretTime) -> Verdict:
    """Return what becomes of `lock` in a block of `time`. Once PAID or REFUNDED, it is so at every later time."""
    holds = _HOLDS.get(lock.kind)
    if holds is not None and holds(lock, secret_time):
        return Verdict.PAID
    return Verdict.REFUNDED if time > lock.expiry else Verdict.KEPT
