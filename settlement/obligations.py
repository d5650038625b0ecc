"""Transactions as persistent obligations: the pure core of sending (`sender` is its shell).

An obligation is a call that must get onto the chain: within a budget, before a deadline if there is one, through
crashes, reorganisations, congestion and refusals. Rules:

1. A nonce is bound to an obligation for good, and stored before anything is signed under it. Under one nonce only
   that obligation's call is ever signed (again, with a higher fee) or, if chain nodes refuse the call itself, a
   transfer of nothing to oneself that uses the nonce up.
2. An obligation leaves its nonce only when the chain shows, `confirmations` deep, that the nonce is used up: by its
   own failed transaction (then it may try again), or by another program's (then it takes a new one).
3. It is done when its receipt is `confirmations` deep, and is watched until it is `resting_depth` deep: if its block
   goes away before, it is sent again.
4. Nothing is deleted on an error. A refusal or failure means: try again, superseded (the aim was reached or is moot),
   or quarantine, with an alarm.
5. A nonce can only be mined after all lower ones. So an obligation offers at least what the most urgent one behind
   it offers, even beyond its own budget.

    WAITING ──bind──▶ SENT ──receipt, deep enough──▶ DONE
       ▲  ▲             │
       │  └─ try again ─┤ failed, or nonce used by another program
       │                └──────────▶ SUPERSEDED, QUARANTINED (also straight from WAITING)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import msgspec

from tallystick.channels.alarms import Alarm, AlarmKind
from tallystick.channels.arguments import Options
from tallystick.channels.keys import keccak
from tallystick.channels.objects import NATIVE, Address, ChannelId
from tallystick.settlement.chain import Call, DepositCall, Header, OpenCall, Receipt, TransferCall
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.fees import bumped, curve, next_price

OBLIGATIONS_MAX = 10_000
"""Obligations not at rest that one account may have."""

ATTEMPTS_MAX = 48
"""Transactions signed under one nonce: 48 bumps raise a fee by a factor beyond 40,000."""

GAPS_MAX = 16
"""Unheld nonces used up at a time."""

BUDGET_SHORT = "what is left of its budget is below the market's fees"

Gas: TypeAlias = Callable[[Call], int]
"""Returns how much gas a call is charged for at most."""


class Status(enum.IntEnum):
    """Where an obligation stands. The numbers are part of the disk format."""

    WAITING = 1
    SENT = 2
    DONE = 3
    SUPERSEDED = 4
    QUARANTINED = 5


FINAL = frozenset({Status.DONE, Status.SUPERSEDED, Status.QUARANTINED})


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One transaction under the obligation's nonce. The hash is empty until it is signed: then it was never sent."""

    price: int
    filler: bool = False
    """It is the transfer of nothing that uses the nonce up, not the call."""
    hash: bytes = b""
    raw: bytes = b""
    """The signed transaction, kept of the newest attempt only: it is sent again byte for byte."""


class Obligation(msgspec.Struct, frozen=True, kw_only=True):
    """A call that must get onto the chain. Callers give the first seven fields; the rest is this module's."""

    id: str
    """The caller's name for it: whoever requires it again under that name adds nothing."""
    call: Call
    purpose: str
    """What it is for, in words: for alarms and for people."""
    budget: int
    """The most to pay in fees, over all tries, in the native coin."""
    channel: ChannelId | None = None
    deadline: int | None = None
    """The last block time (chain time) at which it still helps; None if it always does."""
    not_before: int = 0
    """It is not sent before the head's time has reached this."""
    status: Status = Status.WAITING
    reason: str = ""
    """Why it is superseded or quarantined."""
    trouble: str = ""
    """What stands in its way at the moment; an alarm was given when this was set."""
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    filler: bool = False
    """Chain nodes refuse the call itself, so its nonce is used up by a transfer of nothing."""
    floor: int = 0
    """Chain nodes ask for at least this price."""
    first_block: int | None = None
    first_time: int | None = None
    """The head when it was first looked at and could be sent: where its fee curve starts."""
    receipt: Receipt | None = None
    missing_since: int | None = None
    """Block number since when the nonce is used up without a receipt of ours."""
    tries: int = 0
    spent: int = 0
    """Fees paid for tries that failed."""
    resting: bool = False
    """Nothing more can happen to it."""

    @property
    def fee_price(self) -> int:
        """What its newest transaction offers, 0 if there is none."""
        return self.attempts[-1].price if self.attempts else 0


