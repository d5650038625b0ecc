"""The secret registry: when did which secret become public (PROTOCOL section 3, constant expiry; after Sprites).

One registry serves all channels of a chain. Its state is a map from digest to block time; the first registration
stands for ever, and a second is refused so that nobody can pay to change history.
"""

from __future__ import annotations

from tallystick.channels.conditions import SECRET_SIZE, digest_of
from tallystick.settlement.chain import RegisterSecretCall, SecretRegistered
from tallystick.settlement.errors import Revert, Reverted


def register(known: int | None, call: RegisterSecretCall, time: int) -> SecretRegistered:
    """Return the event of registering in a block of `time`; raise Reverted if the digest is `known` (since then)."""
    if len(call.secret) != SECRET_SIZE:
        raise Reverted(Revert.BAD_PROOF, f"a secret has {SECRET_SIZE} bytes, this one has {len(call.secret)}")
    if known is not None:
        raise Reverted(Revert.ALREADY_REGISTERED, f"this secret is public since block time {known}; nothing is to do")
    return SecretRegistered(digest_of(call.secret), call.secret, time)
