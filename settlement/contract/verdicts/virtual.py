"""Locks of virtual channels on chain: what the court makes of what it is brought (`contract.virtual_court`).

Kept of each of a channel's four conditions is, as of a stake in an app, the expiry of the terms, until when the court
takes anything, and how much goes over; and of each simplex, under a condition that no lock has, the newest number and
what was given by then. A lock of this kind is decided as one of kind 1: see `app`.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.virtual import VIRTUAL, conditions_of, virtual_id
from tallystick.channels.protocol.virtual_court import VirtualRecord
from tallystick.settlement.chain import ProofRegistered, RegisterProofCall
from tallystick.settlement.contract.court import pack_stake, unpack
from tallystick.settlement.contract.verdicts.app import due_in_court
from tallystick.settlement.contract.verdicts.rules import Registration, Verdict
from tallystick.settlement.contract.virtual_court import apply, read_proof
from tallystick.settlement.errors import Revert, Reverted


class VirtualVerdict(Verdict):
    """See the module's docstring."""

    number = VIRTUAL
    call = RegisterProofCall
    early = True
    wide = True

    def registration(self, lock: Lock, proof: bytes) -> RegisterProofCall:
        """Return the call that brings an outcome, or balance proofs, to court."""
        return RegisterProofCall(VIRTUAL, lock.condition, proof)

    def register(self, call: RegisterProofCall, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take what both players signed, before the court has decided."""
        proof = read_proof(call.proof)
        channel = virtual_id(proof.terms)
        conditions = conditions_of(channel)
        if call.condition not in conditions:
            raise Reverted(Revert.BAD_PROOF, "this is not about the virtual channel of that lock")
        now = apply(record_of(channel, kept), proof, time)
        numbers = [pack_stake(now.expiry, now.until, paid) for paid in now.paid]
        numbers += [seq << 128 | given for seq, given in zip(now.seqs, now.transferred, strict=True)]
        first, *others = zip((*conditions, *_simplices(channel)), numbers, strict=True)
        return Registration(*first, ProofRegistered(call.condition, VIRTUAL, call.proof, time), tuple(others))

    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return what goes to the other player, once that is decided: not while the channel is in court."""
        return due_in_court(lock, time, kept)


def record_of(channel: bytes, kept: Callable[[bytes], int]) -> VirtualRecord | None:
    """Return what the court keeps of a virtual channel, None if it never heard of it."""
    first, second, third, fourth = (unpack(kept(condition)) for condition in conditions_of(channel))
    if not first[0]:
        return None
    numbers = [kept(condition) for condition in _simplices(channel)]
    return VirtualRecord(
        first[0],
        first[1],
        (first[2], second[2], third[2], fourth[2]),
        (numbers[0] >> 128, numbers[1] >> 128),
        (numbers[0] & AMOUNT_MAX, numbers[1] & AMOUNT_MAX),
    )


def _simplices(channel: bytes) -> tuple[bytes, bytes]:
    return keccak(b"tallystick virtual simplex\0" + channel), keccak(b"tallystick virtual simplex\1" + channel)
