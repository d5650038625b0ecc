"""Kind 2: a lock on the terms of a stream, which pays as many units as the link that is shown is deep (`hashchain`)."""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidInput, InvalidUpdate
from tallystick.channels.protocol.conditions.kinds import LockKind
from tallystick.channels.protocol.hashchain import PROOF_SIZE, StreamProof, StreamTerms
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import AddLock

STREAM = 2


class StreamLock(LockKind):
    """Its links travel by messages of their own (`channels.session.streams`)."""

    number = STREAM
    name = "stream"
    revealed = False

    def amount_paid(self, lock: Lock, proof: bytes) -> int:
        """Return what the link is worth; raise InvalidUpdate unless it belongs to the stream of that lock."""
        try:
            claim = StreamProof.decode(proof)
        except InvalidInput as error:
            raise InvalidUpdate(f"this is no proof for lock {lock.id}: {error}", Fault.BAD_PROOF) from error
        if not claim.terms.fit(lock) or not claim.holds():
            raise InvalidUpdate(f"the link does not belong to the stream of lock {lock.id}", Fault.BAD_PROOF)
        return claim.amount

    def objection(self, added: AddLock) -> str | None:
        """Return why the peer's new lock is no stream that can be followed."""
        try:
            terms = StreamTerms.decode(added.onion)
        except InvalidInput as error:
            return str(error)
        return None if terms.fit(added.lock) else "the terms that came with this stream are not those of its lock"

    def steps(self, proof: bytes) -> int:
        """Return how deep the link says to be: it takes as many hashes to follow it."""
        return int.from_bytes(proof[32:40], "big") if len(proof) == PROOF_SIZE else 0
