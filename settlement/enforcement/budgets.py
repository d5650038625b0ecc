"""What may be spent on fees: it follows what is at stake, in the chain's own coin. Pure.

| what                                   | the most that it may cost                                                   |
| -------------------------------------- | --------------------------------------------------------------------------- |
| a claim: of a lock, a stream, a pot    | what it brings in (by `worth_percent`)                                      |
| any other duty, or the user's own wish | `stake_percent` of what is at stake; or, if more, `ORDINARY` times the      |
|                                        | market's price, up to `budget_floor`                                        |
| what is about an asset without a price | `token_budget`                                                              |
| anything                               | `budget`                                                                    |
"""

from __future__ import annotations

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.values.arguments import Options
from tallystick.settlement.chain import Call, DepositCall, OpenCall, TransferCall

ORDINARY = 3
"""How far a fee may be above the market's price of now for what little is at stake."""


class DutyPolicy(Options, frozen=True, kw_only=True):
    """How a node pays for its duties. Amounts are in the native coin's smallest unit."""

    budget: int = 10**17
    """The most that one transaction may cost in fees, whatever is at stake."""
    budget_floor: int = 10**16
    """So much may be spent, while the market asks for it, on what must be done however little is at stake."""
    stake_percent: int = 50
    """Share of what is at stake that may be spent on it."""
    token_budget: int = 10**16
    """The most that a transaction may cost that is about an asset other than the coin: its worth is not known here."""
    secret_margin: int = 120
    """Seconds of chain time before a lock's expiry at which its secret is registered if the peer has not paid. No less
    than the channels' `reveal_margin`: a secret that was paid for at the last moment goes to the chain at once."""
    worth_percent: int = 100
    """What is claimed on chain has to be worth that much of the fee. 0: all is claimed, whatever it costs."""
    unlock_patience: int = 6 * 3_600
    """How long a peer may leave a lock unpaid that the chain shows to be ours before the channel is closed over it."""


def is_worth(asset: Address, stake: int, gas: int, price: int | None, policy: DutyPolicy) -> bool:
    """Whether claiming `stake` is worth its fee. If no price is known, it is."""
    if price is None or policy.worth_percent == 0:
        return True
    if asset != NATIVE:
        return gas * price <= policy.token_budget
    return 100 * stake >= policy.worth_percent * gas * price


def claim_budget(asset: Address, stake: int, policy: DutyPolicy) -> int:
    """Return what a claim may cost."""
    if policy.worth_percent == 0:
        return policy.budget
    return min(policy.budget, policy.token_budget if asset != NATIVE else 100 * stake // policy.worth_percent)


def duty_budget(asset: Address, stake: int, gas: int, market: int | None, policy: DutyPolicy) -> int:
    """Return what may be spent on what has to be done, or is wanted, if `stake` of the asset depends on it."""
    ordinary = policy.budget_floor if market is None else min(ORDINARY * gas * (market + 1), policy.budget_floor)
    share = policy.token_budget if asset != NATIVE else policy.stake_percent * stake // 100
    return min(policy.budget, max(share, ordinary))


def moved_by(call: Call) -> tuple[Address, int]:
    """Return what a transaction of the user moves; of an approval, what it is about has no price here."""
    match call:
        case OpenCall(terms, deposit):
            return terms.asset, deposit
        case DepositCall(asset=asset, amount=amount) | TransferCall(asset=asset, amount=amount):
            return asset, amount
        case _:
            return getattr(call, "asset", NATIVE), 0
