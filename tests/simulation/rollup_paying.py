"""What two users of a rollup pay each other within a channel: balance proofs that both have signed, old and new."""

from __future__ import annotations

import random

from tallystick.channels.protocol.objects import SignedProof
from tallystick.sdk.rollup.user import RollupUser
from tallystick.settlement.rollup.disputes import ChannelParties


class PaidChannel:
    """One channel's proofs."""

    def __init__(self, parties: ChannelParties, users: tuple[RollupUser, RollupUser]) -> None:
        self.parties = parties
        self.users = users
        self._proofs: tuple[list[SignedProof], list[SignedProof]] = ([], [])

    def given(self, sender: int) -> int:
        """Return what a side has given in all."""
        return self._proofs[sender][-1].proof.transferred if self._proofs[sender] else 0

    def pay(self, sender: int, amount: int) -> SignedProof:
        """Let a side pay; both sign."""
        last = self._proofs[sender][-1] if self._proofs[sender] else None
        proof = self.users[sender].disputes.next_proof(self.parties, amount, last)
        by = [self.users[side].disputes.sign(self.parties, proof) for side in (sender, 1 - sender)]
        signed = SignedProof(proof, by[0], by[1])
        self._proofs[sender].append(signed)
        return signed

    @property
    def newest(self) -> list[SignedProof]:
        """The newest of each side."""
        return [each[-1] for each in self._proofs if each]

    def some(self, rng: random.Random) -> list[SignedProof]:
        """Return any of each side."""
        return [rng.choice(each) for each in self._proofs if each and rng.random() < 0.8]
