"""The shell around `obligations`: looks at the chain on each new head, stores, signs, sends, and tells who waits.

The way of a transaction: decide (pure) → commit its nonce and price → sign → commit its hash → hand it to the chain.
A crash between any two of these leaves an obligation that the next start carries on with. Trouble with the chain
never ends the sender: it waits, raises an alarm if it is news, and tries again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.settlement.chain import Call, Header, SignedCall, TransactionReceipt, TransferCall
from tallystick.settlement.errors import (
    ChainError,
    ChainUnavailable,
    ReceiptUntold,
    Refusal,
    TransactionRefused,
    WrongChain,
)
from tallystick.settlement.port import Chain, Charge
from tallystick.settlement.sending.figures import FeesPaid, SenderStatistics
from tallystick.settlement.sending.judging import Hold, Judge, due_again, may_try_again
from tallystick.settlement.sending.moments import NoncesLowered, ObligationStored, read_book, read_obligation
from tallystick.settlement.sending.obligations import (
    FINAL,
    OBLIGATIONS_MAX,
    TRIES_MAX,
    Gas,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    SendingRound,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.rounds import decide

CHAIN_AGAIN = Pauses("sending to the chain node", 0.5, 4.0)
"""At most a share of what a deadline leaves (`DutyPolicy.secret_margin`): each look takes several answers."""

HEARD_SECONDS = 60.0
"""So long after a head the chain node counts as heard: of one that is silent, who follows it tells."""

TOLD_SECONDS = 60.0
"""For so long it has not answered what sending takes until that is told."""

Commit: TypeAlias = Callable[[Sequence[Moment]], Awaitable[None]]
"""Makes moments durable, in the order of the calls (a `Writer.commit`)."""

Sign: TypeAlias = Callable[[PrivateKey, Call, int, int, int, int], Awaitable[SignedCall]]
"""Signs a call as `Chain.sign` does."""


@dataclass(kw_only=True, eq=False, repr=False)
class Sender:
    """Gets one account's obligations onto the chain. One `Sender` per key; run `run` in a nursery."""

    key: PrivateKey
    chain: Chain
    store: Store
    commit: Commit
    alarm: OnAlarm
    """Is told what a person should know."""
    jitter: Jitter
    sign: Sign | None = None
    """None: the chain signs."""
    gas: Gas | None = None
    """What calls are charged for; None: what the chain says."""
    policy: SendingPolicy = field(default_factory=SendingPolicy)
    judge: Judge = lambda obligation, revert: None
    hold: Hold = lambda obligation, now: False
    """Is asked at each head; who changes their mind in between calls `look_again`."""

    def __post_init__(self) -> None:
        self.account = self.key.address
        self._gas: Gas = self.gas or self.chain.figures.tariff.gas
        self._book = read_book(self.store, self.chain.chain_id, self.account)
        self._wake = trio.Event()
        self._told = trio.Event()
        self._counts = dict.fromkeys(FINAL, 0)
        self._newest: int | None = None
        """Number of the head as it was last told."""
        self._submitted = 0
        self._faults = 0
        known = self._book.obligations.values()
        self._fees = FeesPaid(0, frozenset(o.receipt.transaction for o in known if o.is_final and o.receipt))
        self._heard: float | None = None
        """When a head was told last."""
        self._unanswered: float | None = None
        """Since when the chain node has not answered what sending takes; None: it did."""
        self._trouble = ""
        """What was told of that."""
        self._untold: ReceiptUntold | None = None
        """Raised by the last look for a receipt; it holds nothing else up."""

    # --- what callers use -----------------------------------------------------------------------------------

    def require(self, obligation: Obligation) -> tuple[Moment, ...]:
        """Take an obligation on; return the moments that the caller commits with its own change.

        They must be handed to the same writer before the next `await`, so that they are durable before anything
        that is done about the obligation. Nothing is returned if an obligation of that id was ever taken on.
        Raise InvalidInput if there are too many, or if the obligation is not a new one.
        """
        if self.find(obligation.id) is not None:
            return ()
        if obligation.status is not ObligationStatus.WAITING or obligation.nonce is not None or obligation.budget <= 0:
            raise InvalidInput("a new obligation has a budget above zero, no nonce and the status WAITING")
        if len(self._book.obligations) >= OBLIGATIONS_MAX:
            raise InvalidInput(f"{OBLIGATIONS_MAX} transactions are waiting already; try again when some are done")
        return self._put(obligation)

    def pursue(self, duty: Obligation, head: int) -> tuple[Moment, ...]:
        """Take on what is due at block `head`, or let it cost more, or longer, if it is on its way; return moments to
        commit. If it is on its way though its aim was said to be moot, it goes on.

        It is taken on under a further name if what was done about it before came to nothing, or only seems done. What
        that has cost is taken from the budget, so that a duty costs no more in all. If there is no room for it, it is
        told that it waits: who derives it again asks again.
        """
        budget = duty.budget
        for attempt in range(TRIES_MAX):
            named = duty.again(attempt, budget)
            earlier = self.find(named.id)
            if earlier is None:
                return self._require_if_room(named) if budget > 0 else ()
            if not may_try_again(earlier, attempt, head, self._newest, self.policy.pace):
                again = due_again(earlier, budget, duty.deadline)
                under_way = earlier.id in self._book.obligations  # the disk may be behind
                return self._put(again) if under_way and again != earlier else ()
            budget -= earlier.spent
        return ()

    def _require_if_room(self, duty: Obligation) -> tuple[Moment, ...]:
        try:
            return self.require(duty)
        except InvalidInput as error:
            self.alarm(Alarm(AlarmKind.DUTY_WAITS, f"{duty.purpose} must wait: {error}"))
            return ()

    def supersede(self, identifier: str, reason: str) -> tuple[Moment, ...]:
        """Say that an obligation's aim was reached or is moot; return moments to commit, as `require` does.

        Nothing happens if it is unknown or final already. If it has a nonce, its transaction is let through, cheaply.
        """
        obligation = self._book.obligations.get(identifier)
        if obligation is None or obligation.is_final:
            return ()
        return self._put(obligation.finish(ObligationStatus.SUPERSEDED, reason))

    def look_again(self) -> None:
        """Look at the chain, and at what there is to send, without waiting for a new head."""
        self._wake.set()

    async def wait(self, identifier: str) -> Obligation:
        """Wait until the obligation is done, superseded or quarantined; return it. Raise InvalidInput if unknown."""
        while True:
            obligation = self.find(identifier)
            if obligation is None:
                raise InvalidInput(f"no obligation is called {identifier!r}; require it first")
            if obligation.is_final:
                return obligation
            await self._told.wait()

    def find(self, identifier: str) -> Obligation | None:
        """Return an obligation by its id, None if there never was one."""
        found = self._book.obligations.get(identifier)
        return found or read_obligation(self.store, self.chain.chain_id, self.account, identifier)

    def obligations(self) -> tuple[Obligation, ...]:
        """Return all obligations that are not at rest."""
        return tuple(self._book.obligations.values())

    def statistics(self) -> SenderStatistics:
        """Return the figures of this moment."""
        known = self._book.obligations.values()
        everything = [o for o in known if not o.members]
        return SenderStatistics(
            waiting=sum(o.status is ObligationStatus.WAITING for o in everything),
            sent=sum(o.status is ObligationStatus.SENT for o in everything),
            troubled=(
                *(f"{o.purpose} ({o.id}): {o.trouble}" for o in known if o.trouble),
                *((self._trouble,) if self._trouble else ()),
            ),
            done=self._counts[ObligationStatus.DONE],
            superseded=self._counts[ObligationStatus.SUPERSEDED],
            quarantined=self._counts[ObligationStatus.QUARANTINED],
            submitted=self._submitted,
            faults=self._faults,
            fees=self._fees.total,
        )

    # --- the loop -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work on the obligations until cancelled. Raise only what the commit raises."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                await self._patiently(self._round, self._on_unanswered)
                if self._untold is None:
                    self._unanswered, self._trouble = None, ""
                else:
                    self._on_unanswered(self._untold)
                await self._wake.wait()
                self._wake = trio.Event()

    async def _watch(self) -> None:
        head: Header | None = None

        async def next_head() -> None:
            nonlocal head
            if head is not None:
                await self.chain.wait(head.hash)
            head = await self.chain.head()
            self._newest, self._heard = head.number, trio.current_time()

        while True:
            await self._patiently(next_head)
            self._wake.set()

    async def _patiently(
        self, act: Callable[[], Awaitable[None]], tell: Callable[[Exception], None] = lambda error: None
    ) -> None:
        """Do something with the chain, again and again until the chain node answers."""

        def on_fault(error: Exception) -> None:
            self._faults += 1
            tell(error)

        await Retry(CHAIN_AGAIN, self.jitter).until_done(act, ChainUnavailable, ChainError, on_fault=on_fault)

    def _on_unanswered(self, error: Exception) -> None:
        """Tell, once, if the chain node tells of heads for long, and does not answer what sending takes."""
        now = trio.current_time()
        self._unanswered = now if self._unanswered is None else self._unanswered
        heard = self._heard is not None and now <= self._heard + HEARD_SECONDS
        due = any(not obligation.is_final for obligation in self.obligations())
        if self._trouble or isinstance(error, WrongChain) or now < self._unanswered + TOLD_SECONDS:
            return
        if heard and due:
            self._trouble = f"the chain node tells of heads, and not what sending takes ({error})"
            self.alarm(Alarm(AlarmKind.TRANSACTION_HELD_UP, f"transactions are held up: {self._trouble}"))

    async def _round(self) -> None:
        if not self._book.obligations:
            return
        seen = await self._observe()
        before = self._book
        outcome = self._decide(before, seen)
        while asked := await self._charges(before, outcome, seen.charges):
            seen = change(seen, charges={**seen.charges, **asked})
            if self._book is before and all(outcome.book.obligations[o].attempts[-1].charge == asked[o] for o in asked):
                break  # they are what was counted with
            before = self._book
            outcome = self._decide(before, seen)
        self._book = outcome.book
        await self._store_all(outcome.changed, outcome.lowered)
        for alarm in outcome.alarms:
            self.alarm(alarm)
        self._tell(before.obligations, outcome.changed)
        ready = await self._sign_all(outcome.send)
        for identifier, raw in ready:
            await self._hand_in(identifier, raw)

    async def _observe(self) -> Observation:
        """Return what the chain says. Newer blocks do no harm; raise ChainUnavailable if it is not of one branch."""
        head = await self.chain.head()
        nonce = await self.chain.nonce(self.account)
        market = await self.chain.fee_price()
        receipts: dict[bytes, TransactionReceipt] = {}
        untold: dict[bytes, ReceiptUntold] = {}
        for obligation in self.obligations():
            attempts = reversed(obligation.attempts) if (obligation.nonce or 0) < nonce else ()
            for signed_one in (*attempts, *reversed(obligation.past)):
                try:
                    receipt = await self.chain.receipt(signed_one.hash) if signed_one.hash else None
                except ReceiptUntold as error:
                    untold[signed_one.hash] = error
                    continue
                if receipt is not None:
                    receipts[signed_one.hash] = receipt
                    break
        standing = await self.chain.header(head.number)
        deep = await self.chain.header(max(0, head.number - self.policy.confirmations + 1))
        if standing != head or deep is None or deep.time > head.time:
            raise ChainUnavailable("the chain node's answers are not of one branch")
        self._untold = next(iter(untold.values()), None)
        sent = {one.hash for o in self.obligations() for one in o.attempts} | {
            one.hash for o in self.obligations() for one in o.past
        }
        self._fees = self._fees.with_receipts(receipts, sent, head.number - self.policy.confirmations + 1)
        return Observation(head, deep.time, nonce, market, receipts, frozenset(untold))

    def _decide(self, book: ObligationBook, seen: Observation) -> SendingRound:
        return decide(
            book, seen, account=self.account, gas=self._gas, policy=self.policy, judge=self.judge, hold=self.hold
        )

    async def _charges(
        self, before: ObligationBook, outcome: SendingRound, known: Mapping[str, Charge]
    ) -> dict[str, Charge]:
        """Return what the transactions are to be given that would be signed anew, but for what is known."""
        found: dict[str, Charge] = {}
        for identifier in outcome.send if self.gas is None else ():
            obligation, earlier = outcome.book.obligations[identifier], before.obligations.get(identifier)
            if identifier in known or (earlier is not None and obligation.attempts == earlier.attempts):
                continue
            call = self._call(obligation)
            try:
                found[identifier] = (await self.chain.charge(self.account, call))._replace(fails=False)
            except (ChainUnavailable, ChainError, InvalidInput):  # signing it meets the same, and tells of it
                found[identifier] = Charge(self._gas(call))
        return found

    def _call(self, obligation: Obligation) -> Call:
        """Return what the newest attempt is to carry."""
        return TransferCall(NATIVE, self.account, 0) if obligation.attempts[-1].filler else obligation.call

    async def _sign_all(self, identifiers: Sequence[str]) -> list[tuple[str, bytes]]:
        """Sign the newest attempts, which are durable; return them once their hashes are durable too."""
        sign = self.sign or self.chain.sign
        ready: list[tuple[str, bytes]] = []
        fresh: list[Obligation] = []
        for identifier in identifiers:
            obligation = self._book.obligations[identifier]
            attempt, nonce = obligation.attempts[-1], obligation.nonce
            if not attempt.raw and nonce is not None:
                offered = attempt.price, obligation.tip_before
                try:
                    signed = await sign(self.key, self._call(obligation), nonce, *offered, attempt.gas)
                except ChainUnavailable as error:  # what is behind it does not wait for it
                    if obligation.members:  # nor do its members wait long for one of them
                        await self._refused(identifier, Refusal.MALFORMED, error)
                    else:
                        await self._replace(identifier, Obligation.unheard)
                    continue
                except (ChainError, InvalidInput) as error:
                    code = Refusal.MALFORMED if isinstance(error, InvalidInput) else None
                    await self._refused(identifier, code, error)
                    continue
                obligation = self._book.obligations.get(identifier, obligation).with_attempt_signed(signed)
                self._book = self._book.with_(obligation)
                fresh.append(obligation)
            ready.append((identifier, obligation.attempts[-1].raw))
        await self._store_all(fresh)
        return ready

    async def _hand_in(self, identifier: str, raw: bytes) -> None:
        self._submitted += 1
        try:
            await self.chain.submit(raw)
        except TransactionRefused as error:
            await self._refused(identifier, error.code, error)
        except ChainUnavailable:
            await self._replace(identifier, Obligation.unheard)
            raise
        except ChainError as error:
            await self._refused(identifier, None, error)
        else:
            await self._replace(identifier, Obligation.with_attempt_taken)

    async def _refused(self, identifier: str, code: Refusal | None, error: Exception) -> None:
        """Take note that the newest attempt was refused, by a chain node or before it; `code` None: with nonsense."""
        text = str(error) if code else f"the chain node's answer makes no sense ({error})"
        await self._replace(identifier, lambda obligation: obligation.refuse(code, text, self.policy))

    async def _replace(self, identifier: str, turn: Callable[[Obligation], Obligation]) -> None:
        """Change an obligation, if it is still there; if that makes a difference, store it, and tell of it."""
        before = self._book.obligations.get(identifier)
        if before is None or (after := turn(before)) == before:
            return
        self._book = self._book.with_(after)
        await self._store_all([after])
        if alarm := after.news_since(before):
            self.alarm(alarm)
        if after.status is not before.status:
            self._tell({identifier: before}, [after])

    def _put(self, obligation: Obligation) -> tuple[Moment, ...]:
        before = self._book
        self._book = before.with_(obligation)
        self._wake.set()
        self._tell(before.obligations, [obligation])
        return (ObligationStored(self.chain.chain_id, self.account, obligation),)

    async def _store_all(self, changed: Sequence[Obligation], lowered: int | None = None) -> None:
        moments: list[Moment] = []
        if lowered is not None:  # first: what is bound now may be above
            moments.append(NoncesLowered(self.chain.chain_id, self.account, lowered))
        moments += (ObligationStored(self.chain.chain_id, self.account, o) for o in changed)
        if moments:
            await self.commit(moments)

    def _tell(self, before: Mapping[str, Obligation], changed: Sequence[Obligation]) -> None:
        """Count what became final and wake who waits."""
        for obligation in changed:
            old = before.get(obligation.id)
            if obligation.is_final and not obligation.members and (old is None or old.status is not obligation.status):
                self._counts[obligation.status] += 1
        self._told.set()
        self._told = trio.Event()

    def __repr__(self) -> str:
        return f"<Sender of 0x{self.account.hex()} with {len(self._book.obligations)} obligations>"
