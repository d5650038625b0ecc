"""A channel of a rollup that one side closes alone: by balance proofs, on the chain itself, where no operator decides.

What stands there, and what a newer proof changes, are the adjudicator's rules (`settlement/contract/adjudicator.py`)
without locks: a lock is decided by what is registered on the chain later than the proof, and a rollup has no place for
that. What comes of it is an entry of the chain's list, which the operator must carry out.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.eip712 import digest_proof
from tallystick.channels.protocol.objects import NATIVE, Address, BalanceProof, ChannelId, SignedProof
from tallystick.settlement.rollup.rules import Place, Statement, channel_name

PROOF_SIZE = 160
"""Bytes of a balance proof in a call: seq 8, seen 8, transferred 16, and both signatures."""


class ChannelParties(NamedTuple):
    """Which channel of a rollup it is: its number, the owners of both sides, and what it holds."""

    channel: int
    first: Address
    second: Address
    asset: Address = NATIVE

    def name(self, place: Place) -> ChannelId:
        """Return the channel's id (32 bytes), which its balance proofs are about."""
        return channel_name(place, self.first, self.second, self.channel, self.asset)

    def statements(self, place: Place, proof: BalanceProof) -> tuple[Statement, Statement]:
        """Return what the proof's sender signs, and then its receiver."""
        digest, sides = digest_proof(place.domain, proof), (self.first, self.second)
        return Statement(sides[proof.sender], digest), Statement(sides[1 - proof.sender], digest)

    def check(self, place: Place, signed: SignedProof) -> None:
        """Raise InvalidInput or InvalidSignature unless this is a balance proof that counts for this channel."""
        proof = signed.proof
        if proof.channel != self.name(place) or proof.sender not in (0, 1) or proof.seq == 0:
            raise InvalidInput("this is no balance proof of the channel")
        if proof.locked or any(proof.locks_root):
            raise InvalidInput("in a rollup a balance proof with locks counts for nothing: do not sign one")
        signatures = (signed.signature, signed.countersignature)
        for statement, signature in zip(self.statements(place, proof), signatures, strict=True):
            if not statement.is_signed(signature):
                raise InvalidSignature(f"the signature is not that of 0x{statement.signer.hex()} over this proof")


def with_side(pair: tuple[int, int], side: int, number: int) -> tuple[int, int]:
    """Return a pair that is in order of side, with another number for one."""
    return (number, pair[1]) if side == 0 else (pair[0], number)


def pack_proof(signed: SignedProof | None) -> bytes:
    """Return a balance proof as a call of the ledger takes it; nothing is genesis."""
    if signed is None:
        return b""
    proof = signed.proof
    numbers = proof.seq.to_bytes(8, "big") + proof.seen.to_bytes(8, "big") + proof.transferred.to_bytes(16, "big")
    return numbers + signed.signature + signed.countersignature


def unpack_proof(data: bytes, name: ChannelId, sender: int) -> SignedProof:
    """Return the balance proof of these bytes; raise InvalidInput if they are none."""
    if len(data) != PROOF_SIZE:
        raise InvalidInput(f"a balance proof is {PROOF_SIZE} bytes, without locks")
    seq, seen, transferred = (int.from_bytes(data[at:end], "big") for at, end in ((0, 8), (8, 16), (16, 32)))
    proof = BalanceProof(name, sender, seq, transferred, seen=seen)
    return SignedProof(proof, data[32:96], data[96:])


class ChannelDispute(msgspec.Struct, frozen=True):
    """A close by one side, while the other one may answer."""

    closer: int
    """Which side closes."""
    deadline: int
    """The last time at which a newer proof counts, in seconds."""
    seqs: tuple[int, int]
    """Of the proof of each side that stands, 0 for none."""
    transferred: tuple[int, int]
    own_seq: int
    """The closer's own seq when it closed: what it must have known."""
    is_convicted: bool = False

    @property
    def outcome(self) -> tuple[int, int]:
        """What the sides have given each other in all. Who is convicted has as good as given away everything."""
        return with_side((0, 0), self.closer, AMOUNT_MAX) if self.is_convicted else self.transferred


def begun(closer: int, deadline: int, proofs: tuple[BalanceProof | None, BalanceProof | None]) -> ChannelDispute:
    """Return the dispute that a close by one side begins."""
    first, second = ((proof.seq, proof.transferred) if proof else (0, 0) for proof in proofs)
    seqs = (first[0], second[0])
    return ChannelDispute(closer, deadline, seqs, (first[1], second[1]), seqs[closer])


def challenged(dispute: ChannelDispute, proof: BalanceProof) -> ChannelDispute:
    """Return the dispute once a newer proof was shown; the closer is convicted if it must have known of that."""
    knew = proof.sender != dispute.closer or proof.seen > dispute.own_seq
    return replace(
        dispute,
        seqs=with_side(dispute.seqs, proof.sender, proof.seq),
        transferred=with_side(dispute.transferred, proof.sender, proof.transferred),
        is_convicted=dispute.is_convicted or knew,
    )
