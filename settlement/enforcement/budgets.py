"""What may be spent on fees: it follows what is at stake, in the chain's own coin; and what to hold for them. Pure.

| what                                   | the most that it may cost                                                   |
| -------------------------------------- | --------------------------------------------------------------------------- |
| a claim: of a lock, a stream, a pot    | what it brings in (by `worth_percent`)                                      |
| any other duty, or the user's own wish | `stake_percent` of what is at stake; or, if more, `ORDINARY` times the      |
|                                        | market's price, up to `budget_floor`                                        |
| what is about an asset without a price | `token_budget`                                                              |
| anything                               | `budget`                                                                    |
"""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.values.arguments import Options
from tallystick.settlement.chain import ChallengeCall, CloseCall, RedeemCall, SettleCall
from tallystick.settlement.contract.verdicts import verdict_of
from tallystick.settlement.port import Tariff
from tallystick.settlement.sending.fee_account import at_one_time

ORDINARY = 3
"""How far a fee may be above the market's price of now for what little is at stake."""

MARGIN = 2
"""How far fees may rise until what is due is paid for."""

_ENDING = frozenset({Phase.CLOSING, Phase.CLOSED, Phase.SETTLED})


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


def is_worth(asset: Address, stake: int, fee: int | None, policy: DutyPolicy) -> bool:
    """Whether claiming `stake` is worth its fee. If that is not known, it is."""
    if fee is None or policy.worth_percent == 0:
        return True
    if asset != NATIVE:
        return fee <= policy.token_budget
    return 100 * stake >= policy.worth_percent * fee


def claim_budget(asset: Address, stake: int, policy: DutyPolicy) -> int:
    """Return what a claim may cost."""
    if policy.worth_percent == 0:
        return policy.budget
    return min(policy.budget, policy.token_budget if asset != NATIVE else 100 * stake // policy.worth_percent)


def duty_budget(asset: Address, stake: int, fee: int | None, policy: DutyPolicy) -> int:
    """Return what may be spent on what has to be done, or is wanted, if `stake` of the asset depends on it.

    `fee` is what it costs at a unit of price above the market's, None if that is not known.
    """
    ordinary = policy.budget_floor if fee is None else min(ORDINARY * fee, policy.budget_floor)
    share = policy.token_budget if asset != NATIVE else policy.stake_percent * stake // 100
    return min(policy.budget, max(share, ordinary))


def fee_need(channels: Iterable[Channel], market: int | None, tariff: Tariff, policy: DutyPolicy) -> int:
    """Return what the account should hold for what may be due in these channels, 0 if there are none on chain."""
    certain: list[int] = []
    possible: list[int] = []
    for channel in channels:
        if channel.phase in (Phase.OPENING, Phase.GONE):
            continue
        (certain if channel.phase in _ENDING else possible).append(_cost(channel, max(1, market or 0), tariff, policy))
    return at_one_time(certain, possible)


def redeems_fee(channel: Channel, price: int, tariff: Tariff) -> int:
    """Return what it costs to have the pending locks of a settled channel decided, in both simplices."""
    locks = len(channel.theirs.simplex.locks) + len(channel.newest.locks)
    return tariff.fee_of(RedeemCall, price, locks) + tariff.fee_of(RedeemCall, price)


def _cost(channel: Channel, price: int, tariff: Tariff, policy: DutyPolicy) -> int:
    """Return what ending a channel alone costs, with what its locks take; no more than the node would pay for it."""
    asset, stake = channel.terms.asset, max(0, channel.balances()[channel.side])
    fees, dearer = _steps(channel, price, tariff), _steps(channel, price + 1, tariff)
    return sum(
        min(MARGIN * fee, duty_budget(asset, stake, above, policy)) for fee, above in zip(fees, dearer, strict=True)
    )


def _steps(channel: Channel, price: int, tariff: Tariff) -> list[int]:
    """Return what each step costs by which a channel is ended alone, if a unit of gas costs `price`."""
    fees = [tariff.fee_of(kind, price) for kind in (CloseCall, ChallengeCall, SettleCall)]
    if channel.theirs.simplex.locks or channel.newest.locks:
        fees.append(redeems_fee(channel, price, tariff))
    for known in channel.secrets:
        lock = channel.theirs.simplex.lock(known.lock)
        fees += [tariff.fee(verdict_of(lock).registration(lock, known.secret), price)] if lock is not None else []
    return fees
