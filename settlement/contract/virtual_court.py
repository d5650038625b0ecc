"""What the contract takes of what is brought about a virtual channel: rules in `channels.protocol.virtual_court`."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import PROOF_MAX
from tallystick.channels.protocol.virtual import BalancesProof, VirtualProof, decode_proof
from tallystick.channels.protocol.virtual_court import Untaken, VirtualRecord, take
from tallystick.settlement.errors import Revert, Reverted

_REVERTS = {
    Untaken.EXPIRED: Revert.EXPIRED,
    Untaken.DECIDED: Revert.WINDOW_OVER,
    Untaken.NOT_NEWER: Revert.NOT_NEWER,
}


def apply(record: VirtualRecord | None, proof: VirtualProof, time: int) -> VirtualRecord:
    """Take what was brought in a block of `time`, and return what is kept from then on; raise Reverted."""
    taken = take(record, proof, time)
    if isinstance(taken, Untaken):
        raise Reverted(_REVERTS[taken], taken.value)
    return taken


def read_proof(data: bytes) -> VirtualProof:
    """Return what a registration tells; raise Reverted if it is nothing that both players signed."""
    if len(data) > PROOF_MAX:
        raise Reverted(Revert.BAD_PROOF, f"a proof has at most {PROOF_MAX} bytes")
    try:
        proof = decode_proof(data)
    except InvalidInput as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
    if not proof.holds():
        what = "balance proofs" if isinstance(proof, BalancesProof) else "the outcome"
        raise Reverted(Revert.BAD_SIGNATURE, f"not both players signed {what} for these terms")
    return proof
