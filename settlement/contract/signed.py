"""Which signatures a call carries, of whom and over what: to check them before the call is run.

The rules ask for themselves what they need (`adjudicator`). What is missing here, or too much, costs time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from tallystick.channels.protocol.eip712 import (
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
)
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof
from tallystick.settlement.chain import ChallengeCall, CloseCall, CooperativeCloseCall, SingleCall, WithdrawCall
from tallystick.settlement.contract.adjudicator import channel_of
from tallystick.settlement.contract.state import ChannelStorage

Statement: TypeAlias = tuple[bytes, bytes, Address]
"""A digest, a signature over it, and whose it must be."""


class Parties(NamedTuple):
    """Who may have signed about a channel."""

    first: Address
    second: Address
    closer: int
    """The side that closed it alone, of meaning once it did."""


PartiesLookup: TypeAlias = Callable[[ChannelId], Parties | None]

SIGNED = (WithdrawCall, CooperativeCloseCall, CloseCall, ChallengeCall)
"""The calls that carry signatures."""


def parties_of(channel: ChannelStorage | None) -> Parties | None:
    """Return them; None of a channel that is not there."""
    return Parties(*channel.terms.participants, channel.closer) if channel is not None else None


def statements(call: SingleCall, domain: bytes, find: PartiesLookup) -> Iterator[Statement]:
    """Yield the signatures that a call carries about a channel whose parties `find` finds."""
    parties = find(channel_of(call)) if isinstance(call, SIGNED) else None
    if parties is None:
        return
    first, second, closer = parties
    match call:
        case WithdrawCall(withdrawal, signature0, signature1):
            digest = digest_withdrawal(domain, withdrawal)
            yield from ((digest, signature0, first), (digest, signature1, second))
        case CooperativeCloseCall(close, signature0, signature1):
            digest = digest_cooperative_close(domain, close)
            yield from ((digest, signature0, first), (digest, signature1, second))
        case CloseCall(proof0=proof0, proof1=proof1):
            for proof in (proof0, proof1):
                yield from _of_proof(proof, domain, parties)
        case ChallengeCall(proof, voucher, signature):
            yield from _of_proof(proof, domain, parties)
            if voucher is not None:
                victim = (second, first)[closer]
                yield digest_voucher(domain, voucher), signature, victim


def _of_proof(signed: SignedProof | None, domain: bytes, parties: Parties) -> Iterator[Statement]:
    if signed is None or signed.proof.sender not in (0, 1):
        return
    digest, participants = digest_proof(domain, signed.proof), (parties.first, parties.second)
    yield digest, signed.signature, participants[signed.proof.sender]
    yield digest, signed.countersignature, participants[1 - signed.proof.sender]
