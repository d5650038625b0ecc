"""What a node's channels may cost in fees, at the market's price with a margin: its account should hold that. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.settlement.chain import ChallengeCall, CloseCall, RedeemCall, SettleCall
from tallystick.settlement.contract.verdicts import verdict_of
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget
from tallystick.settlement.ethereum.transactions import GAS, LOCK_GAS, gas_of
from tallystick.settlement.sending.fee_account import at_one_time

MARGIN = 2
"""How far fees may rise until what is due is paid for."""

_ENDING = frozenset({Phase.CLOSING, Phase.CLOSED, Phase.SETTLED})


def fee_need(channels: Iterable[Channel], market: int | None, policy: DutyPolicy) -> int:
    """Return what the account should hold for what may be due in these channels, 0 if there are none on chain."""
    certain: list[int] = []
    possible: list[int] = []
    for channel in channels:
        if channel.phase in (Phase.OPENING, Phase.GONE):
            continue
        (certain if channel.phase in _ENDING else possible).append(_cost(channel, market, policy))
    return at_one_time(certain, possible)


def _cost(channel: Channel, market: int | None, policy: DutyPolicy) -> int:
    """Return what ending a channel alone costs, with what its locks take; no more than the node would pay for it."""
    locks = len(channel.theirs.simplex.locks) + len(channel.newest.locks)
    steps = [GAS[CloseCall], GAS[ChallengeCall], GAS[SettleCall]]
    steps += [2 * GAS[RedeemCall] + LOCK_GAS * locks] if locks else []
    for known in channel.secrets:
        lock = channel.theirs.simplex.lock(known.lock)
        steps += [gas_of(verdict_of(lock).registration(lock, known.secret))] if lock is not None else []
    price, stake = max(1, market or 0), max(0, channel.balances()[channel.side])
    return sum(min(MARGIN * gas * price, duty_budget(channel.terms.asset, stake, gas, price, policy)) for gas in steps)
