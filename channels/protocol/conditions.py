"""What decides a lock: one entry per kind of condition (PROTOCOL section 3). A new kind
touches this module, and `settlement.contract.verdicts` for what the chain makes of it.

| kind | condition        | proof                 | pays                |
| ---- | ---------------- | --------------------- | ------------------- |
| 0    | sha256(secret)   | the secret, 32 bytes  | the whole amount    |
| 2    | hash of a        | a link, its depth,    | depth × unit        |
|      | stream's terms   | and the terms         | (`hashchain`)       |

A kind that this table does not know is refused, by both sides and before anything is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.protocol.hashchain import PROOF_SIZE, StreamProof
from tallystick.channels.protocol.objects import Lock

HASH = 0
STREAM = 2
SECRET_SIZE = 32


def digest_of(secret: bytes) -> bytes:
    """Return the condition (32 bytes) of a hash lock that `secret` (32 bytes) satisfies."""
    return hashlib.sha256(secret).digest()


def _hash_pays(lock: Lock, proof: bytes) -> int:
    if len(proof) != SECRET_SIZE or digest_of(proof) != lock.condition:
        raise InvalidUpdate(f"the secret does not open lock {lock.id}", Fault.BAD_PROOF)
    return lock.amount


def _stream_pays(lock: Lock, proof: bytes) -> int:
    try:
        claim = StreamProof.decode(proof)
    except InvalidInput as error:
        raise InvalidUpdate(f"this is no proof for lock {lock.id}: {error}", Fault.BAD_PROOF) from error
    if not claim.terms.fit(lock) or not claim.holds():
        raise InvalidUpdate(f"the link does not belong to the stream of lock {lock.id}", Fault.BAD_PROOF)
    return claim.amount


def steps_of(proof: bytes) -> int:
    """Return how many hashes it takes to follow a proof: those of a stream are as deep as they say."""
    return int.from_bytes(proof[32:40], "big") if len(proof) == PROOF_SIZE else 0


_KINDS: dict[int, Callable[[Lock, bytes], int]] = {HASH: _hash_pays, STREAM: _stream_pays}


def check_kind(lock: Lock) -> None:
    """Raise InvalidUpdate unless the lock's kind is known and its condition has the right shape."""
    if lock.kind not in _KINDS or len(lock.condition) != 32:
        raise InvalidUpdate(
            f"lock {lock.id} has kind {lock.kind} and a condition of {len(lock.condition)} bytes; known kinds are "
            f"{sorted(_KINDS)}, with conditions of 32 bytes",
            Fault.BAD_LOCK,
        )


def amount_paid(lock: Lock, proof: bytes) -> int:
    """Return how much of the lock's amount goes to the receiver under `proof`; raise InvalidUpdate if nothing may."""
    check_kind(lock)
    return _KINDS[lock.kind](lock, proof)
