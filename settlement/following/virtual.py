"""What the chain's court knows of a virtual channel, as a fold of what was told of it (docs/virtual.md)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.virtual import EndingProof, VirtualTerms, conditions_of, decode_proof, virtual_id
from tallystick.channels.protocol.virtual_court import Untaken, VirtualRecord, take
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.chain import ProofRegistered


class VirtualInCourt(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """A virtual channel that the court heard of."""

    terms: VirtualTerms
    record: VirtualRecord
    outcome: EndingProof | None = None
    """What decided, if that was an outcome that both signed."""
    time: int
    """Block time at which the newest was brought."""

    @property
    def channel(self) -> ChannelId:
        """Its id."""
        return virtual_id(self.terms)

    @property
    def decides(self) -> int:
        """The block time from which on it is decided, if nothing follows."""
        return self.time if self.outcome is not None else self.record.until + 1

    def is_decided(self, time: int) -> bool:
        """Whether it is decided in a block of that time."""
        return time >= self.decides

    def stake(self, condition: bytes) -> StakeInCourt:
        """Return what that means for the lock with that condition, which is one of its four."""
        paid = self.record.paid[conditions_of(self.channel).index(condition)]
        return StakeInCourt(self.record.expiry, self.decides, paid)


def fold_virtual(events: Iterable[ProofRegistered]) -> VirtualInCourt | None:
    """Return what comes of all that was brought about a virtual channel, in order; None if nothing was."""
    found: VirtualInCourt | None = None
    for event in events:
        proof = decode_proof(event.proof)
        record = take(None if found is None else found.record, proof, event.time)
        if isinstance(record, Untaken):  # no court would tell of it: a chain node that lies does
            continue
        outcome = proof if isinstance(proof, EndingProof) else None
        found = VirtualInCourt(terms=proof.terms, record=record, outcome=outcome, time=event.time)
    return found


def locks_of(proof: bytes) -> tuple[bytes, ...]:
    """Return the conditions of the virtual channel that a registered proof is about; raise InvalidInput."""
    return conditions_of(virtual_id(decode_proof(proof).terms))
