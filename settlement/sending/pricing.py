"""What each transaction under way should offer now: fees that rise along a curve and reach the budget in time. Pure.

Fee prices are in the native coin's smallest unit per unit of gas, and integers throughout. A transaction starts at
the market's price; as its window passes, its offer rises with the square of the time waited, and reaches what its
budget allows when 60 % of the window is over. Without a deadline, blocks waited take the place of time.

The market's price is the median of what was claimed at the last heads. The curve counts only the time in which the
transaction could have been mined: not while the account is empty, the chain node down, or this program asleep.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from tallystick.settlement.sending.nonces import stalled_from
from tallystick.settlement.sending.obligations import (
    ATTEMPTS_MAX,
    BUDGET_SHORT,
    Attempt,
    Gas,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    SendingPolicy,
    bumped,
    change,
    without_raw,
)

PRICES = 5
"""Heads whose claims the market's price is the median of."""

FULL_AT = (6, 10)
"""The part of the window after which the whole budget is offered."""

AHEAD = 60
"""Seconds that the head's time is believed to be ahead of the confirmed time at most."""

BLOCK_SECONDS_MAX = 60
"""Seconds that a block is believed to have taken at most."""


def market_of(book: ObligationBook) -> int:
    """Return the market's price by the last looks, of which there is one at least."""
    return statistics.median_low(each.market for each in book.looks[-PRICES:])


def time_now(book: ObligationBook, seen: Observation) -> int:
    """Return the chain's time, as far as the word of one head is taken for it."""
    now = min(seen.head.time, seen.confirmed + AHEAD)
    earlier = [each for each in book.looks if each.number < seen.head.number]
    if earlier:
        now = min(now, earlier[-1].time + BLOCK_SECONDS_MAX * (seen.head.number - earlier[-1].number))
    return now


def cap_of(obligation: Obligation, gas: Gas) -> int:
    """Return the highest price per gas that what is left of the budget allows."""
    return obligation.left // gas(obligation.call)


def price(book: ObligationBook, seen: Observation, gas: Gas, policy: SendingPolicy) -> list[Obligation]:
    """Return the unmined obligations in order of nonce, each offering what it, or one behind it, needs."""
    pending = sorted((o for o in book.obligations.values() if o.is_unmined(seen.nonce)), key=lambda o: o.nonce or 0)
    pending = [o for o in pending if not _is_young_gap(o, seen, policy)]
    limits = [_limit(o, pending[:i], gas) for i, o in enumerate(pending)]
    stalled = stalled_from(book, seen.nonce)
    priced: list[Obligation] = []
    urgent = highest = 0
    now = time_now(book, seen)
    for obligation, limit in zip(reversed(pending), reversed(limits), strict=True):
        cap = cap_of(obligation, gas)
        urgent = max(urgent, min(_want(obligation, seen, now, gas, policy), limit))
        highest = max(highest, limit)
        offered = obligation
        if _is_first(obligation) or (obligation.nonce or 0) < stalled:
            offered = _offer(obligation, urgent, highest, seen.market)
        short = cap < seen.market and obligation.status is ObligationStatus.SENT
        if short and not offered.trouble:
            offered = change(offered, trouble=BUDGET_SHORT)
        elif not short and offered.trouble == BUDGET_SHORT:
            offered = change(offered, trouble="")
        priced.append(offered)
    return priced[::-1]


def way_of(book: ObligationBook, seen: Observation, gas: Gas) -> Callable[[Obligation], bool]:
    """Return what says whether an obligation can pay for itself and all under way to be mined at the market's price."""
    ahead = (o for o in book.obligations.values() if o.is_unmined(seen.nonce))
    lacking = sum(gas(o.call) * max(0, seen.market - cap_of(o, gas)) for o in ahead)

    def pays_the_way(obligation: Obligation) -> bool:
        return obligation.budget - obligation.spent >= gas(obligation.call) * seen.market + lacking

    return pays_the_way


def _is_young_gap(obligation: Obligation, seen: Observation, policy: SendingPolicy) -> bool:
    """Whether it fills a gap that another program's transaction, which left the chain, may still fill by itself."""
    start = obligation.first_block or 0
    young = seen.head.number - start < policy.confirmations
    return obligation.filler and obligation.status is ObligationStatus.SENT and young


def _is_first(obligation: Obligation) -> bool:
    """Whether nothing was offered yet for what is to be sent under its nonce: its call, or what uses the nonce up."""
    return not obligation.attempts or (obligation.filler and not obligation.attempts[-1].filler)


def _want(obligation: Obligation, seen: Observation, now: int, gas: Gas, policy: SendingPolicy) -> int:
    """Return what its own fee curve asks for now."""
    cap = cap_of(obligation, gas)
    if obligation.is_final or (obligation.deadline is not None and now > obligation.deadline):
        return min(max(seen.market, obligation.floor), cap)
    if obligation.deadline is not None:
        elapsed = obligation.waited_time
        window = elapsed + obligation.deadline - now
    else:
        elapsed, window = obligation.waited_blocks, policy.patience
    return max(curve(seen.market, cap, elapsed, window), min(obligation.floor, cap))


def _limit(obligation: Obligation, ahead: list[Obligation], gas: Gas) -> int:
    """Return the highest offer at which it can pay from its budget what those ahead of it lack to offer as much."""
    own = obligation.left
    lacking = [(gas(other.call), cap_of(other, gas)) for other in ahead]

    def cost(at: int) -> int:
        return gas(obligation.call) * at + sum(units * max(0, at - cap) for units, cap in lacking)

    low, high = 0, cap_of(obligation, gas)
    if cost(high) <= own:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= own else (low, middle - 1)
    return low


def _offer(obligation: Obligation, want: int, cap: int, market: int) -> Obligation:
    """Return it with a further attempt, if one at that price is called for."""
    attempts = obligation.attempts
    current = attempts[-1].price if attempts else None
    if attempts and _is_first(obligation):
        offer: int | None = max(want, min(market, cap), bumped(attempts[-1].price))
    else:
        offer = next_price(current, want, cap)
    if offer is None or len(attempts) >= ATTEMPTS_MAX:
        return obligation
    return change(obligation, attempts=(*without_raw(attempts), Attempt(offer, obligation.filler)))


def curve(market: int, cap: int, elapsed: int, window: int) -> int:
    """Return the offer after `elapsed` of `window` (both in seconds or both in blocks): from `market` up to `cap`."""
    start = min(market, cap)
    rising = max(1, window * FULL_AT[0] // FULL_AT[1])
    waited = min(max(elapsed, 0), rising)
    return start + (cap - start) * waited * waited // (rising * rising)


def next_price(current: int | None, want: int, cap: int) -> int | None:
    """Return the price of the next attempt, or None to leave the `current` one (None: there is none yet) standing.

    Never strands just below `cap`: where no further replacement would fit under it, the offer is `cap` at once.
    """
    want = min(want, cap)
    if current is not None and (want <= current or want < min(bumped(current), cap) or bumped(current) > cap):
        return None
    return cap if bumped(want) > cap else want