class Policy(Options, frozen=True, kw_only=True):
    """How an account sends."""

    confirmations: int = 3
    """Depth (1: in the head block) at which a receipt counts."""
    resting_depth: int = 128
    """Depth at which nothing is expected to change any more."""
    patience: int = 50
    """The window, in blocks, of an obligation without a deadline."""
    in_flight: int = 16
    """Nonces bound and not mined; chain nodes drop what is too far ahead."""
    tries: int = 5
    """Times that a call may fail or be refused as malformed before it is quarantined."""


class Book(msgspec.Struct, frozen=True):
    """One account's obligations that are not at rest, by id, in the order they were required."""

    obligations: Mapping[str, Obligation]
    highest_nonce: int
    """The highest nonce that was ever bound, -1 if none was."""

    def with_(self, *changed: Obligation) -> Book:
        """Return the book with these obligations in it, in their newest version."""
        highest = max([self.highest_nonce, *(o.nonce for o in changed if o.nonce is not None)])
        merged = {**self.obligations, **{o.id: o for o in changed}}
        return Book({key: o for key, o in merged.items() if not o.resting}, highest)


def book_of(obligations: Iterable[Obligation], highest_nonce: int = -1) -> Book:
    """Return a book of these obligations."""
    return Book({}, highest_nonce).with_(*obligations)


class Observation(msgspec.Struct, frozen=True):
    """What the chain says at one head."""

    head: Header
    nonce: int
    """The account's next nonce to be mined."""
    market: int
    """The fee price at which transactions are mined soon."""
    receipts: Mapping[bytes, Receipt]
    """Of the account's transactions that are on the best branch, by their hash."""


class Round(msgspec.Struct, frozen=True):
    """What one look at the chain leads to, in this order: store `changed`, sign and send `send`, raise `alarms`."""

    book: Book
    changed: tuple[Obligation, ...]
    send: tuple[str, ...]
    """Ids in order of nonce; of each, the newest attempt is to be sent (again)."""
    alarms: tuple[Alarm, ...]


Verdict: TypeAlias = Status
"""WAITING (try again), SUPERSEDED or QUARANTINED."""

Judge: TypeAlias = Callable[[Obligation, str], Verdict | None]
"""A caller's own opinion on a failed receipt's reason; None leaves it to `judge_failure`."""

_MOOT = frozenset({Revert.NOT_NEWER, Revert.ALREADY_REGISTERED, Revert.WRONG_STATUS, Revert.NOTHING_TO_REDEEM})
_TRANSIENT = frozenset(
    {Revert.WINDOW_OPEN, Revert.UNKNOWN_CHANNEL, Revert.INSUFFICIENT_BALANCE, Revert.INSUFFICIENT_ALLOWANCE}
)


def judge_failure(reason: str) -> Verdict:
    """Return what a failed receipt's reason means where the caller has no opinion of its own."""
    code = reason.partition(":")[0]
    if code in _MOOT:
        return Status.SUPERSEDED
    return Status.WAITING if code in _TRANSIENT else Status.QUARANTINED


_S = TypeVar("_S", bound=msgspec.Struct)


def _change(struct: _S, **fields: object) -> _S:
    return msgspec.structs.replace(struct, **fields)


def finish(obligation: Obligation, status: Status, reason: str) -> Obligation:
    """Return it superseded or quarantined. If it has a nonce, that must still be used up."""
    return _change(obligation, status=status, reason=reason)


def _rest(obligation: Obligation) -> Obligation:
    return _change(obligation, resting=True, attempts=_without_raw(obligation.attempts))


