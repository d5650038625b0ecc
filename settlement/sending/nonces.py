"""Which nonces an account may use, from what chain nodes claim over several heads. Pure.

A claim may be wrong both ways: too high (then what is bound there waits for ever behind a gap), or too low (a back end
that lags). So:

- A nonce beyond those that we know is used only once the claim has held over several heads in a row: over `HELD`
  times as many if it is far, or for a call that pays. A first claim, of an account of which nothing is known, is taken
  over fewer.
- A nonce that was bound counts as free again only if for as many heads nobody claimed that it is used, and nobody
  holds it. Then what is bound above moves down, which costs nothing; only below a call that pays, which must not be
  signed under a second nonce, are the gaps filled by transfers of nothing: few at a time, for little each.
- A call that pays and is too far ahead for that is told to a person, and holds nothing up: once the account has come
  to its nonce, that is a gap like others. What was signed under it may be mined in the end; then it is used up, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.sending.obligations import (
    Duty,
    Gas,
    Look,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    bumped,
    change,
)
from tallystick.settlement.sending.policy import LOOKS_KEPT, SendingPolicy

GAPS_MAX = 16
"""How many nonces may be unheld below one that is bound: so many are filled at a time."""

AGAIN_MOST = 128
"""Blocks for which a call pauses at most: what is to wait for longer was told so by a head that was none."""

HELD = 4
"""So many times as long as for a receipt does a claim have to hold to be taken where being wrong would cost much."""

FAR = "its nonce {} is far ahead of the account's, by a wrong word of the chain node: it is not sent under another one"


class Freed(msgspec.Struct, frozen=True):
    """What follows from nonces that turned out to be free."""

    book: ObligationBook
    gaps: tuple[int, ...] = ()
    """To be filled: a call that pays waits behind them."""
    lowered: int | None = None
    """The new highest nonce, if it fell."""


def look(book: ObligationBook, seen: Observation) -> ObligationBook:
    """Return the book that remembers what the chain says at this head."""
    number, low, high, market = seen.head.number, seen.nonce, seen.nonce, seen.market
    for earlier in book.looks:
        if earlier.number == number:
            low, high, market = min(low, earlier.low), max(high, earlier.high), min(market, earlier.market)
    kept = [earlier for earlier in book.looks if earlier.number < number][1 - LOOKS_KEPT :]
    looks = (*kept, Look(number, seen.head.time, low, high, market))
    return ObligationBook(book.obligations, book.highest_nonce, looks)


def next_free(book: ObligationBook, seen: Observation, policy: SendingPolicy, *, careful: bool) -> int | None:
    """Return from where on nonces may be bound; None while the chain claims one that cannot be believed yet."""
    known = book.highest_nonce + 1
    if seen.nonce <= known:
        return known
    heads = policy.heads + 1
    if book.highest_nonce >= 0 and (careful or seen.nonce - known > GAPS_MAX):
        heads = min(HELD * heads, LOOKS_KEPT)
    recent = book.looks[-heads:]
    least = min(each.low for each in recent)
    return least if len(recent) == heads and least > known else None


def due_now(book: ObligationBook, seen: Observation, now: int, policy: SendingPolicy) -> list[Obligation]:
    """Return what may get a nonce now."""
    return [o for o in book.obligations.values() if _is_due(o, seen, now, policy)]


def bind(
    book: ObligationBook,
    seen: Observation,
    policy: SendingPolicy,
    due: list[Obligation],
    pays_the_way: Callable[[Obligation], bool],
) -> list[Obligation]:
    """Return those of what is due that get their nonce now: the most urgent first, as many as may be in flight.

    As many more may if each of them `pays_the_way` for all before it: what cannot be mined must not keep it out.
    """
    room = policy.in_flight - sum(o.is_unmined(seen.nonce) for o in book.obligations.values())
    due = sorted(due, key=lambda o: (o.deadline is None, o.deadline))
    room, more = max(0, room), policy.in_flight + min(0, room)
    due = due[:room] + [o for o in due[room:] if pays_the_way(o)][: max(0, more)]
    given_up = {o.nonce for o in book.obligations.values() if o.far}  # free, but for a call that must keep its nonce
    held = {o.nonce for o in book.obligations.values() if not o.far}
    held |= {past.nonce for o in book.obligations.values() for past in o.past}  # may still be mined
    found: list[Obligation] = []
    for obligation in due:
        first = next_free(book, seen, policy, careful=obligation.pays)
        if first is None or (obligation.pays and _is_behind_gap(first, held | given_up, seen)):
            continue
        taken = held | given_up if obligation.pays else held
        nonce = next(n for n in itertools.count(first) if n not in taken)
        held.add(nonce)
        found.append(change(obligation, status=ObligationStatus.SENT, nonce=nonce))
    return found


def _is_behind_gap(nonce: int, held: Container[int | None], seen: Observation) -> bool:
    """Whether, by what the chain says now, a lower nonce is free that nobody holds."""
    return nonce - seen.nonce > LOOKS_KEPT + GAPS_MAX or any(n not in held for n in range(seen.nonce, nonce))


def _is_due(obligation: Obligation, seen: Observation, now: int, policy: SendingPolicy) -> bool:
    return (
        obligation.status is ObligationStatus.WAITING
        and obligation.not_before <= now
        and not 0 < obligation.again_at - seen.head.number <= AGAIN_MOST * policy.pace
        and (obligation.deadline is None or now <= obligation.deadline)
    )


def free(book: ObligationBook, seen: Observation, policy: SendingPolicy) -> Freed:
    """Return the book in which nonces that nobody holds, and that are free, have no nonce of ours above them."""
    recent = book.looks[-policy.heads - 1 :]
    base = max(each.high for each in recent)
    if len(recent) <= policy.heads or base > book.highest_nonce:
        return Freed(book)
    above = sorted((o for o in book.obligations.values() if o.is_unmined(base)), key=lambda o: o.nonce or 0)
    held = {o.nonce for o in book.obligations.values() if not o.far}
    gaps: list[int] = []
    changed: list[Obligation] = []
    top = base  # below it, every nonce is held, or is a gap that will be filled
    for fixed in (o for o in above if _is_fixed(o)):
        nonce = fixed.nonce or 0
        missing = list(itertools.islice((n for n in range(top, nonce) if n not in held), GAPS_MAX + 1))
        if len(gaps) + len(missing) > GAPS_MAX:
            reason = FAR.format(nonce)
            changed.append(change(fixed.finish(ObligationStatus.QUARANTINED, reason), far=True))
            continue
        gaps += missing
        top = nonce + 1
    far = {o.id for o in changed}
    first = next(n for n in itertools.count(top) if n not in held)
    moved = [o for o in above if (o.nonce or 0) > first and o.id not in far]
    changed += [_moved(o) for o in moved]
    if first > book.highest_nonce:  # there is no gap but those to be filled
        return Freed(book.with_(*changed), tuple(gaps))
    lowered = ObligationBook({**book.obligations, **{o.id: o for o in changed}}, first - 1, book.looks)
    return Freed(lowered, tuple(gaps), first - 1)


def _is_fixed(obligation: Obligation) -> bool:
    """Whether it must not be signed under a second nonce."""
    return obligation.pays and any(attempt.hash for attempt in obligation.attempts)


def _moved(obligation: Obligation) -> Obligation:
    left = obligation.without_nonce()
    if obligation.duty is not Duty.USE_NONCE:
        return left
    return left.finish(ObligationStatus.SUPERSEDED, "the nonce is needed no more")


def fillers(
    book: ObligationBook, gaps: tuple[int, ...], seen: Observation, account: Address, gas: Gas, policy: SendingPolicy
) -> ObligationBook:
    """Return the book with obligations that use up these nonces, few at a time."""
    open_now = sum(o.duty is Duty.USE_NONCE and not o.is_final for o in book.obligations.values())
    call = TransferCall(NATIVE, account, 0)
    return book.with_(
        *(
            Obligation(
                id=f"{Duty.USE_NONCE}:{nonce}:{seen.head.hash.hex()[:16]}",
                duty=Duty.USE_NONCE,
                call=call,
                purpose=f"use up nonce {nonce}, whose transaction left the chain",
                budget=min(10 * bumped(seen.market) * gas(call), policy.filler_budget),
                status=ObligationStatus.SENT,
                nonce=nonce,
                filler=True,
                first_block=seen.head.number,
                first_time=seen.head.time,
            )
            for nonce in gaps[: max(0, GAPS_MAX - open_now)]
        )
    )


def stalled_from(book: ObligationBook, nonce: int) -> float:
    """Return from which nonce on nothing can be mined now, as its transaction, or an earlier one, gets nowhere."""
    stalled: Iterator[float] = (o.nonce or 0 for o in book.obligations.values() if o.stalled and o.is_unmined(nonce))
    return min(stalled, default=float("inf"))
