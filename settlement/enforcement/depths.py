"""How deep a channel's events have to be until this node relies on them: by what is at risk, in which asset.

| at risk                                            | depth, never below `confirmations`                             |
| -------------------------------------------------- | -------------------------------------------------------------- |
| the chain's coin, or a token whose worth is named  | what the ladder says: the chain's own, or the user's           |
| more than the ladder's last step                   | as deep as the chain calls final; if it never says, that step  |
| a token that has a depth of its own                | that                                                           |
| any other token                                    | `token_confirmations`; if that is 0, the ladder's last step    |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.values.argument_rules import Whole
from tallystick.channels.values.arguments import Options
from tallystick.settlement.chain import GONE, ContractChannel
from tallystick.settlement.following.counting import Tip, Waiting, counting
from tallystick.settlement.following.index import ChainIndex

Blocks = Annotated[int, Whole(0, 2**31)]


class DepthStep(Options, frozen=True, kw_only=True):
    """So many blocks (1: the newest) are enough for what is at risk up to `worth`, in the native coin."""

    worth: int
    blocks: Blocks


class TokenDepth(Options, frozen=True, kw_only=True):
    """How deep deposits in one token have to be."""

    confirmations: Blocks = 0
    """For any amount; 0: by its worth if that is named, or as any other token."""
    unit_worth: float = 0.0
    """What one of the token's smallest units is worth in the native coin's smallest units, about; 0: not known."""


class DepthPolicy(Options, frozen=True, kw_only=True):
    """How deep what moves money has to be until it counts."""

    ladder: tuple[DepthStep, ...] | None = None
    """By what is at risk, in order; None: as the chain's profile says. What is more waits for finality."""
    token_confirmations: Blocks = 0
    """Of tokens about which nothing is said in `tokens`; 0: the last step of the ladder."""
    tokens: Mapping[Address, TokenDepth] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = [(step.worth, step.blocks) for step in self.ladder or ()]
        if any(not (a < c and b <= d) for (a, b), (c, d) in itertools.pairwise(steps)):
            raise InvalidInput("a ladder of depths rises: each step is for more, and no less deep than the one before")


class DepthAwaited(msgspec.Struct, frozen=True):
    """What the chain shows of a channel, and is not deep enough to count yet."""

    seen: int
    """Its depth now; 1: it is in the newest block."""
    wanted: int | None
    """The depth at which it counts; None: once the chain calls it final."""
    at_risk: int
    """What a reorganisation could take with it, in the channel's asset."""


def counted(channel: Channel, relied: ContractChannel | None, confirmed: ContractChannel) -> tuple[int, int]:
    """Return what counts as deposited, by side: what is deep enough, and what has counted already and is confirmed.

    Less would go back on what the peer was told: its updates would be refused.
    """
    deep = (0, 0) if relied is None else relied.deposits
    before, now = channel.deposits, confirmed.deposits
    kept = min(before[0], now[0]), min(before[1], now[1])
    return max(deep[0], kept[0]), max(deep[1], kept[1])


class Depths:
    """How deep the events of a node's channels have to be on its chain, and whether they are."""

    def __init__(self, index: ChainIndex, ladder: tuple[tuple[int, int], ...], policy: DepthPolicy, least: int) -> None:
        """`ladder`: the chain's own; `least`: depth at which anything counts."""
        self._index = index
        steps = policy.ladder
        self._ladder = ladder if steps is None else tuple((step.worth, step.blocks) for step in steps)
        self._policy = policy
        self.least = least
        self.final: int | None = -1
        """The newest block that the chain was heard to call final, -1 before that; None: it never says."""
        self._waiting: dict[ChannelId, Waiting] = {}

    def on_final(self, number: int | None) -> None:
        """Take in which block the chain calls final; None: it never says."""
        self.final = number

    @property
    def has_ladder(self) -> bool:
        """Whether it matters how much is at risk."""
        return bool(self._ladder)

    def wanted(self, asset: Address, at_risk: int) -> int | None:
        """Return how deep an event has to be that puts so much of an asset at risk; None: final."""
        if asset != NATIVE:
            token = self._policy.tokens.get(asset, TokenDepth())
            last = self._ladder[-1][1] if self._ladder else 0
            blocks = token.confirmations or (0 if token.unit_worth else self._policy.token_confirmations or last)
            if blocks or not token.unit_worth:
                return max(self.least, blocks)
            at_risk = math.ceil(at_risk * token.unit_worth)
        if not self._ladder:
            return self.least
        for worth, blocks in self._ladder:
            if at_risk <= worth:
                return max(self.least, blocks)
        return None if self.final is not None else max(self.least, self._ladder[-1][1])

    @property
    def asks_for_finality(self) -> bool:
        """Whether it matters now which blocks are final: something waits that is more than little."""
        return any(waiting.wanted is None or waiting.wanted > self.least for waiting in self._waiting.values())

    def newest(self, channel: ChannelId, waiting: Waiting | None) -> int:
        """Return the block of the newest event that is deep enough, if `waiting` is the first that is not."""
        end = math.inf if waiting is None else waiting.number
        return max((each.number for each in self._index.events(channel) if each.number < end), default=-1)

    def look(self, channel: Channel) -> tuple[ContractChannel | None, Waiting | None]:
        """Return the same as `relied`, and remember whether an event is not deep enough."""
        relied, waiting = self.relied(channel)
        if waiting is None or (relied is not None and relied.status == GONE):
            self._waiting.pop(channel.id, None)
        else:
            self._waiting[channel.id] = waiting
        return relied, waiting

    def awaited(self, channel: Channel) -> DepthAwaited | None:
        """Return what of a channel does not count yet, for people; None if all does."""
        waiting = None if channel.phase is Phase.GONE else self.relied(channel)[1]
        if waiting is None:
            return None
        wanted = None if waiting.wanted is None else max(self.least, waiting.wanted)
        return DepthAwaited(self._index.head_number - waiting.number + 1, wanted, waiting.at_risk)

    def relied(self, channel: Channel) -> tuple[ContractChannel | None, Waiting | None]:
        """Return a channel's state by the events that are deep enough, and what the next one waits for."""
        tip = Tip(self._index.head_number, -1 if self.final is None else self.final, self.least)
        asset = channel.terms.asset
        number, waiting = counting(self._index.events(channel.id), tip, lambda amount: self.wanted(asset, amount))
        return self._index.view(channel.id, number), waiting
