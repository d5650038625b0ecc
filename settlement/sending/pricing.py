"""What each transaction under way should offer now: fees that rise along a curve and reach the budget in time. Pure.

Fee prices are in the native coin's smallest unit per unit of gas, and integers throughout. A transaction starts at
the market's price; as its window passes, its offer rises with the square of the time waited, and reaches what its
budget allows when 60 % of the window is over. Without a deadline, blocks waited take the place of time.

The market's price is the median of what was claimed at the last heads. The curve counts only the time in which the
transaction could have been mined: not while the account is empty, the chain node down, or this program asleep.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.port import Charge
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
    bumped,
    change,
    without_raw,
)
from tallystick.settlement.sending.policy import SendingPolicy

PRICES = 5
"""Heads whose claims the market's price is the median of."""

FULL_AT = (6, 10)
"""The part of the window after which the whole budget is offered."""

BLOCK_SECONDS_MAX = 60
"""Seconds that a block is believed to have taken at most."""


USES_NONCE = TransferCall(NATIVE, NATIVE, 0)
"""Whatever it goes to, a transfer of nothing takes as much."""


def market_of(book: ObligationBook) -> int:
    """Return the market's price by the last looks, of which there is one at least."""
    return statistics.median_low(each.market for each in book.looks[-PRICES:])


def time_now(book: ObligationBook, seen: Observation, policy: SendingPolicy) -> int:
    """Return the chain's time, as far as the word of one head is taken for it."""
    now = min(seen.head.time, seen.confirmed + int(policy.ahead))
    earlier = [each for each in book.looks if each.number < seen.head.number]
    if earlier:
        now = min(now, earlier[-1].time + BLOCK_SECONDS_MAX * (seen.head.number - earlier[-1].number))
    return now


def charge_of(obligation: Obligation, seen: Observation, gas: Gas) -> Charge:
    """Return what a transaction of it is given: as the chain says now, as the last one was, or by the table.

    What it may need at worst is given where the budget pays for that at the market's price, else what does as a rule.
    """
    said = seen.charges.get(obligation.id)
    if said is not None and said.least:
        short = cap_of(obligation, said) < seen.market
        said = Charge(said.least if short else said.gas, said.data)
    last = obligation.attempts[-1] if obligation.attempts else None
    if said is None and last is not None and last.filler == obligation.filler:
        said = last.charge
    return said or Charge(gas(USES_NONCE if obligation.filler else obligation.call))


def cap_of(obligation: Obligation, charge: Charge) -> int:
    """Return the highest price per gas that what is left of the budget allows."""
    return max(0, obligation.budget - obligation.spent - charge.data) // max(1, charge.gas)


def _lacking(obligation: Obligation, charge: Charge, at: int) -> int:
    """Return what its budget lacks for it to offer `at`."""
    lacks_data = max(0, charge.data - max(0, obligation.budget - obligation.spent))
    return charge.gas * max(0, at - cap_of(obligation, charge)) + lacks_data


def price(book: ObligationBook, seen: Observation, gas: Gas, policy: SendingPolicy) -> list[Obligation]:
    """Return the unmined obligations in order of nonce, each offering what it, or one behind it, needs."""
    pending = sorted((o for o in book.obligations.values() if o.is_unmined(seen.nonce)), key=lambda o: o.nonce or 0)
    pending = [o for o in pending if not _is_young_gap(o, seen, policy)]
    charges = [charge_of(o, seen, gas) for o in pending]
    limits = [_limit(pending[: i + 1], charges[: i + 1]) for i in range(len(pending))]
    stalled = stalled_from(book, seen.nonce)
    priced: list[Obligation] = []
    urgent = highest = 0
    now = time_now(book, seen, policy)
    for obligation, charge, limit in zip(reversed(pending), reversed(charges), reversed(limits), strict=True):
        cap = cap_of(obligation, charge)
        urgent = max(urgent, min(_want(obligation, seen, now, cap, policy), limit))
        highest = max(highest, limit)
        offered = obligation
        if _is_first(obligation) or (obligation.nonce or 0) < stalled:
            offered = _offer(obligation, charge, urgent, highest, seen.market)
        short = cap < seen.market and obligation.status is ObligationStatus.SENT
        if short and not offered.trouble:
            offered = change(offered, trouble=BUDGET_SHORT)
        elif not short and offered.trouble == BUDGET_SHORT:
            offered = change(offered, trouble="")
        priced.append(offered)
    return priced[::-1]


def way_of(book: ObligationBook, seen: Observation, gas: Gas) -> Callable[[Obligation], bool]:
    """Return what says whether an obligation can pay for itself and all under way to be mined at the market's price."""
    ahead = [o for o in book.obligations.values() if o.is_unmined(seen.nonce)]
    lacking = sum(_lacking(o, charge_of(o, seen, gas), seen.market) for o in ahead)

    def pays_the_way(obligation: Obligation) -> bool:
        charge = charge_of(obligation, seen, gas)
        return obligation.budget - obligation.spent >= charge.gas * seen.market + charge.data + lacking

    return pays_the_way


def _is_young_gap(obligation: Obligation, seen: Observation, policy: SendingPolicy) -> bool:
    """Whether it fills a gap that another program's transaction, which left the chain, may still fill by itself."""
    start = obligation.first_block or 0
    young = seen.head.number - start < policy.confirmations
    return obligation.filler and obligation.status is ObligationStatus.SENT and young


def _is_first(obligation: Obligation) -> bool:
    """Whether nothing was offered yet for what is to be sent under its nonce: its call, or what uses the nonce up."""
    return not obligation.attempts or (obligation.filler and not obligation.attempts[-1].filler)


def _want(obligation: Obligation, seen: Observation, now: int, cap: int, policy: SendingPolicy) -> int:
    """Return what its own fee curve asks for now."""
    if obligation.is_final or (obligation.deadline is not None and now > obligation.deadline):
        return min(max(seen.market, obligation.floor), cap)
    if obligation.deadline is not None:
        elapsed = obligation.waited_time
        window = elapsed + obligation.deadline - now
    else:
        elapsed, window = obligation.waited_blocks, policy.patience
    return max(curve(seen.market, cap, elapsed, window), min(obligation.floor, cap))


def _limit(pending: Sequence[Obligation], charges: Sequence[Charge]) -> int:
    """Return the highest offer at which the last one can pay what those ahead of it lack to offer as much."""
    *ahead, (obligation, charge) = zip(pending, charges, strict=True)
    own = max(0, obligation.budget - obligation.spent - charge.data)

    def cost(at: int) -> int:
        return charge.gas * at + sum(_lacking(other, of, at) for other, of in ahead)

    low, high = 0, cap_of(obligation, charge)
    if cost(high) <= own:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= own else (low, middle - 1)
    return low


def _offer(obligation: Obligation, charge: Charge, want: int, cap: int, market: int) -> Obligation:
    """Return it with a further attempt, if one at that price is called for."""
    attempts = obligation.attempts
    current = attempts[-1].price if attempts else None
    if attempts and _is_first(obligation):
        offer: int | None = max(want, min(market, cap), bumped(attempts[-1].price))
    else:
        offer = next_price(current, want, cap)
    if offer is None or len(attempts) >= ATTEMPTS_MAX:
        return obligation
    offered = Attempt(offer, obligation.filler, gas=charge.gas, data=charge.data)
    return change(obligation, attempts=(*without_raw(attempts), offered))


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
