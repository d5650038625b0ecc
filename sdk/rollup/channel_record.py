"""What a user of a rollup keeps of payments in its channels: each balance proof that it signed, from before it left.

Nothing is ever deleted, so a number is signed under once, and a payment that is asked for again by its key is the same.
"""

from __future__ import annotations

from tallystick.channels.protocol.objects import BalanceProof, ChannelId, SignedProof
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, find, table


class ProofKept(Moment, frozen=True):
    """This is signed by both sides, or by us alone, and may be sent from now on. Its number was never signed under."""

    proof: BalanceProof
    signature: bytes
    countersignature: bytes
    """Empty as long as the other side's is not here."""
    key: str | None = None
    """Under which the user asked for it."""


class ReceiptKept(Moment, frozen=True):
    """The other side has signed this one of ours, which is on disk."""

    proof: BalanceProof
    countersignature: bytes


class ChannelEnding(Moment, frozen=True):
    """We sign that the channel ends: nothing is paid in it from now on, up to this time of the chain's."""

    channel: ChannelId
    until: int
    balance0: int | None
    """What its first side gets by what was signed; None if we close alone."""


class EndingTakenBack(Moment, frozen=True):
    """A close by us alone was refused by the chain before it was sent."""

    channel: ChannelId


_PROOFS = table(
    "rollup_proofs",
    "channel sender seq transferred seen signature countersignature name",
    keys=3,
    unique=(("channel", "name"),),
)
_ENDINGS = table("rollup_endings", "channel until balance0")


def read_newest(store: Store, channel: ChannelId, sender: int) -> SignedProof | None:
    """Return the newest balance proof of a side, None if there is none; one of ours may lack its countersignature."""
    rows = store.read(_PROOFS.rows(order=("-seq",), limit=1, channel=channel, sender=sender))
    return _read(rows[0]) if rows else None


def read_proof(store: Store, channel: ChannelId, sender: int, seq: int) -> SignedProof | None:
    """Return one balance proof, None if it is not here."""
    row = find(store, _PROOFS, channel, sender, seq)
    return None if row is None else _read(row)


def read_by_key(store: Store, channel: ChannelId, key: str) -> SignedProof | None:
    """Return what was signed under a key, None if nothing was."""
    rows = store.read(_PROOFS.rows(channel=channel, name=key))
    return _read(rows[0]) if rows else None


def read_ending(store: Store, channel: ChannelId) -> ChannelEnding | None:
    """Return what we signed that ends a channel, None if nothing."""
    row = find(store, _ENDINGS, channel)
    return None if row is None else ChannelEnding(channel, row[1], int.from_bytes(row[2], "big") if row[2] else None)


def _read(row: Row) -> SignedProof:
    channel, sender, seq, transferred, seen, signature, countersignature, _ = row
    proof = BalanceProof(ChannelId(channel), sender, seq, int.from_bytes(transferred, "big"), seen=seen)
    return SignedProof(proof, signature, countersignature)


def _kept(rows: Rows, moment: ProofKept) -> None:
    proof = moment.proof
    numbers = proof.transferred.to_bytes(16, "big"), proof.seen
    signatures = moment.signature, moment.countersignature
    rows.add(_PROOFS, proof.channel, proof.sender, proof.seq, *numbers, *signatures, moment.key)


def _receipt(rows: Rows, moment: ReceiptKept) -> None:
    proof = moment.proof
    where = {"channel": proof.channel, "sender": proof.sender, "seq": proof.seq}
    rows.update(_PROOFS, {"countersignature": moment.countersignature}, **where)


def _ending(rows: Rows, moment: ChannelEnding) -> None:
    balance0 = b"" if moment.balance0 is None else moment.balance0.to_bytes(16, "big")
    rows.put(_ENDINGS, moment.channel, moment.until, balance0)


def _taken_back(rows: Rows, moment: EndingTakenBack) -> None:
    rows.delete(_ENDINGS, channel=moment.channel)


PAYING = Subject(
    "rollup-paying",
    (_PROOFS, _ENDINGS),
    {ProofKept: _kept, ReceiptKept: _receipt, ChannelEnding: _ending, EndingTakenBack: _taken_back},
)
