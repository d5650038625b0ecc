"""The registry: which secret became public when, and how far each stream has paid (PROTOCOL section 3; after Sprites).

One registry serves all channels of a chain. For secrets its state is a map from digest to block time; the first
registration stands for ever, and a second is refused so that nobody can pay to change history. For streams it is a map
from condition to the worth of the deepest link: only a deeper one replaces it, and none does after the stream's expiry,
which is part of the condition. So what is registered was registered in time.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.conditions import SECRET_SIZE, digest_of
from tallystick.channels.protocol.hashchain import StreamProof, StreamTerms
from tallystick.settlement.chain import LinkRegistered, RegisterLinkCall, RegisterSecretCall, SecretRegistered
from tallystick.settlement.errors import Revert, Reverted


def register(known: int | None, call: RegisterSecretCall, time: int) -> SecretRegistered:
    """Return the event of registering in a block of `time`; raise Reverted if the digest is `known` (since then)."""
    if len(call.secret) != SECRET_SIZE:
        raise Reverted(Revert.BAD_PROOF, f"a secret has {SECRET_SIZE} bytes, this one has {len(call.secret)}")
    if known is not None:
        raise Reverted(Revert.ALREADY_REGISTERED, f"this secret is public since block time {known}; nothing is to do")
    return SecretRegistered(digest_of(call.secret), call.secret, time)


def worth(call: RegisterLinkCall) -> int:
    """Return what the registry keeps of a link that it took: the amount that it pays."""
    return call.depth * call.unit


def register_link(known: int, call: RegisterLinkCall, time: int) -> LinkRegistered:
    """Return the event of registering in a block of `time`; raise Reverted unless it is in time.

    `known` is what the deepest link until now is worth: this one must be worth more.
    """
    try:
        proof = StreamProof(call.link, call.depth, StreamTerms(call.tip, call.unit, call.length))
    except InvalidInput as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
    if time > call.expiry or call.expiry > UINT64_MAX:
        raise Reverted(Revert.EXPIRED, f"links of this stream counted until {call.expiry}; it is decided now")
    if proof.amount <= known:
        raise Reverted(Revert.NOT_NEWER, f"a link worth {known} is registered, {proof.amount} adds nothing")
    if not proof.holds():
        raise Reverted(Revert.BAD_PROOF, f"the link does not lead to this tip in {call.depth} steps")
    condition = proof.terms.condition(call.expiry)
    return LinkRegistered(condition, call.link, call.depth, call.tip, call.unit, call.length, time)


def condition_of(call: RegisterLinkCall) -> bytes:
    """Return the condition under which the registry keeps the link; raise Reverted if its terms are none."""
    try:
        return StreamTerms(call.tip, call.unit, call.length).condition(min(call.expiry, UINT64_MAX))
    except InvalidInput as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
