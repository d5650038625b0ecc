"""What decides a lock: one entry per kind of condition (PROTOCOL section 3), each in a file of its own.

| kind | condition        | proof                 | pays                | in            |
| ---- | ---------------- | --------------------- | ------------------- | ------------- |
| 0    | sha256(secret)   | the secret, 32 bytes  | the whole amount    | `hash_lock`   |
| 1    | hash of an app's | the outcome that both | what the outcome    | `app`         |
|      | instance, player | players signed        | takes of the stake  |               |
| 2    | hash of a        | a link, its depth,    | depth × unit        | `stream`      |
|      | stream's terms   | and the terms         | (`hashchain`)       |               |
| 3    | hash of a virtual| the outcome that both | what the outcome    | `virtual`     |
|      | channel, index   | players signed        | takes of the lock   |               |

A kind that the table does not know is refused, by both sides and before anything is signed. A new one is a `LockKind`
here and a `Verdict` in `settlement.contract.verdicts`, which says what the chain makes of it; a program may register
its own (`register`), in both tables, before it opens a node.
"""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.protocol.conditions.app import AppLock
from tallystick.channels.protocol.conditions.hash_lock import HASH, SECRET_SIZE, HashLock, digest_of
from tallystick.channels.protocol.conditions.kinds import BY_COURT, KindTable, LockKind
from tallystick.channels.protocol.conditions.stream import STREAM, StreamLock
from tallystick.channels.protocol.conditions.virtual import VirtualLock
from tallystick.channels.protocol.objects import Lock

__all__ = (
    "BY_COURT",
    "HASH",
    "KINDS",
    "SECRET_SIZE",
    "STREAM",
    "amount_paid",
    "digest_of",
    "is_judged",
    "kind_of",
    "require_known",
    "worth",
)

KINDS: KindTable[LockKind] = KindTable(HashLock(), AppLock(), StreamLock(), VirtualLock())
"""All kinds of locks that this program signs. `KINDS.register` adds one, before any lock is looked at."""


def kind_of(lock: Lock) -> LockKind:
    """Return the entry of the lock's kind; raise InvalidUpdate if it is unknown, or the condition has a wrong shape."""
    kind = KINDS.find(lock.kind)
    if kind is None or len(lock.condition) != 32:
        raise InvalidUpdate(
            f"lock {lock.id} has kind {lock.kind} and a condition of {len(lock.condition)} bytes; known kinds are "
            f"{_known()}, with conditions of 32 bytes",
            Fault.BAD_LOCK,
        )
    return kind


def amount_paid(lock: Lock, proof: bytes) -> int:
    """Return how much of the lock's amount goes to the receiver under `proof`; raise InvalidUpdate if nothing may."""
    return kind_of(lock).amount_paid(lock, proof)


def worth(lock: Lock, proof: bytes) -> int:
    """Return the same, and 0 if nothing may be paid."""
    try:
        return amount_paid(lock, proof)
    except InvalidUpdate:
        return 0


def is_judged(kind: int) -> bool:
    """Whether the chain's court decides locks of that kind: stakes in apps, and of virtual channels."""
    found = KINDS.find(kind)
    return found is not None and found.judged


def require_known(locks: Iterable[Lock]) -> None:
    """Raise InvalidInput if there is a lock of an unknown kind: nobody could claim it, or see it claimed."""
    for lock in locks:
        if KINDS.find(lock.kind) is None:
            raise InvalidInput(
                f"lock {lock.id} is of kind {lock.kind}, known are {_known()}: register it before a node is opened"
            )


def _known() -> list[int]:
    return sorted(kind.number for kind in KINDS)
