"""What two sides of a rollup's channel may sign: numbered totals, one after the other, without locks. Pure.

A side that pays signs its next balance proof, the other one countersigns it, and gives that back: then the next one may
be signed. So a proof's `seen` is the number before its own, and whoever closes by an older one is convicted. Nothing is
given that its payer does not have by deposits that nobody can take back, and by what the payee itself has signed for.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import BalanceProof, ChannelId, SignedProof
from tallystick.settlement.rollup.disputes import ChannelParties
from tallystick.settlement.rollup.rules import Place

_HEAD = 37
"""Bytes before the signatures: the channel's number 4, the sender 1, seq 8, seen 8, transferred 16."""

_SEQ_BOUND = 2**63
"""Numbers of payments are below it: so large ones fit on the disk."""


class ChannelBook(NamedTuple):
    """A channel as one side knows it."""

    place: Place
    parties: ChannelParties
    side: int
    """Ours."""
    deposits: tuple[int, int]
    """What each side has paid in, by a state that nothing takes back."""
    newest: tuple[SignedProof | None, SignedProof | None]
    """Of each side; our own may lack the countersignature."""
    before: SignedProof | None = None
    """Our own that both signed, if the newest lacks the countersignature."""

    @property
    def name(self) -> ChannelId:
        """The channel's id."""
        return self.parties.name(self.place)

    @property
    def pending(self) -> SignedProof | None:
        """Our newest proof, if the other side's signature of it is not here."""
        ours = self.newest[self.side]
        return ours if ours is not None and not ours.countersignature else None

    @property
    def signed(self) -> tuple[SignedProof | None, SignedProof | None]:
        """The newest of each side that both have signed: what counts on the chain."""
        ours = self.before if self.pending is not None else self.newest[self.side]
        return (ours, self.newest[1]) if self.side == 0 else (self.newest[0], ours)

    def given(self, side: int) -> int:
        """Return what a side has given in all, with what both have signed."""
        found = self.signed[side]
        return found.proof.transferred if found is not None else 0

    def available(self, side: int) -> int:
        """Return what a side can give now."""
        return self.deposits[side] + self.given(1 - side) - self.given(side)

    @property
    def balance0(self) -> int:
        """What the channel's first side gets if it is closed by what both have signed."""
        return self.available(0)

    def next_proof(self, amount: int) -> BalanceProof:
        """Return the balance proof by which we pay so much more. Raise InvalidInput."""
        if (waits := self.pending) is not None:
            raise InvalidInput(
                f"our payment {waits.proof.seq} waits for the other side's signature: hand it on again first, or close "
                "alone"
            )
        if not 0 < amount <= self.available(self.side):
            raise InvalidInput(f"we can give {self.available(self.side)} in this channel, and not {amount}")
        last = self.newest[self.side]
        seq = last.proof.seq if last is not None else 0
        return BalanceProof(self.name, self.side, seq + 1, self.given(self.side) + amount, seen=seq)

    def check_theirs(self, proof: BalanceProof, *, signed_by_us: bool = False) -> None:
        """Raise InvalidInput unless a proof of the other side's, not known yet, may be countersigned.

        `signed_by_us`: it came with what is said to be our signature, which is on disk before it leaves.
        """
        if signed_by_us:
            raise InvalidInput(
                f"this is a receipt of payment {proof.seq}, which is not in our record: if we signed it, the record "
                "was lost or is an old copy. Never close alone by it; close by agreement"
            )
        theirs = 1 - self.side
        last = self.newest[theirs]
        seq = last.proof.seq if last is not None else 0
        if proof.seq != seq + 1 or proof.seen != seq:
            raise InvalidInput(
                f"this payment has number {proof.seq} (after {proof.seen}), and {seq + 1} is next: the newest is to be "
                "handed in, or one side has lost its record, and then close by agreement"
            )
        amount = proof.transferred - self.given(theirs)
        if not 0 < amount <= self.available(theirs):
            raise InvalidInput(
                f"this payment is of {amount}, and the other side can give {self.available(theirs)} by deposits that "
                "are final"
            )


def write_payment(parties: ChannelParties, signed: SignedProof) -> bytes:
    """Return a payment as it is handed on; with both signatures it is its receipt."""
    proof = signed.proof
    numbers = ((parties.channel, 4), (proof.sender, 1), (proof.seq, 8), (proof.seen, 8), (proof.transferred, 16))
    return (
        b"".join(number.to_bytes(size, "big") for number, size in numbers) + signed.signature + signed.countersignature
    )


class HandedOn(NamedTuple):
    """A payment as it came: of a channel by its number."""

    channel: int
    sender: int
    seq: int
    seen: int
    transferred: int
    signature: bytes
    countersignature: bytes
    """Empty if the receiver has not signed."""

    def proof(self, name: ChannelId) -> BalanceProof:
        """Return its balance proof."""
        return BalanceProof(name, self.sender, self.seq, self.transferred, seen=self.seen)


def read_payment(data: bytes) -> HandedOn:
    """Return what was handed on; raise InvalidInput if it is no payment."""
    if len(data) not in (_HEAD + 64, _HEAD + 128) or data[4] > 1:
        raise InvalidInput("this is no payment in a rollup's channel, and no receipt of one")
    bounds = ((0, 4), (4, 5), (5, 13), (13, 21), (21, _HEAD))
    channel, sender, seq, seen, transferred = (int.from_bytes(data[at:end], "big") for at, end in bounds)
    if not 0 <= seen < seq < _SEQ_BOUND:
        raise InvalidInput("payments are numbered from 1 on, below 2^63, each after an earlier one")
    return HandedOn(channel, sender, seq, seen, transferred, data[_HEAD : _HEAD + 64], data[_HEAD + 64 :])
