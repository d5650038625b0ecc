"""Several calls of one account in one transaction: which travel together, and what becomes of each. Pure.

- What is due at one look and does no harm if it is mined twice goes together: closes that both signed, challenges,
  settlements, redeems, registrations. Nothing that pays, nothing that was in a batch before, and nothing whose deadline
  is so near that there would be no time to send it alone if the batch came to nothing.
- A batch is an obligation of its own, stored with its nonce and its members in one commit. What it carries never
  changes: each replacement under its nonce is for the same members, and a member is in one batch in its life.
- Nobody in a batch could offer more alone than the batch can: those whose budgets allow about as much go together. A
  batch may cost what its members may, but no more than nodes take, its time is that of the most urgent, and each pays
  by its own gas.
- If nodes refuse it for long, as malformed, as too dear for them, or for want of coins, its nonce is used up otherwise:
  one call alone costs less.
- A member ends by what the batch's receipt says of its call, and is undone with it. If its call failed for a reason
  that settles the matter it ends; else, or if the batch came to nothing, it goes on alone.
- A single call never waits. While one is under way, more gather until the next head (as small packets do after Nagle).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import (
    BatchCall,
    ChallengeCall,
    CooperativeCloseCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    SingleCall,
    TransactionReceipt,
)
from tallystick.settlement.sending.obligations import (
    Duty,
    Gas,
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.pricing import BLOCK_SECONDS_MAX

CARRIED = (CooperativeCloseCall, ChallengeCall, SettleCall, RedeemCall, RegisterSecretCall, RegisterLinkCall)
"""Calls that may travel in a batch."""

REDEEMED_MAX = 5
"""Locks of a redeem that does: all contracts take as much of one call."""

CARRIED_GAS = 300_000
"""Gas of a call that does, at most."""

BATCH_GAS_MAX = 8_000_000
"""Gas of a batch at most: it must find room in a block, and its limit, which is higher, is bounded (EIP-7825)."""

BATCH_BUDGET_MAX = 10**18
"""Fees that a batch may offer in all, in the native coin's smallest unit: of a transaction that offers more than one
coin, whatever it would really pay, geth takes none as it is shipped (`--rpc.txfeecap`)."""

SPARE_BLOCKS = 16
"""Blocks that must be left until a deadline, besides four times what it takes to confirm a transaction."""

ENDED = "its calls have ended, or go on alone"


def may_join(obligation: Obligation, book: ObligationBook, policy: SendingPolicy, gas: Gas, now: int) -> bool:
    """Whether an obligation that is due may travel with others."""
    call = obligation.call
    if policy.together < 2 or obligation.alone or not isinstance(call, CARRIED) or gas(call) > CARRIED_GAS:
        return False
    if isinstance(call, RedeemCall) and len(call.locks) > REDEEMED_MAX:
        return False
    spare = (SPARE_BLOCKS + 4 * (policy.confirmations + 1)) * _block_seconds(book)
    return obligation.deadline is None or obligation.deadline - now > spare


def _block_seconds(book: ObligationBook) -> int:
    """Return how long a block takes by the last looks, rounded up; the most that is believed if that is not known."""
    first, last = book.looks[0], book.looks[-1]
    blocks, seconds = last.number - first.number, last.time - first.time
    return min(BLOCK_SECONDS_MAX, max(1, -(-seconds // blocks))) if blocks > 0 else BLOCK_SECONDS_MAX


def gather(
    due: Sequence[Obligation],
    book: ObligationBook,
    seen: Observation,
    policy: SendingPolicy,
    gas: Gas,
    now: int,
    fresh: bool,
) -> list[Obligation]:
    """Return what of the obligations that are due may be sent now, with those that travel together as one batch.

    `fresh`: this head was not looked at before.
    """
    joining = [o for o in due if may_join(o, book, policy, gas, now)]
    if not fresh and _is_under_way(book, seen.nonce):
        names = {o.id for o in joining}
        return [o for o in due if o.id not in names]
    groups = {group[0].id: group for group in _together(joining, policy, gas) if len(group) > 1}
    carried = {member.id for group in groups.values() for member in group}
    singles = [o for o in due if o.id not in carried]
    return singles + [_draft(group, seen) for group in groups.values()]


def _is_under_way(book: ObligationBook, nonce: int) -> bool:
    """Whether a call of a kind that travels with others was sent, and is not mined."""
    calls = (*CARRIED, BatchCall)
    return any(isinstance(o.call, calls) and o.is_unmined(nonce) for o in book.obligations.values())


def _together(joining: Iterable[Obligation], policy: SendingPolicy, gas: Gas) -> list[list[Obligation]]:
    """Return who travels with whom: those next to each other in what they can offer, the most urgent first."""
    groups: list[list[Obligation]] = []
    calls: set[SingleCall | BatchCall] = set()
    for obligation in sorted(joining, key=lambda o: _cap(o, gas), reverse=True):
        if obligation.call not in calls:  # the same call again would come to nothing
            if not (groups and _has_room(groups[-1], obligation, policy, gas)):
                groups.append([])
            groups[-1].append(obligation)
            calls.add(obligation.call)
    return [sorted(group, key=lambda o: (o.deadline is None, o.deadline)) for group in groups]


def _has_room(group: Sequence[Obligation], obligation: Obligation, policy: SendingPolicy, gas: Gas) -> bool:
    members = [*group, obligation]
    if len(members) > policy.together:
        return False
    units = gas(_call_of(members))
    saves = units < sum(gas(member.call) for member in members)
    budget = sum(member.left for member in members)
    harms = budget // units < _cap(group[0], gas)
    return saves and not harms and units <= BATCH_GAS_MAX and budget <= BATCH_BUDGET_MAX


def _cap(obligation: Obligation, gas: Gas) -> int:
    """Return the highest price per unit of gas that it can offer alone, as far as is known before a node is asked."""
    return obligation.left // gas(obligation.call)


def _call_of(members: Iterable[Obligation]) -> BatchCall:
    calls: list[SingleCall] = [o.call for o in members if not isinstance(o.call, BatchCall)]
    return BatchCall(tuple(calls))


def _draft(members: Sequence[Obligation], seen: Observation) -> Obligation:
    """Return the batch of these obligations. No other one ever has its id, as none of them is in another."""
    mark = keccak("\n".join(member.id for member in members).encode()).hex()[:32]
    firsts = [o.first_block for o in members if o.first_block is not None]
    times = [o.first_time for o in members if o.first_time is not None]
    draft = Obligation(
        id=f"{Duty.BATCH}:{mark}",
        duty=Duty.BATCH,
        call=_call_of(members),
        purpose=f"{len(members)} calls in one transaction",
        budget=0,
        first_block=min(firsts, default=seen.head.number),
        first_time=min(times, default=seen.head.time),
        waited_blocks=max(o.waited_blocks for o in members),
        waited_time=max(o.waited_time for o in members),
        members=tuple(member.id for member in members),
    )
    return with_members(draft, members)


def board(bound: Iterable[Obligation], book: ObligationBook) -> list[Obligation]:
    """Return the members of batches that got their nonce: they belong into the same commit."""
    return [
        change(member, status=ObligationStatus.SENT, batch=batch.id)
        for batch in bound
        for member in map(book.obligations.get, batch.members)
        if member is not None and member.status is ObligationStatus.WAITING
    ]


def with_members(batch: Obligation, carried: Sequence[Obligation]) -> Obligation:
    """Return a batch that is not final by those of its members that are not: their means, their hurry."""
    working = [member for member in carried if not member.is_final]
    if not working:
        return batch.finish(ObligationStatus.SUPERSEDED, ENDED)
    deadlines = [member.deadline for member in working if member.deadline is not None]
    budget = min(BATCH_BUDGET_MAX, max(batch.budget, sum(member.left for member in working)))
    return change(batch, budget=budget, deadline=min(deadlines, default=None))


def follow_members(book: ObligationBook) -> list[Obligation]:
    """Return the batches that are not final, by what their members are now."""
    found = [o for o in book.obligations.values() if o.members and not o.is_final]
    return [
        with_members(batch, [o for o in map(book.obligations.get, batch.members) if o and o.batch == batch.id])
        for batch in found
    ]


def is_over(batch: Obligation | None) -> bool:
    """Whether a batch of which there is no receipt does nothing for its members any more: they go on alone."""
    if batch is None or batch.status in (ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED):
        return True
    return batch.filler and not any(attempt.hash and not attempt.filler for attempt in batch.attempts)


def receipt_of(member: Obligation, batch: Obligation, receipt: TransactionReceipt, gas: Gas) -> TransactionReceipt:
    """Return what a batch's receipt says of one member: its part of the fee, and whether its call was done.

    A batch that failed as a whole says nothing about a call: no rule refused it.
    """
    index = batch.members.index(member.id)
    units = sum(gas(call) for call in batch.call.calls) if isinstance(batch.call, BatchCall) else 0
    fee = receipt.fee * gas(member.call) // max(1, units)
    alone = change(receipt, fee=fee, failures=())
    if not receipt.success:
        return change(alone, reason=f"its batch failed: {receipt.why}", revert=None)
    for failure in receipt.failures:
        if failure.index == index:
            return change(alone, success=False, reason=failure.reason, revert=failure.revert)
    return alone
