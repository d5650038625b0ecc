"""Two players, A and C, with a virtual channel over B: what they sign, what they bring to court, and what that decides.

The court goes by the rules of `virtual_court`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulation.line_court import CourtLine
from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.objects import NATIVE, BalanceProof, ChannelId, SignedProof
from tallystick.channels.protocol.virtual import (
    VIRTUAL,
    BalancesProof,
    EndingProof,
    VirtualTerms,
    conditions_of,
    decode_proof,
    digest_outcome,
    virtual_id,
)
from tallystick.channels.protocol.virtual_court import Untaken, VirtualRecord, take
from tallystick.channels.session.chaintime import StakeInCourt
from tallystick.router.onion.sphinx import BuiltOnion

LIFETIME, PERIOD = 3_600, 600
Pair = tuple[int, int]


class VirtualLine(CourtLine):
    """All pairs are of A and C, in this order, whoever is side 0."""

    ends = "AC"
    records: Mapping[ChannelId, VirtualRecord] = MappingProxyType({})

    def terms(self, stakes: Pair, nonce: int = 0) -> VirtualTerms:
        """Return the terms of a new channel."""
        first, second = sorted(self[name].key.address for name in self.ends)
        times = self.time + LIFETIME, PERIOD
        return VirtualTerms(CHAIN_ID, CONTRACT, (first, second), NATIVE, self._by_side(stakes), *times, nonce)

    def lock(self, terms: VirtualTerms, player: int) -> BuiltOnion:
        """Let a player lock its stake."""
        names, side = ("ABC" if player == 0 else "CBA"), self._sides[player]
        told, identity = (terms.stakes[side],) * 2, virtual_id(terms)
        return self.send_stake(
            conditions_of(identity)[side], VIRTUAL, identity, names, told, (terms.expiry, terms.expiry)
        )

    def outcome(self, terms: VirtualTerms, paid: Pair) -> bytes:
        """Return an outcome that both players sign: they sign whatever they like."""
        amounts = (*self._by_side(paid), 0, 0)
        digest = digest_outcome(terms, amounts)
        first, second = (self[name].key.sign(digest) for name in self._names)
        return EndingProof(terms, amounts, (first, second)).encode()

    def balances(self, terms: VirtualTerms, given: Pair, seq: int) -> bytes:
        """Return balance proofs of that number, by which the players have given so much in all."""
        domain, names = domain_separator(CHAIN_ID, CONTRACT), self._names

        def signed(side: int, amount: int) -> SignedProof:
            proof = BalanceProof(virtual_id(terms), side, seq, amount, seen=seq - 1)
            digest = digest_proof(domain, proof)
            return SignedProof(proof, self[names[side]].key.sign(digest), self[names[1 - side]].key.sign(digest))

        first, second = (signed(side, amount) for side, amount in enumerate(self._by_side(given)))
        return BalancesProof(terms, (first, second)).encode()

    def judge(self, terms: VirtualTerms, paid: Pair, proof: bytes = b"", decides: int = 0) -> bool:
        """Let the court hear of a channel, by balances that say `paid` unless there is a proof; return whether it took
        it. When it decides follows from its rules.
        """
        identity = virtual_id(terms)
        known = self.records.get(identity)
        seq = 1 if known is None else max(known.seqs) + 1
        brought = proof or self.balances(terms, paid, seq)
        decoded = decode_proof(brought)
        record = take(known, decoded, self.time)
        if isinstance(record, Untaken):
            return False
        self.records = {**self.records, identity: record}
        decided = self.time if isinstance(decoded, EndingProof) else record.until + 1
        stakes = [StakeInCourt(terms.expiry, decided, amount) for amount in record.paid]
        puzzles = [(VIRTUAL, condition) for condition in conditions_of(identity)]
        self.hear(dict(zip(puzzles, stakes, strict=True)), brought)
        return True

    @property
    def _names(self) -> tuple[str, str]:
        """The players, by side."""
        first, second = sorted(self.ends, key=lambda name: self[name].key.address)
        return first, second

    @property
    def _sides(self) -> Pair:
        """The sides of A and C."""
        return self._names.index(self.ends[0]), self._names.index(self.ends[1])

    def _by_side(self, pair: Pair) -> Pair:
        first, second = (pair[self.ends.index(name)] for name in self._names)
        return first, second
