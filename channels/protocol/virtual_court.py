"""The court of virtual channels: what is brought about one, and what that decides (docs/virtual.md), as pure rules.

| brought        | if the court does not know the channel | if it does, up to `until`                           |
| -------------- | -------------------------------------- | --------------------------------------------------- |
| balance proofs | up to the terms' expiry                | one of a higher number than is known of its simplex |
| an outcome     | up to the terms' expiry                | any that both signed: it decides                    |

Anybody may bring it. The first proofs set the clock, `until = now + period`, and nothing sets it anew. One window is
enough: of each simplex the highest number stands, whoever brought it, so that who brings its newest of both once
needs no answer to what comes after. So a dispute ends within a period of the expiry, whatever the players sign.

What goes over of the stakes is kept with every call (`virtual.moved`): when `until` is past it is decided, and nobody
has to say so. Locks within a virtual channel count nothing here, and so nobody countersigns one.

These rules stand here because players go by them, too, and whoever follows a chain: the contract's side of them is
`settlement.contract.virtual_court`.
"""

from __future__ import annotations

import enum

import msgspec

from tallystick.channels.protocol.virtual import Amounts, EndingProof, VirtualProof, moved


class Untaken(enum.Enum):
    """Why the court does not take what is brought."""

    EXPIRED = "the court took this channel up until its expiry, and its stakes went back"
    DECIDED = "this virtual channel is decided, for ever"
    NOT_NEWER = "the court knows these balance proofs, or newer ones"


class VirtualRecord(msgspec.Struct, frozen=True):
    """What the court keeps of a virtual channel."""

    expiry: int
    """Of its terms: it counts for no lock that expires before."""
    until: int
    """The last block time at which it takes anything; 0 once an outcome has decided."""
    paid: Amounts
    """What goes over by each condition, if nothing follows."""
    seqs: tuple[int, int] = (0, 0)
    """The newest number of each simplex that was brought."""
    transferred: tuple[int, int] = (0, 0)
    """What each side had given by then, in all."""


def take(record: VirtualRecord | None, proof: VirtualProof, time: int) -> VirtualRecord | Untaken:
    """Return what is kept after something was brought in a block of `time`, or why it is not taken.

    The caller has looked at the signatures (`holds`).
    """
    expiry = proof.terms.expiry
    if record is None and time > expiry:
        return Untaken.EXPIRED
    if record is not None and time > record.until:
        return Untaken.DECIDED
    if isinstance(proof, EndingProof):
        return VirtualRecord(expiry, 0, proof.paid)
    known = record or VirtualRecord(expiry, time + proof.terms.period, (0, 0, 0, 0))
    seqs, transferred = list(known.seqs), list(known.transferred)
    for side, statement in enumerate(proof.proofs):
        if statement is not None and statement.proof.seq > seqs[side]:
            seqs[side], transferred[side] = statement.proof.seq, statement.proof.transferred
    if (seqs[0], seqs[1]) == known.seqs:
        return Untaken.NOT_NEWER
    sums = (transferred[0], transferred[1])
    paid = (*moved(proof.terms.stakes, sums), 0, 0)
    return msgspec.structs.replace(known, paid=paid, seqs=(seqs[0], seqs[1]), transferred=sums)
