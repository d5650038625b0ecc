"""Claiming by itself what the contract owes an account: to that account, while it is worth it, a few times. Pure.

A payout was refused: by the account's own code, which may have wanted more gas than a payout is given, or by a token,
which may have stood still for a while. So it is worth a try again, later and later; what is refused for good waits for
a person, who may name another account (`tally chain claim`). There is no hurry: it is paid for at the market's price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import ClaimCall
from tallystick.settlement.enforcement.budgets import ORDINARY, DutyPolicy, is_worth
from tallystick.settlement.errors import Revert
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationStatus

CLAIM_TRIES = 4
"""Claims of the same amount that may fail on end."""

CLAIM_PAUSE = 300
"""Blocks (of `port.PACE` seconds) until the next one; doubled with each that failed."""

CLAIMS_MAX = 1_000
"""Claims of the same amount that are looked at."""

CLAIM_EVERY = 300.0
"""Seconds between two looks while something is owed."""


def claim_owed(
    find: Callable[[str], Obligation | None],
    asset: Address,
    amount: int,
    account: Address,
    *,
    head: int,
    pace: int,
    fee: int | None,
    policy: DutyPolicy,
) -> Obligation | None:
    """Return the claim of what is owed that is due at block `head`, None if none is now.

    `find` returns an obligation by its id; `fee` is what a claim costs now, None if that is not known.
    """
    if not amount or fee is None or not is_worth(asset, amount, CLAIM_TRIES * fee, policy):
        return None
    failed, due = 0, 0
    for number in range(CLAIMS_MAX):
        name = f"{Duty.CLAIM_OWED}:{asset.hex()}:{amount}:{number}"
        earlier = find(name)
        if earlier is None:
            if failed >= CLAIM_TRIES or head < due:
                return None
            return Obligation(
                id=name,
                duty=Duty.CLAIM_OWED,
                call=ClaimCall(asset, account),
                purpose="claim of what the contract owes this account",
                budget=max(1, min(ORDINARY * fee, policy.budget)),
            )
        if not earlier.is_final or earlier.ended is None:
            return None
        failed = 0 if earlier.status is ObligationStatus.DONE else failed + 1
        due = earlier.ended + (CLAIM_PAUSE * pace << failed)
    return None


def claim_under_way(obligations: Iterable[Obligation], asset: Address) -> Obligation | None:
    """Return the claim of an asset that is under way: it takes all, and whatever comes after it would find nothing."""
    claims = (o for o in obligations if isinstance(o.call, ClaimCall) and o.call.asset == asset and not o.is_final)
    return next(claims, None)


def judge_claim(obligation: Obligation, revert: Revert | None) -> ObligationStatus | None:
    """Say that such a claim which failed is over: it is not for a person to see to, and not sent again at once."""
    return ObligationStatus.SUPERSEDED if obligation.duty is Duty.CLAIM_OWED else None
