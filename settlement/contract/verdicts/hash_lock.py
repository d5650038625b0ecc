"""Hash locks on chain: which secret became public when.

The first registration stands for ever, and a second is refused so that nobody can pay to change history.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.protocol.conditions import HASH, SECRET_SIZE, digest_of
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import RegisterSecretCall, SecretRegistered
from tallystick.settlement.contract.verdicts.rules import Registration, Verdict
from tallystick.settlement.errors import Revert, Reverted


class HashVerdict(Verdict):
    """What is kept of a digest is the block time of its secret's registration."""

    number = HASH
    call = RegisterSecretCall
    early = True

    def registration(self, lock: Lock, proof: bytes) -> RegisterSecretCall:
        """Return the call that makes the secret public."""
        return RegisterSecretCall(proof)

    def register(self, call: RegisterSecretCall, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take a secret that is not public yet."""
        if len(call.secret) != SECRET_SIZE:
            raise Reverted(Revert.BAD_PROOF, f"a secret has {SECRET_SIZE} bytes, this one has {len(call.secret)}")
        digest = digest_of(call.secret)
        if known := kept(digest):
            raise Reverted(
                Revert.ALREADY_REGISTERED, f"this secret is public since block time {known}; nothing is to do"
            )
        return Registration(digest, time, SecretRegistered(digest, call.secret, time))

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return all of it if the secret was registered at or before the expiry."""
        if kept and kept <= lock.expiry:
            return lock.amount
        return None if time <= lock.expiry else 0

    def slot(self, condition: bytes) -> bytes:
        """Secrets have a letter of their own."""
        return b"s" + condition
