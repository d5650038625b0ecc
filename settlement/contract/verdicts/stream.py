"""Streams on chain: how far each has paid.

Only a deeper link replaces the one before, and none does after the stream's expiry, which is part of the condition: so
what is registered was registered in time. A stream waits for its expiry because until then a deeper link may come:
else its payer could register an early link itself and have it decided at once.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.conditions import STREAM
from tallystick.channels.protocol.hashchain import StreamProof, StreamTerms
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import LinkRegistered, RegisterLinkCall
from tallystick.settlement.contract.verdicts.rules import Registration, Verdict
from tallystick.settlement.errors import Revert, Reverted


class StreamVerdict(Verdict):
    """What is kept of a stream is the worth of its deepest link."""

    number = STREAM
    call = RegisterLinkCall

    def registration(self, lock: Lock, proof: bytes) -> RegisterLinkCall:
        """Return the call that makes the link public, up to the stream's expiry."""
        claim = StreamProof.decode(proof)
        terms = claim.terms
        return RegisterLinkCall(claim.link, claim.depth, terms.tip, terms.unit, terms.length, lock.expiry)

    def register(self, call: RegisterLinkCall, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take a link that is in time, and worth more than the one before."""
        try:
            proof = StreamProof(call.link, call.depth, StreamTerms(call.tip, call.unit, call.length))
        except InvalidInput as error:
            raise Reverted(Revert.BAD_PROOF, str(error)) from error
        if time > call.expiry or call.expiry > UINT64_MAX:
            raise Reverted(Revert.EXPIRED, f"links of this stream counted until {call.expiry}; it is decided now")
        condition = proof.terms.condition(call.expiry)
        known = kept(condition)
        if proof.amount <= known:
            raise Reverted(Revert.NOT_NEWER, f"a link worth {known} is registered, {proof.amount} adds nothing")
        if not proof.holds():
            raise Reverted(Revert.BAD_PROOF, f"the link does not lead to this tip in {call.depth} steps")
        event = LinkRegistered(condition, call.link, call.depth, call.tip, call.unit, call.length, time)
        return Registration(condition, proof.amount, event)

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return the worth of the deepest link, once the expiry is past."""
        return None if time <= lock.expiry else min(kept, lock.amount)

    def slot(self, condition: bytes) -> bytes:
        """Links have a letter of their own."""
        return b"l" + condition

    def mark(self, proof: bytes) -> str:
        """Return how deep the link is."""
        return f":{StreamProof.decode(proof).depth}"
