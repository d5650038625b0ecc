"""What was heard of the contract's channels: their terms, and what their standing proofs say of locks. Pure.

The contract keeps hashes of both; whoever calls it must say them again. They are in its logs, which pass by anyway
while a chain is followed; who needs one that has not passed asks for it by the channel's id. Nothing here is trusted:
wrong terms or locks make a call fail, and move nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import ZERO32, ChannelId, Terms
from tallystick.settlement.chain import (
    Call,
    ChallengeCall,
    ChannelOpened,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    RedeemCall,
    SettleCall,
    WithdrawCall,
)
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.event_logs import find_event
from tallystick.settlement.ethereum.evm.abi import LOCKS_HELD, OPENED, HeldLocks, held_hash, read_held
from tallystick.settlement.ethereum.evm.logs import PlacedLog

T = TypeVar("T")

REMEMBERED = 20_000
"""Channels of which is remembered what was heard last: some hundred bytes each."""

NONE_HELD = (HeldLocks(), HeldLocks())


def channel_of(call: Call) -> ChannelId | None:
    """Return which channel a call is about that exists already, None if it is about none."""
    match call:
        case DepositCall(channel) | CloseCall(channel) | SettleCall(channel) | RedeemCall(channel):
            return channel
        case WithdrawCall(withdrawal):
            return withdrawal.channel
        case CooperativeCloseCall(close):
            return close.channel
        case ChallengeCall(signed):
            return signed.proof.channel
        case _:
            return None


def standing(held: tuple[HeldLocks, HeldLocks], kept: tuple[bytes, bytes]) -> tuple[HeldLocks, HeldLocks] | None:
    """Return of what was heard what the contract keeps the hashes `kept` of; None if that was not heard."""
    fit = [each if hash != ZERO32 else HeldLocks() for each, hash in zip(held, kept, strict=True)]
    if any(held_hash(each) != hash for each, hash in zip(fit, kept, strict=True)):
        return None
    return fit[0], fit[1]


class ChannelsHeard:
    """Bounded memory of what the logs told."""

    def __init__(self, at: Deployment, remembered: int = REMEMBERED) -> None:
        self._at = at
        self._remembered = remembered
        self._terms: OrderedDict[ChannelId, Terms] = OrderedDict()
        self._held: OrderedDict[ChannelId, tuple[HeldLocks, HeldLocks]] = OrderedDict()

    def hear(self, logs: Iterable[PlacedLog]) -> None:
        """Take in logs of the contract, in order."""
        for placed in logs:
            topics = placed.log.topics
            if len(topics) != 2:
                continue
            if topics[0] == OPENED:
                event = find_event(placed.log, self._at)
                if isinstance(event, ChannelOpened) and channel_id(event.terms) == event.channel:
                    self._put(self._terms, event.channel, event.terms)
            elif topics[0] == LOCKS_HELD:
                try:
                    sender, held = read_held(placed.log)
                except InvalidInput:
                    continue
                channel = ChannelId(topics[1])
                before = self._held.get(channel, NONE_HELD)
                self._put(self._held, channel, (held, before[1]) if sender == 0 else (before[0], held))

    def learn(self, terms: Terms) -> None:
        """Take in the terms of a channel that is to be opened."""
        self._put(self._terms, channel_id(terms), terms)

    def terms(self, channel: ChannelId) -> Terms | None:
        """Return a channel's terms, None if they were not heard."""
        return self._terms.get(channel)

    def held(self, channel: ChannelId) -> tuple[HeldLocks, HeldLocks]:
        """Return what was heard last of the locks in the standing proofs of a channel, by side."""
        return self._held.get(channel, NONE_HELD)

    def _put(self, where: OrderedDict[ChannelId, T], channel: ChannelId, value: T) -> None:
        where[channel] = value
        where.move_to_end(channel)
        if len(where) > self._remembered:
            where.popitem(last=False)
