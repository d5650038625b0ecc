"""What an account has to do at one head: how its obligations change in the light of what the chain says. Pure."""

from __future__ import annotations

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import TransactionReceipt
from tallystick.settlement.errors import Revert
from tallystick.settlement.sending.batches import ENDED, board, follow_members, gather, is_over, receipt_of
from tallystick.settlement.sending.judging import Hold, Judge, judge_failure
from tallystick.settlement.sending.nonces import bind, due_now, fillers, free, look, stalled_from
from tallystick.settlement.sending.obligations import (
    UNKNOWN_FATE,
    UNTOLD,
    Attempt,
    Duty,
    Gas,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    SendingRound,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.pricing import BLOCK_SECONDS_MAX, market_of, price, time_now, way_of

AWAY_BLOCKS = 8
"""If more blocks than these passed between two looks, nobody looked: nothing could be sent in that time."""

REORGANISATION_MAX = 128
"""Blocks by which a transaction may be mined below the head at which it was first thought of."""

AGAIN_AFTER = 8
"""Blocks until a call whose nonce was used up after refusals is sent again; doubles up to 16 times as many."""

PAID_TWICE_DEPTH = 16
"""Depth of the failure of a call that pays at which it is believed, and the call sent again."""

STORED_EVERY = 8
"""After so many blocks of waiting, how long that was is stored."""


class _Eye:
    """One look at the chain, and what the one before it makes of it."""

    def __init__(self, book: ObligationBook, seen: Observation, gas: Gas, policy: SendingPolicy, judge: Judge) -> None:
        self.book = book
        self.seen = seen
        self.gas = gas
        self.policy = policy
        self.judge = judge
        last = book.looks[-1] if book.looks else None
        self.fresh = last is None or last.number != seen.head.number
        """Whether this head was not looked at before."""
        blocks = 0 if last is None else seen.head.number - last.number
        self.blocks = blocks if 0 < blocks <= AWAY_BLOCKS * policy.pace else 0
        self.seconds = 0 if last is None else min(max(0, seen.head.time - last.time), self.blocks * BLOCK_SECONDS_MAX)
        self.stalled = stalled_from(book, seen.nonce)
        self.now = time_now(book, seen, policy)

    def observe(self, obligation: Obligation) -> Obligation:
        """Return the obligation in the light of what the chain says."""
        obligation = self._wait(obligation)
        if obligation.batch is not None:
            return self._ended(self._carried(obligation, self.book.obligations.get(obligation.batch)))
        for attempt in obligation.attempts:
            receipt = self._receipt(obligation, attempt.hash)
            if receipt is not None:
                return self._ended(self._on_receipt(obligation, attempt, receipt))
        obligation = self._on_past(obligation)
        if obligation.members and not obligation.is_final and self._is_untold(obligation):
            return self._ended(self._on_untold(obligation))
        obligation = self._without_receipt(obligation)
        return self._ended(self._late(obligation))

    def _carried(self, member: Obligation, batch: Obligation | None) -> Obligation:
        """Return a member of a batch in the light of what became of that."""
        if batch is None:
            return member.off_batch()
        for attempt in batch.attempts:
            receipt = None if attempt.filler else self._receipt(batch, attempt.hash)
            if receipt is not None:
                return self._on_receipt(member, attempt, receipt_of(member, batch, receipt, self.gas))
        told = [receipt_of(member, batch, found, self.gas) for found in self._past_receipts(batch)]
        if member.status in (ObligationStatus.SENT, ObligationStatus.QUARANTINED) and any(
            each.success for each in told
        ):
            return change(member, status=ObligationStatus.DONE, trouble="", reason="")
        if self._is_untold(batch):
            if member.status is ObligationStatus.SENT and is_over(batch):
                member = change(member, receipt=None).off_batch()
            return self._late(member)
        member = self._without_receipt(member)
        return self._late(member.off_batch() if is_over(batch) else member)

    def _is_untold(self, batch: Obligation) -> bool:
        return any(attempt.hash in self.seen.untold for attempt in batch.attempts)

    def _on_untold(self, batch: Obligation) -> Obligation:
        """Return a batch that is mined, and of whose calls not all is told: after some heads of that it is over.

        Its calls do no harm if they are mined twice. What was done is superseded by what the chain's events say.
        """
        since = self.seen.head.number if batch.missing_since is None else batch.missing_since
        since, heads = min(since, self.seen.head.number), batch.missing_heads + self.fresh
        if heads <= self.policy.heads or self.seen.head.number - since < self.policy.confirmations:
            return change(batch, missing_since=since, missing_heads=heads)
        return change(batch, missing_since=None, missing_heads=0).finish(ObligationStatus.SUPERSEDED, UNTOLD)

    def _past_receipts(self, obligation: Obligation) -> list[TransactionReceipt]:
        """Return the confirmed receipts of what was signed under nonces that it has left since."""
        found = (self._receipt(obligation, past.hash) for past in obligation.past)
        return [each for each in found if each is not None and self._depth(each) >= self.policy.confirmations]

    def _wait(self, obligation: Obligation) -> Obligation:
        """Count the time in which it could have been mined."""
        seen = self.seen
        if obligation.not_before > self.now:
            return obligation
        if obligation.first_block is None:
            return change(obligation, first_block=seen.head.number, first_time=seen.head.time)
        if seen.head.number < obligation.first_block:  # a head that was ahead of the truth, or left the chain
            obligation = change(obligation, first_block=seen.head.number, first_time=seen.head.time)
        barred = self.stalled < float("inf") if obligation.nonce is None else obligation.nonce >= self.stalled
        if barred or obligation.is_final or obligation.receipt is not None or not self.blocks:
            return obligation
        return change(
            obligation,
            waited_blocks=obligation.waited_blocks + self.blocks,
            waited_time=obligation.waited_time + self.seconds,
        )

    def _receipt(self, obligation: Obligation, transaction: bytes) -> TransactionReceipt | None:
        """Return a receipt, unless it is from before there was such a transaction, or from a block to come."""
        receipt = self.seen.receipts.get(transaction) if transaction else None
        if receipt is None:
            return None
        first = (obligation.first_block or 0) - max(REORGANISATION_MAX, self.policy.resting_depth)
        return receipt if first <= receipt.block.number <= self.seen.head.number else None

    def _depth(self, receipt: TransactionReceipt) -> int:
        return self.seen.head.number - receipt.block.number + 1

    def _on_receipt(self, obligation: Obligation, attempt: Attempt, receipt: TransactionReceipt) -> Obligation:
        again, depth = obligation.receipt == receipt, self._depth(receipt)
        obligation = change(
            obligation, receipt=receipt, missing_since=None, missing_heads=0, late_heads=0, stalled=False
        )
        if not again:  # once is no word
            return obligation
        if depth >= self.policy.confirmations:
            obligation = self._confirmed(obligation, attempt, receipt)
        deep = depth >= self.policy.resting_depth
        return obligation.rest() if deep and obligation.is_final else obligation

    def _confirmed(self, obligation: Obligation, attempt: Attempt, receipt: TransactionReceipt) -> Obligation:
        ours = not attempt.filler or obligation.duty is Duty.USE_NONCE
        open_still = obligation.status is ObligationStatus.SENT or (
            obligation.status is ObligationStatus.QUARANTINED and ours
        )
        if not open_still:
            return obligation
        if receipt.success and ours:
            return change(obligation, status=ObligationStatus.DONE, trouble="", reason="")
        if obligation.status is ObligationStatus.QUARANTINED:
            return obligation
        signed = attempt.most if obligation.batch is None else None
        most = signed or attempt.price * self.gas(obligation.call)
        fee = min(receipt.fee, most)  # more than was signed nobody can take
        if obligation.members:  # each is judged by itself
            return change(obligation, spent=obligation.spent + fee).finish(ObligationStatus.SUPERSEDED, ENDED)
        if not ours:
            return self._again(obligation, fee)
        judged = self.judge(obligation, receipt.revert) or judge_failure(receipt.revert)
        if obligation.batch is not None and judged is ObligationStatus.QUARANTINED:
            obligation, judged = change(obligation, trouble=receipt.why), ObligationStatus.WAITING
        again = judged is ObligationStatus.WAITING
        if again and obligation.pays and self._depth(receipt) < PAID_TWICE_DEPTH * self.policy.pace:
            return obligation
        if again and obligation.tries + 1 < self.policy.tries:
            return self._again(obligation, fee, at_once=True)
        final = ObligationStatus.SUPERSEDED if judged is ObligationStatus.SUPERSEDED else ObligationStatus.QUARANTINED
        return change(obligation, spent=obligation.spent + fee).finish(final, receipt.why)

    def _again(self, obligation: Obligation, fee: int, *, at_once: bool = False) -> Obligation:
        """Return it without its nonce, which is used up for certain: it is tried again."""
        pause = 0 if at_once else AGAIN_AFTER * self.policy.pace << min(obligation.tries, 4)
        left = change(obligation.without_nonce().off_batch(), past=obligation.past, tries=obligation.tries + 1)
        return change(left, spent=obligation.spent + fee, again_at=self.seen.head.number + pause)

    def _on_past(self, obligation: Obligation) -> Obligation:
        """Return it done if it was mined under a nonce that it has left since."""
        if obligation.status in (ObligationStatus.DONE, ObligationStatus.SUPERSEDED):
            return obligation
        if any(receipt.success for receipt in self._past_receipts(obligation)):
            return change(obligation, status=ObligationStatus.DONE, trouble="", reason="")
        return obligation

    def _without_receipt(self, obligation: Obligation) -> Obligation:
        nonce, number = obligation.nonce, self.seen.head.number
        if obligation.receipt is not None:
            if 0 < obligation.receipt.block.number - number <= REORGANISATION_MAX:
                return obligation  # a head from before it was mined says nothing of it
            heads = obligation.missing_heads + self.fresh
            if obligation.status is ObligationStatus.DONE and heads < self.policy.heads:
                return change(obligation, missing_heads=heads)
            status = ObligationStatus.SENT if obligation.status is ObligationStatus.DONE else obligation.status
            obligation = change(obligation, receipt=None, status=status, missing_since=None, missing_heads=0)
        if nonce is None or nonce >= self.seen.nonce:
            known = obligation.missing_since is not None
            return change(obligation, missing_since=None, missing_heads=0) if known else obligation
        since = number if obligation.missing_since is None else min(obligation.missing_since, number)
        heads = obligation.missing_heads + self.fresh
        obligation = change(obligation, missing_since=since, missing_heads=heads)
        if heads <= self.policy.heads or number - since < self.policy.confirmations:
            return obligation
        return self._used_up(obligation)

    def _used_up(self, obligation: Obligation) -> Obligation:
        """Its nonce is used up, for all that the chain says, and there is no receipt of ours."""
        if obligation.pays and obligation.status in (ObligationStatus.SENT, ObligationStatus.QUARANTINED):
            heads, patience = obligation.missing_heads, self.policy.resting_depth
            if obligation.status is ObligationStatus.SENT:
                obligation = change(obligation, trouble=UNKNOWN_FATE)
                if heads >= patience:
                    obligation = obligation.finish(
                        ObligationStatus.QUARANTINED, f"{UNKNOWN_FATE}; look before asking again"
                    )
            return obligation.rest() if heads >= 2 * patience else obligation
        if obligation.status is ObligationStatus.SENT and obligation.duty is not Duty.USE_NONCE:
            return obligation.without_nonce()
        if obligation.status is ObligationStatus.SENT:
            obligation = obligation.finish(ObligationStatus.SUPERSEDED, "its nonce is used up")
        return obligation.rest()

    def _late(self, obligation: Obligation) -> Obligation:
        deadline = obligation.deadline
        if deadline is None or obligation.is_final or obligation.members:
            return obligation
        if self.seen.confirmed <= deadline:
            return change(obligation, late_heads=0) if obligation.late_heads else obligation
        obligation = change(obligation, late_heads=obligation.late_heads + self.fresh)
        if obligation.late_heads <= self.policy.heads:
            return obligation
        reason = f"{Revert.EXPIRED}: not on the chain by its deadline {deadline}"
        return obligation.finish(self.judge(obligation, Revert.EXPIRED) or ObligationStatus.QUARANTINED, reason)

    def _ended(self, obligation: Obligation) -> Obligation:
        final = obligation.is_final
        if final != (obligation.ended is not None):
            obligation = change(obligation, ended=self.seen.head.number if final else None)
        at_rest = final and obligation.nonce is None and obligation.batch is None
        return obligation.rest() if at_rest and not obligation.resting else obligation


def decide(
    book: ObligationBook,
    seen: Observation,
    *,
    account: Address,
    gas: Gas,
    policy: SendingPolicy,
    judge: Judge = lambda obligation, revert: None,
    hold: Hold = lambda obligation, now: False,
) -> SendingRound:
    """Return what the account has to do at this head. Pure: the same book and observation give the same round."""
    before = book
    eye = _Eye(book, seen, gas, policy, judge)
    book = look(book, seen)
    seen = change(seen, market=market_of(book))
    after = {key: eye.observe(o) for key, o in before.obligations.items()}
    book = book.with_(*after.values())
    freed = free(book, seen, policy)
    after |= freed.book.obligations
    book = freed.book.with_()
    book = fillers(book.with_(*follow_members(book)), freed.gaps, seen, account, gas, policy)
    now = time_now(book, seen, policy)
    due = gather(
        [o for o in due_now(book, seen, now, policy) if not hold(o, now)], book, seen, policy, gas, now, eye.fresh
    )
    bound = bind(book, seen, policy, due, way_of(book, seen, gas))
    book = book.with_(*bound, *board(bound, book))
    priced = price(book, seen, gas, policy)
    book = book.with_(*priced)
    after |= book.obligations
    changed = tuple(o for key, o in after.items() if _is_news(before.obligations.get(key), o, policy))
    alarms = (o.news_since(before.obligations[o.id]) for o in changed if o.id in before.obligations)
    send = tuple(o.id for o in priced if o.attempts)
    return SendingRound(book, changed, send, tuple(alarm for alarm in alarms if alarm), freed.lowered)


def _is_news(before: Obligation | None, after: Obligation, policy: SendingPolicy) -> bool:
    """Whether it has to be stored. How long it waited is, from time to time."""
    every = STORED_EVERY * policy.pace
    if before is None or before.waited_blocks // every != after.waited_blocks // every:
        return True
    return before != change(after, waited_blocks=before.waited_blocks, waited_time=before.waited_time)
