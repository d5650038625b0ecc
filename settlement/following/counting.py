"""Up to which block a channel's events count, where more is at risk the deeper they have to be. Pure.

A reorganisation takes back all newest blocks at once. So what an event puts at risk is what it moves, together with all
that moved in the same channel before it and is not final yet: who deposits in many small parts has to wait as long as
for one. Events count in their order, up to the first that is not deep enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from tallystick.settlement.chain import ChannelEvent, ContractChannel, CooperativelyClosed, Deposited, Redeemed, Settled
from tallystick.settlement.following.index import EventInBlock, with_event

Wanted: TypeAlias = Callable[[int], int | None]
"""How deep (1: the newest block) a block has to be for that amount at risk; None: as deep as the chain calls final."""


class Waiting(msgspec.Struct, frozen=True):
    """Why an event does not count yet."""

    number: int
    """Its block."""
    at_risk: int
    """In the channel's asset."""
    wanted: int | None
    """Depth at which it counts; None: once the chain calls it final."""


class Tip(msgspec.Struct, frozen=True):
    """How far a chain has come."""

    head: int
    """Number of the newest block."""
    final: int
    """Of the newest that the chain was heard to call final, -1 if it was not: what is in it is at risk no more."""
    least: int
    """Depth at which anything counts."""

    @property
    def confirmed(self) -> int:
        """The newest block that counts at all."""
        return self.head - self.least + 1


def moved(before: ContractChannel | None, event: ChannelEvent) -> int:
    """Return what would be lost to whoever relied on an event that leaves the chain.

    Of a deposit it is what it adds; of an end, all that was in the channel: whoever believes that it is gone does not
    guard it. A withdrawal, a close and a challenge give nobody anything to rely on.
    """
    if before is None:
        return 0
    match event:
        case Deposited(_, side, total):
            return max(0, total - before.deposits[side])
        case CooperativelyClosed() | Settled():
            return max(0, sum(before.deposits) - sum(before.withdrawn))
        case Redeemed():
            return sum(before.pots)
        case _:
            return 0


def counting(history: Iterable[EventInBlock], tip: Tip, wanted: Wanted) -> tuple[int, Waiting | None]:
    """Return up to which block a channel's events count, and what the first one that does not waits for."""
    view: ContractChannel | None = None
    running = 0
    waiting: Waiting | None = None
    for sighting in history:
        number, amount = sighting.number, moved(view, sighting.event)
        if waiting is not None and number > waiting.number:
            break
        view = with_event(view, sighting.event)
        running = running + amount if number > tip.final else 0
        at_risk = max(running, amount)
        depth = wanted(at_risk) if amount or waiting is not None else tip.least
        deep = number <= tip.final or (depth is not None and number <= tip.head - depth + 1)
        if not deep or number > tip.confirmed:
            waiting = Waiting(number, at_risk, depth)
    return (tip.confirmed, None) if waiting is None else (min(waiting.number - 1, tip.confirmed), waiting)
