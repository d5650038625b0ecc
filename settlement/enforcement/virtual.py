"""What a player must bring to its chain's court about a virtual channel, derived from what it holds of it. Pure.

| in court                              | held                                              | duty                  |
| ------------------------------------- | ------------------------------------------------- | --------------------- |
| nothing, and it is not past the       | balance proofs, and the owner wants a dispute, or | register the balances |
| expiry                                | the expiry is near and they bring us something    |                       |
| older balance proofs                  | newer ones, of any simplex                        | register the balances |
| anything that is not decided, or it   | an outcome that both signed                       | register the outcome  |
| is wanted there (`shown`)             |                                                   |                       |
| what is decided                       |                                                   | none: redeem the lock |

Without a dispute all stakes go back: so near the expiry it is begun by whoever the newest state gives something.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tallystick.channels.protocol.objects import ChannelId, SignedProof
from tallystick.channels.protocol.virtual import (
    VIRTUAL,
    BalancesProof,
    EndingProof,
    VirtualTerms,
    conditions_of,
    moved,
    virtual_id,
)
from tallystick.settlement.chain import Call, RegisterProofCall
from tallystick.settlement.enforcement.apps import CourtPrices
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget
from tallystick.settlement.following.virtual import VirtualInCourt
from tallystick.settlement.sending.obligations import Duty, Obligation

VIRTUAL_DUTIES = frozenset({Duty.REGISTER_BALANCES, Duty.REGISTER_ENDING})
"""What is due for virtual channels."""


class VirtualHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What a player holds of one virtual channel. What is in it is stored."""

    terms: VirtualTerms
    side: int
    """Which one we are."""
    proofs: tuple[SignedProof | None, SignedProof | None] = (None, None)
    """The newest of each simplex of which we hold both signatures."""
    outcome: EndingProof | None = None
    """Once both signed it."""
    shown: bool = False
    """Whether the outcome is to be brought to court, as hubs pay a part of a stake only by what stands there."""
    disputed: bool = False
    """Whether the court is to decide now, as the other stalls or stays away."""

    @property
    def channel(self) -> ChannelId:
        """Its id."""
        return virtual_id(self.terms)

    @property
    def stake(self) -> bytes:
        """The condition of our stake: one of those by which the index finds the channel."""
        return conditions_of(self.channel)[self.side]

    @property
    def gain(self) -> int:
        """What the proofs bring us beyond our own stake; below 0: what they take of it."""
        given, got = (self._given(side) for side in (self.side, 1 - self.side))
        sums = (given, got) if self.side == 0 else (got, given)
        paid = moved(self.terms.stakes, sums)
        return paid[1 - self.side] - paid[self.side]

    def _given(self, side: int) -> int:
        statement = self.proofs[side]
        return 0 if statement is None else statement.proof.transferred


def virtual_duties(held: VirtualHeld, court: VirtualInCourt | None, now: int, prices: CourtPrices) -> list[Obligation]:
    """Return what should be on its way to the court for this virtual channel in a block of time `now`."""
    short, deadline = held.channel.hex()[:16], held.terms.expiry if court is None else court.record.until
    found = []
    for duty, call, detail in _steps(held, court, now, prices.policy):
        fee = None if prices.market is None else prices.tariff.fee(call, prices.market + 1)
        found.append(
            Obligation(
                id=f"{duty}:{short}{detail}",
                duty=duty,
                call=call,
                purpose=f"{duty} virtual channel {short[:8]}",
                budget=max(1, duty_budget(held.terms.asset, sum(held.terms.stakes), fee, prices.policy)),
                deadline=deadline,
            )
        )
    return found


def _steps(
    held: VirtualHeld, court: VirtualInCourt | None, now: int, policy: DutyPolicy
) -> Iterator[tuple[Duty, Call, str]]:
    if now > held.terms.expiry if court is None else court.is_decided(now):
        return
    if held.outcome is not None:
        if court is not None or held.shown:
            yield Duty.REGISTER_ENDING, RegisterProofCall(VIRTUAL, held.stake, held.outcome.encode()), ""
        return
    if court is None and not _should_begin(held, now, policy):
        return
    first, second = (_newer(held, court, side) for side in (0, 1))
    if first is not None or second is not None:
        proof = BalancesProof(held.terms, (first, second)).encode()
        seqs = ":".join(str(0 if each is None else each.proof.seq) for each in (first, second))
        yield Duty.REGISTER_BALANCES, RegisterProofCall(VIRTUAL, held.stake, proof), f":{seqs}"


def _should_begin(held: VirtualHeld, now: int, policy: DutyPolicy) -> bool:
    return held.gain > 0 and (held.disputed or now > held.terms.expiry - policy.secret_margin)


def _newer(held: VirtualHeld, court: VirtualInCourt | None, side: int) -> SignedProof | None:
    """Return our newest proof of a simplex, None if the court knows one that is as new."""
    statement = held.proofs[side]
    known = 0 if court is None else court.record.seqs[side]
    return None if statement is None or statement.proof.seq <= known else statement