def _without_raw(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(_change(attempt, raw=b"") if attempt.raw else attempt for attempt in attempts)


def _release(obligation: Obligation, *, tried: bool, fee: int) -> Obligation:
    """Return it without its nonce, which is used up: it waits for a new one."""
    return _change(
        obligation,
        status=Status.WAITING,
        nonce=None,
        attempts=(),
        floor=0,
        receipt=None,
        missing_since=None,
        tries=obligation.tries + tried,
        spent=obligation.spent + fee,
    )


def _on_receipt(
    obligation: Obligation, attempt: Attempt, seen: Observation, policy: Policy, judge: Judge
) -> Obligation:
    receipt = seen.receipts[attempt.hash]
    depth = seen.head.number - receipt.block.number + 1
    obligation = _change(obligation, receipt=receipt, missing_since=None)
    if depth >= policy.confirmations:
        quarantined_too_early = obligation.status is Status.QUARANTINED and not attempt.filler
        if receipt.success and (obligation.status is Status.SENT or quarantined_too_early):
            obligation = _change(obligation, status=Status.DONE, trouble="", reason="")
        elif obligation.status is Status.SENT:
            verdict = judge(obligation, receipt.reason) or judge_failure(receipt.reason)
            if verdict is Status.WAITING and obligation.tries + 1 < policy.tries:
                return _release(obligation, tried=True, fee=receipt.fee)
            final = Status.SUPERSEDED if verdict is Status.SUPERSEDED else Status.QUARANTINED
            obligation = finish(obligation, final, receipt.reason)
    if obligation.status in FINAL and depth >= policy.resting_depth:
        return _rest(obligation)
    return obligation


def _without_receipt(obligation: Obligation, seen: Observation, policy: Policy) -> Obligation:
    if obligation.receipt is not None:
        status = Status.SENT if obligation.status is Status.DONE else obligation.status
        obligation = _change(obligation, receipt=None, status=status)
    if obligation.nonce is None or obligation.nonce >= seen.nonce:
        return _change(obligation, missing_since=None) if obligation.missing_since is not None else obligation
    since = seen.head.number if obligation.missing_since is None else min(obligation.missing_since, seen.head.number)
    if seen.head.number - since < policy.confirmations:
        return _change(obligation, missing_since=since)
    if obligation.status is Status.SENT and not obligation.filler:
        return _release(obligation, tried=False, fee=0)
    if obligation.status is Status.SENT:
        obligation = finish(obligation, Status.SUPERSEDED, "its nonce is used up")
    return _rest(_change(obligation, missing_since=since))


def _observe(obligation: Obligation, seen: Observation, policy: Policy, judge: Judge) -> Obligation:
    """Return the obligation in the light of what the chain says."""
    if obligation.first_block is None and obligation.not_before <= seen.head.time:
        obligation = _change(obligation, first_block=seen.head.number, first_time=seen.head.time)
    for attempt in obligation.attempts:
        if attempt.hash in seen.receipts:
            return _on_receipt(obligation, attempt, seen, policy, judge)
    obligation = _without_receipt(obligation, seen, policy)
    late = obligation.deadline is not None and seen.head.time > obligation.deadline
    if late and obligation.status not in FINAL:
        reason = f"{Revert.EXPIRED}: not on the chain by its deadline {obligation.deadline}"
        obligation = finish(obligation, judge(obligation, reason) or Status.QUARANTINED, reason)
    return _rest(obligation) if obligation.status in FINAL and obligation.nonce is None else obligation


def _alarm(before: Obligation, after: Obligation) -> Alarm | None:
    """Return the alarm that a change calls for."""
    name = f"{after.purpose} ({after.id})"
    if after.status is Status.QUARANTINED and before.status is not Status.QUARANTINED:
        return Alarm(AlarmKind.TRANSACTION_GIVEN_UP, f"{name} is quarantined: {after.reason}; see to it by hand")
    if before.status is Status.DONE and after.status is Status.SENT:
        text = f"{name} was done, but its block left the chain in an unusually deep reorganisation; it is sent again"
        return Alarm(AlarmKind.TRANSACTION_UNDONE, text)
    if before.nonce not in (None, after.nonce) and after.tries == before.tries:
        text = f"nonce {before.nonce} of {name} was used by another program; give this key to one program only"
        return Alarm(AlarmKind.NONCE_TAKEN, text)
    if after.trouble and after.trouble != before.trouble:
        return Alarm(AlarmKind.TRANSACTION_HELD_UP, f"{name} is held up: {after.trouble}")
    return None


def _gap(obligation: Obligation, seen: Observation, policy: Policy) -> bool:
    """Whether it fills a gap that another program's transaction, which left the chain, may still fill by itself."""
    start = obligation.first_block or 0
    young = seen.head.number - start < policy.confirmations
    return obligation.filler and obligation.status is Status.SENT and young


def _unmined(obligation: Obligation, seen: Observation) -> bool:
    return obligation.nonce is not None and obligation.nonce >= seen.nonce and obligation.receipt is None


def _fillers(book: Book, seen: Observation, account: Address, gas: Gas) -> list[Obligation]:
    """Return obligations for nonces below the highest bound that no one holds any more (after a very deep reorg)."""
    held = {o.nonce for o in book.obligations.values()}
    call = TransferCall(NATIVE, account, 0)
    gaps = [n for n in range(seen.nonce, min(book.highest_nonce, seen.nonce + GAPS_MAX) + 1) if n not in held]
    return [
        Obligation(
            id=f"filler:{nonce}:{seen.head.hash.hex()[:16]}",
            call=call,
            purpose=f"use up nonce {nonce}, whose transaction left the chain",
            budget=10 * bumped(seen.market) * gas(call),
            status=Status.SENT,
            nonce=nonce,
            filler=True,
            first_block=seen.head.number,
            first_time=seen.head.time,
        )
        for nonce in gaps
    ]


def _bind(book: Book, seen: Observation, policy: Policy) -> list[Obligation]:
    """Return obligations that get their nonce now: the most urgent first, as many as may be in flight."""
    room = policy.in_flight - sum(_unmined(o, seen) for o in book.obligations.values())
    due = [o for o in book.obligations.values() if o.status is Status.WAITING and o.not_before <= seen.head.time]
    due.sort(key=lambda o: (o.deadline is None, o.deadline))
    first = max(seen.nonce, book.highest_nonce + 1)
    return [_change(o, status=Status.SENT, nonce=first + i) for i, o in enumerate(due[: max(0, room)])]


def cap_of(obligation: Obligation, gas: Gas) -> int:
    """Return the highest price per gas that what is left of the budget allows."""
    return max(0, obligation.budget - obligation.spent) // gas(obligation.call)


def _want(obligation: Obligation, seen: Observation, gas: Gas, policy: Policy) -> int:
    """Return what its own fee curve asks for now."""
    head, cap = seen.head, cap_of(obligation, gas)
    if obligation.status in FINAL:
        return min(max(seen.market, obligation.floor), cap)
    if obligation.deadline is not None and obligation.first_time is not None:
        window, elapsed = obligation.deadline - obligation.first_time, head.time - obligation.first_time
    else:
        start = head.number if obligation.first_block is None else obligation.first_block
        window, elapsed = policy.patience, head.number - start
    return max(curve(seen.market, cap, elapsed, window), min(obligation.floor, cap))


def _offer(obligation: Obligation, want: int, cap: int, market: int) -> Obligation:
    """Return it with a further attempt, if one at that price is called for."""
    attempts = obligation.attempts
    current = attempts[-1].price if attempts else None
    if obligation.filler and (current is None or not attempts[-1].filler):
        price: int | None = max(want, market, 0 if current is None else bumped(current))
    else:
        price = next_price(current, want, cap)
    if price is None or len(attempts) >= ATTEMPTS_MAX:
        return obligation
    return _change(obligation, attempts=(*_without_raw(attempts), Attempt(price, obligation.filler)))


def _price(book: Book, seen: Observation, gas: Gas, policy: Policy) -> list[Obligation]:
    """Return the unmined obligations in order of nonce, each offering what it, or one behind it, needs."""
    pending = sorted((o for o in book.obligations.values() if _unmined(o, seen)), key=lambda o: o.nonce or 0)
    pending = [o for o in pending if not _gap(o, seen, policy)]
    priced: list[Obligation] = []
    urgent = 0
    for obligation in reversed(pending):
        cap = cap_of(obligation, gas)
        urgent = max(urgent, _want(obligation, seen, gas, policy))
        offered = _offer(obligation, urgent, max(cap, urgent), seen.market)
        short = cap < seen.market and obligation.status is Status.SENT
        if short and not offered.trouble:
            offered = _change(offered, trouble=BUDGET_SHORT)
        elif not short and offered.trouble == BUDGET_SHORT:
            offered = _change(offered, trouble="")
        priced.append(offered)
    return priced[::-1]


def no_opinion(obligation: Obligation, reason: str) -> None:
    """Leave every failed receipt to `judge_failure`."""


def decide(
    book: Book, seen: Observation, *, account: Address, gas: Gas, policy: Policy, judge: Judge = no_opinion
) -> Round:
    """Return what the account has to do at this head. Pure: the same book and observation give the same round."""
    before = book
    book = book.with_(*(_observe(o, seen, policy, judge) for o in book.obligations.values()))
    resting = [key for key in before.obligations if key not in book.obligations]
    book = book.with_(*_fillers(book, seen, account, gas))
    book = book.with_(*_bind(book, seen, policy))
    priced = _price(book, seen, gas, policy)
    book = book.with_(*priced)
    after = dict(book.obligations)
    for key in resting:
        after[key] = _observe(before.obligations[key], seen, policy, judge)
    changed = tuple(o for key, o in after.items() if before.obligations.get(key) != o)
    alarms = (_alarm(before.obligations[o.id], o) for o in changed if o.id in before.obligations)
    send = tuple(o.id for o in priced if o.attempts)
    return Round(book, changed, send, tuple(alarm for alarm in alarms if alarm))


def _carries_coins(call: Call) -> bool:
    """Whether a call moves coins besides its fee: if they are not there, it must not hold up what waits behind it."""
    match call:
        case OpenCall(terms, deposit):
            return deposit > 0 and terms.asset == NATIVE
        case DepositCall(asset=asset, amount=amount) | TransferCall(asset=asset, amount=amount):
            return amount > 0 and asset == NATIVE
        case _:
            return False


def refuse(obligation: Obligation, code: Refusal | None, text: str, policy: Policy) -> tuple[Obligation, Alarm | None]:
    """Return the obligation after a chain node refused its newest attempt, and an alarm if that is news.

    `code` None stands for an answer that makes no sense: it is retried for ever, and nothing is concluded from it.
    """
    after = obligation
    match code:
        case Refusal.NONCE_TOO_LOW | Refusal.NONCE_TOO_HIGH | Refusal.ALREADY_KNOWN:
            pass  # the next look at the chain shows which nonces are used up, and predecessors are sent first
        case Refusal.UNDERPRICED | Refusal.MEMPOOL_FULL:
            after = _change(after, floor=bumped(after.fee_price), trouble=f"{code}: chain nodes ask for higher fees")
        case _ if code is Refusal.MALFORMED or (code is Refusal.INSUFFICIENT_FUNDS and _carries_coins(after.call)):
            after = _change(after, tries=after.tries + 1, trouble=text)
            if after.tries >= policy.tries and after.status is Status.SENT:
                after = _change(finish(after, Status.QUARANTINED, text), filler=True)
        case _:
            after = _change(after, trouble=text)
    return after, _alarm(obligation, after)


def accepted(obligation: Obligation) -> Obligation:
    """Return the obligation after a chain node took its newest attempt: nothing stands in its way."""
    return _change(obligation, trouble="") if obligation.trouble not in ("", BUDGET_SHORT) else obligation


def signed(obligation: Obligation, raw: bytes) -> Obligation:
    """Return the obligation with its newest attempt signed, before that is sent."""
    *older, newest = obligation.attempts
    return _change(obligation, attempts=(*older, _change(newest, raw=raw, hash=keccak(raw))))
