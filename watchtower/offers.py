"""What a client offers to its towers, and when it does: the newest of each channel, and the pages that list them."""

from __future__ import annotations

import msgspec

from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.objects import Address, SignedProof, Terms
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.watchtower.claims import LockClaim
from tallystick.watchtower.sealing import Appointment, PendingLocks, seal, seal_page


class ClientPolicy(Options, frozen=True, kw_only=True):
    """When to upload. Times in seconds."""

    every: float = 0.5
    """A dirty channel is uploaded this long after the last round."""
    units: int = 0
    """At once, when this much is exposed over all channels; 0: only `every` counts."""
    backoff_first: float = 0.5
    backoff_max: float = 30.0
    answer_within: float = 30.0
    """A tower that does not answer for so long is connected to afresh."""
    ask_within: float = 5.0
    """So long a node that starts waits for towers to say whether its data is old: for all of them together."""
    timely: bool = True
    """Whether towers are told openly what pays for pending locks, so that they register it before it is too late even
    if nobody closes. They learn the secret, when the lock expires, and of what size it is, but not of which channel.
    If not, they have it sealed, for after a close."""


class Offer(Discreet, msgspec.Struct, frozen=True):
    """The newest state of one channel, as the node holds it."""

    terms: Terms
    close_key: bytes
    proof0: SignedProof | None
    proof1: SignedProof | None
    claims: tuple[LockClaim, ...] = ()
    mark: bytes = b""
    """What tells its claims from others."""
    pending: PendingLocks = ((), ())
    """All pending locks of both states, by side."""

    @property
    def seqs(self) -> tuple[int, int]:
        """The seqs of both proofs, 0 for genesis."""
        return tuple(0 if signed is None else signed.proof.seq for signed in (self.proof0, self.proof1))  # type: ignore[return-value]  # always two

    @property
    def moved(self) -> int:
        """Everything transferred and locked so far, both ways: what exposure is measured by."""
        return sum(s.proof.transferred + s.proof.locked for s in (self.proof0, self.proof1) if s is not None)

    def sealed(self, voucher: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
        """Return the blob that the tower is sent; `voucher` is the party's signature for it."""
        appointment = Appointment(self.terms, self.proof0, self.proof1, voucher, self.claims, self.pending)
        return seal(appointment, self.close_key, tower, party, entropy)


class PageOffer(Discreet, msgspec.Struct, frozen=True):
    """A page of the list of channels (`listing`), as it should be with the tower."""

    close_key: bytes
    """What it is sealed with: nobody else ever knows it."""
    packed: bytes
    mark: bytes
    """What tells its content from others."""
    claims: tuple[LockClaim, ...] = ()
    seqs: tuple[int, int] = (0, 0)
    moved: int = 0

    def sealed(self, voucher: bytes, tower: Address, party: Address, entropy: Entropy) -> bytes:
        """Return the blob that the tower is sent, which looks as any other."""
        return seal_page(self.packed, self.close_key, tower, party, entropy)
