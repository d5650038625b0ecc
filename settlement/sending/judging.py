"""What failed obligations come to: what a failure means, and whether a duty is taken on anew. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from tallystick.settlement.errors import Revert
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus, change

PAUSE_MAX = 512
"""Blocks between two attempts at one duty at most."""

AHEAD_MAX = 16
"""Blocks by which a chain node may fall back behind what it said before, by changing its back end."""

Judge: TypeAlias = Callable[[Obligation, Revert | None], ObligationStatus | None]
"""A caller's own opinion on what failed: WAITING (try again), SUPERSEDED or QUARANTINED; None: see `judge_failure`."""

Hold: TypeAlias = Callable[[Obligation, int], bool]
"""A caller's opinion on what has no nonce yet: whether it had better not be begun at that time of the chain."""

_MOOT = frozenset(
    {
        *(Revert.NOT_NEWER, Revert.ALREADY_REGISTERED, Revert.WRONG_STATUS),
        *(Revert.NOTHING_TO_REDEEM, Revert.NOTHING_OWED),
    }
)
_TRANSIENT = frozenset(
    {
        *(Revert.WINDOW_OPEN, Revert.UNKNOWN_CHANNEL, Revert.OUT_OF_GAS),
        *(Revert.INSUFFICIENT_BALANCE, Revert.INSUFFICIENT_ALLOWANCE),
    }
)


def judge_failure(revert: Revert | None) -> ObligationStatus:
    """Return what a failed receipt means where the caller has no opinion of its own."""
    if revert in _MOOT:
        return ObligationStatus.SUPERSEDED
    return ObligationStatus.WAITING if revert in _TRANSIENT else ObligationStatus.QUARANTINED


def due_again(earlier: Obligation, budget: int, deadline: int | None) -> Obligation:
    """Return an obligation as it has to be if what it is for is due now, by that deadline and for as much."""
    due = earlier
    under_way = earlier.is_bound and earlier.receipt is None and not (earlier.resting or earlier.far)
    if earlier.status is ObligationStatus.SUPERSEDED and under_way and not earlier.filler:  # it is not moot after all
        due = change(earlier, status=ObligationStatus.SENT, reason="")
    if due.is_final:
        return earlier
    if budget > earlier.budget + earlier.budget // 4:
        due = change(due, budget=budget)
    return due if deadline == earlier.deadline else change(due, deadline=deadline, late_heads=0)


def may_try_again(earlier: Obligation, attempt: int, head: int, newest: int | None = None, pace: int = 1) -> bool:
    """Say whether a duty that is due at block `head` is taken on anew, though `earlier` was to do it.

    `attempt` counts those before `earlier`. That ended without doing it, or is only said to have: it failed, or was
    given up, on a branch on which it was moot, or on a wrong word of the chain node. Pauses double. `newest`: the
    newest head that the sender was told, None if none yet. What ended far above that did so on a wrong word. `pace`
    is the chain's (`SendingPolicy.pace`).
    """
    if not earlier.is_final:
        return False
    most = math.inf if newest is None else max(newest, head) + AHEAD_MAX * pace
    mined = head if earlier.receipt is None else earlier.receipt.block.number
    if head < mined <= most or (mined > head and not earlier.resting):
        return False  # it may only seem due, to who has not followed so far
    if earlier.status is ObligationStatus.DONE and not earlier.resting:
        return False
    under_way = earlier.is_bound and earlier.receipt is None and not earlier.resting
    if earlier.status is ObligationStatus.SUPERSEDED and under_way:
        return False
    ended = earlier.ended if earlier.ended is not None else head if not earlier.resting else 0
    ended = 0 if ended > most else ended
    return head >= ended + pace * min((1 << attempt) - 1, PAUSE_MAX)
