"""What a node must do on chain for one channel, derived from its state and the chain's. Pure.

Nothing is remembered as an event that could get lost: whenever a channel or the chain changes, the duties are derived
again, and each has a fixed name, so that it is taken on once (`settlement.sending.obligations`).

| channel               | chain             | duty                                                                     |
| --------------------- | ----------------- | ------------------------------------------------------------------------ |
| FROZEN, both signed   | open              | submit the cooperative close (the other side: shortly before it dies) |
| withdrawal, both sig. | open              | submit it                                                                |
| CLOSING               | open              | close with the newest proofs                                             |
| CLOSED                | open              | the peer's close left the chain: close ourselves if it does not return   |
| CLOSED                | window open       | challenge whatever is older than what we hold                            |
| CLOSED                | window over       | settle                                                                   |
| SETTLED               | pots wait         | redeem what is decided, once all locks of a simplex are; or without      |
|                       |                   | those that may stay open for long, if what is decided is worth the fee   |
| any                   | lock near expiry  | register the secret that we revealed, or the deepest link that we hold,  |
|                       |                   | and were not paid for, unless its fee is above what it is worth          |

A unilateral close is a duty only of whoever wants it, or whom `must_close` forces: the peer does not pay for locks that
the chain shows to be ours, and they are worth more than closing costs. There is no hurry: what was registered in time
is owed for ever. A lock of our own that expired and whose end the peer holds back forces nothing: it comes back anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import TypeVar

import msgspec

from tallystick.channels.protocol.conditions import is_judged, worth
from tallystick.channels.protocol.core import Channel, CloseInitiator, Phase
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.objects import Lock, Puzzle, SignedProof
from tallystick.channels.protocol.simplex import OlderState
from tallystick.channels.session.chaintime import MARGIN, StakeInCourt
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.chain import (
    CLOSED,
    OPEN,
    SETTLED,
    Call,
    ChallengeCall,
    CloseCall,
    ContractChannel,
    CooperativeCloseCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
    WithdrawCall,
)
from tallystick.settlement.contract.verdicts import verdict_of
from tallystick.settlement.enforcement.budgets import DutyPolicy, claim_budget, duty_budget, is_worth, redeems_fee
from tallystick.settlement.errors import Revert
from tallystick.settlement.ethereum.transactions import TARIFF
from tallystick.settlement.port import Tariff
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationStatus

T = TypeVar("T")

STAND_IN = 300
"""Seconds before a cooperative close dies at which the side that did not ask for it submits it too."""

COURTESY = 60
"""Seconds that whoever did not close leaves to the closer before it settles, or closes anew, itself."""

TOGETHER = 3_600
"""Seconds for which what is decided waits for locks that will be decided by then, so that one redeem takes all."""


OFFERS = (CooperativeCloseCall, WithdrawCall)
"""Calls that both signed for a while: they are sent once, and die by themselves."""

_REGISTRATIONS: dict[type[Call], Duty] = {
    RegisterSecretCall: Duty.REGISTER_SECRET,
    RegisterLinkCall: Duty.REGISTER_LINK,
    RegisterProofCall: Duty.REGISTER_PROOF,
}

_OFFER_DEAD = frozenset({Revert.EXPIRED, Revert.BAD_BALANCES, Revert.BAD_AMOUNT})


def judge(obligation: Obligation, revert: Revert | None) -> ObligationStatus | None:
    """Say that a failed offer is moot: it was mined too late, or the channel is not what it was about."""
    offered = isinstance(obligation.call, OFFERS)
    return ObligationStatus.SUPERSEDED if offered and revert in _OFFER_DEAD else None


def is_moot(obligation: Obligation, due: Container[str]) -> bool:
    """Whether it is a duty that waits, and is not among those that are due. What the owner asked for never is."""
    waits = obligation.status is ObligationStatus.WAITING
    return waits and obligation.duty is not None and obligation.name not in due


class ChannelOnChain(Discreet, msgspec.Struct, frozen=True):
    """What the chain says, as far as one channel is concerned."""

    view: ContractChannel
    """At the head."""
    now: int
    """Block time of the head."""
    proofs: Mapping[Puzzle, tuple[int, bytes]]
    """Registered at the head: puzzle to (block time, what solves it), in order of registration."""
    redeemed: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]
    """Earlier redeems, by simplex: block time, and the root of the locks that were left."""
    claims: Mapping[int, StreamProof] = {}
    """Not of the chain: the deepest links that we hold of the peer's streams, by lock."""
    market: int | None = None
    """What a unit of gas costs, None if that is not known."""
    at_stake: Mapping[Puzzle, int] = {}
    """What is at stake for us on each secret that we know, in all channels of the chain's own coin together."""
    older: Mapping[int, OlderState] = {}
    """Not of the chain: the states that stand and that we have left behind, by side."""
    lowest: int | None = None
    """The least that a unit of gas has lately been said to cost: by that it is judged what is worth a claim."""
    tariff: Tariff = TARIFF
    """What calls take on this chain; unless told otherwise, what the simulated ledger charges."""
    stakes: Mapping[Puzzle, StakeInCourt] = {}
    """What the court says of stakes in apps, at the head."""
    final: int = 0
    """Time of the newest confirmed block, by which a peer unlocks what the court gave."""

    def worth_of(self, call: Call) -> int | None:
        """Return the fee against which a claim's worth is held, None if it is not known."""
        return None if self.lowest is None else self.tariff.fee(call, self.lowest)


def duties(
    channel: Channel, situation: ChannelOnChain, policy: DutyPolicy, close_key: Callable[[Channel], bytes]
) -> list[Obligation]:
    """Return everything that should be on its way to the chain for this channel now."""
    name = channel.id.hex()[:16]
    found = [
        *_cooperate(channel, situation),
        *_withdraw(channel, situation),
        *_close(channel, situation, close_key),
        *_challenge(channel, situation),
        *_settle(channel, situation),
        *_redeem(channel, situation, policy),
        *_register(channel, situation, policy),
        *_register_older(channel, situation, policy),
    ]
    return [
        Obligation(
            id=f"{duty.kind}:{name}{duty.detail}",
            duty=duty.kind,
            call=duty.call,
            purpose=f"{duty.kind} channel {name[:8]}",
            budget=_budget(channel, duty, situation, policy),
            channel=channel.id,
            deadline=duty.deadline,
            not_before=duty.not_before,
        )
        for duty in found
    ]


def _budget(channel: Channel, duty: _Step, situation: ChannelOnChain, policy: DutyPolicy) -> int:
    asset = channel.terms.asset
    if duty.claim:
        return max(1, claim_budget(asset, duty.stake, policy))
    fee = None if situation.market is None else situation.tariff.fee(duty.call, situation.market + 1)
    return max(1, duty_budget(asset, duty.stake, fee, policy))


class _Step(msgspec.Struct, frozen=True):
    kind: Duty
    call: Call
    stake: int
    """What depends on it for us, in the channel's asset."""
    detail: str = ""
    deadline: int | None = None
    not_before: int = 0
    claim: bool = False
    """Whether it is only done if it is worth its fee."""


def _ours(channel: Channel) -> int:
    """Return what may be ours of what is in the channel: our balance, and what the peer's locks may pay."""
    return max(0, channel.balances()[channel.side]) + sum(lock.amount for lock in channel.theirs.simplex.locks)


def _all(channel: Channel) -> int:
    return channel.funding(0) + channel.funding(1)


def _in_order(channel: Channel, ours: T, theirs: T) -> tuple[T, T]:
    return (ours, theirs) if channel.side == 0 else (theirs, ours)


def statements(channel: Channel) -> tuple[SignedProof | None, SignedProof | None]:
    """Return the newest doubly signed proofs of both simplices, in order of side; None for genesis."""
    return _in_order(channel, channel.ours.statement, channel.theirs.statement)


def _cooperate(channel: Channel, situation: ChannelOnChain) -> Iterator[_Step]:
    offer = channel.offer
    if situation.view.status != OPEN or offer is None or not offer.peer_signature or channel.phase is not Phase.FROZEN:
        return
    until = offer.close.valid_until
    if channel.shutdown is CloseInitiator.OWN or situation.now > until - STAND_IN:
        call = CooperativeCloseCall(offer.close, *_in_order(channel, offer.signature, offer.peer_signature))
        yield _Step(Duty.COOPERATIVE_CLOSE, call, _ours(channel), f":{until}", until)


def _withdraw(channel: Channel, situation: ChannelOnChain) -> Iterator[_Step]:
    pending = channel.withdrawals[channel.side]
    if situation.view.status == OPEN and pending is not None and pending.peer_signature:
        until = pending.withdrawal.valid_until
        call = WithdrawCall(pending.withdrawal, *_in_order(channel, pending.signature, pending.peer_signature))
        stake = max(0, pending.withdrawal.total - situation.view.withdrawn[channel.side])
        yield _Step(Duty.WITHDRAW, call, stake, f":{pending.withdrawal.total}:{until}", until)


def _close(channel: Channel, situation: ChannelOnChain, close_key: Callable[[Channel], bytes]) -> Iterator[_Step]:
    if channel.phase in (Phase.CLOSING, Phase.CLOSED, Phase.SETTLED) and situation.view.status == OPEN:
        proof0, proof1 = statements(channel)
        patience = 0 if channel.phase is Phase.CLOSING else situation.now + COURTESY
        call = CloseCall(channel.id, proof0, proof1, close_key(channel))
        yield _Step(Duty.CLOSE, call, _ours(channel), not_before=patience)


def _challenge(channel: Channel, situation: ChannelOnChain) -> Iterator[_Step]:
    view = situation.view
    if view.status != CLOSED or view.deadline is None or situation.now > view.deadline:
        return
    for sender, statement in enumerate(statements(channel)):
        if statement is not None and statement.proof.seq > view.seqs[sender]:
            detail = f":{sender}:{statement.proof.seq}:{view.seqs[sender]}"
            yield _Step(Duty.CHALLENGE, ChallengeCall(statement), _all(channel), detail, view.deadline)


def _settle(channel: Channel, situation: ChannelOnChain) -> Iterator[_Step]:
    view = situation.view
    if view.status == CLOSED and view.deadline is not None:
        patience = 1 if view.closer == channel.side else COURTESY
        stake = _all(channel) if view.convicted else _ours(channel)
        yield _Step(
            Duty.SETTLE, SettleCall(channel.id), stake, f":{view.deadline}", not_before=view.deadline + patience
        )


def _redeem(channel: Channel, situation: ChannelOnChain, policy: DutyPolicy) -> Iterator[_Step]:
    if situation.view.status != SETTLED:
        return
    for sender, pot in enumerate(situation.view.pots):
        locks = settled_locks(channel, situation, sender) if pot else ()
        open_locks = [lock for lock in locks if not _decided(lock, situation, situation.now)]
        if locks and (not open_locks or any(_may_stay_open(lock, situation) for lock in open_locks)):
            call, stake = RedeemCall(channel.id, sender, locks), _brought(channel, situation, sender, pot, locks)
            worth_it = is_worth(channel.terms.asset, stake, situation.worth_of(call), policy)
            if worth_it and (stake or not open_locks):
                detail = f":{sender}:{locks_root(locks).hex()[:8]}"
                yield _Step(Duty.REDEEM, call, stake, detail, claim=True)


def _brought(channel: Channel, situation: ChannelOnChain, sender: int, pot: int, locks: tuple[Lock, ...]) -> int:
    """Return what redeeming brings us now: of decided locks, what they pay of the peer's, or give back of our own."""
    ours, left, waits = 0, pot, False
    for lock in locks:
        share = min(lock.amount, left)
        left -= share
        if not _decided(lock, situation, situation.now):
            waits = True
            continue
        registered, proof = situation.proofs.get(lock.puzzle, (lock.expiry + 1, b""))
        paid = min(share, worth(lock, proof)) if registered <= lock.expiry else 0
        if is_judged(lock.kind):
            paid = min(share, _paid_in_court(lock, situation, situation.now))
        ours += share - paid if sender == channel.side else paid
    return ours + left if sender == channel.side and not waits else ours


def _decided(lock: Lock, situation: ChannelOnChain, time: int) -> bool:
    """Whether the contract pays or refunds the lock in a block of that time."""
    stake = situation.stakes.get(lock.puzzle)
    if stake is not None and stake.counts_for(lock):
        return stake.is_decided(time)
    registered = situation.proofs.get(lock.puzzle) if verdict_of(lock).early else None
    return time > lock.expiry or (registered is not None and registered[0] <= min(time, lock.expiry))


def _may_stay_open(lock: Lock, situation: ChannelOnChain) -> bool:
    """Whether a lock that is not decided may stay so for long: then it must not hold up what is decided.

    A stake in an app may be in court long after its expiry, and the app may be the peer's own, with itself.
    """
    return is_judged(lock.kind) or lock.expiry >= situation.now + TOGETHER


def _paid_in_court(lock: Lock, situation: ChannelOnChain, time: int) -> int:
    """Return what the court had given to the receiver of a lock by a block of that time."""
    stake = situation.stakes.get(lock.puzzle)
    if stake is None or not stake.counts_for(lock) or not stake.is_decided(time):
        return 0
    return min(stake.paid, lock.amount)


def settled_locks(channel: Channel, situation: ChannelOnChain, sender: int) -> tuple[Lock, ...]:
    """Return the locks that make up the settled root of simplex `sender`, in order of id; empty if we do not know them.

    It may be a state in flight: signed by us, countersigned by the peer, and never acknowledged to us. Or an older one.
    """
    locks = held_locks(channel, situation.view, sender)
    if locks is None and sender in situation.older:
        locks = situation.older[sender].locks
    for time, root in situation.redeemed[sender]:
        locks = _left(locks or (), situation, time, root)
    return locks or ()


def held_locks(channel: Channel, view: ContractChannel, sender: int) -> tuple[Lock, ...] | None:
    """Return the locks of the state of simplex `sender` that stands, None if it is not one that we hold."""
    states = [channel.ours, *channel.flight] if sender == channel.side else [channel.theirs]
    return next((state.simplex.locks for state in states if state.seq == view.seqs[sender]), None)


def _left(locks: tuple[Lock, ...], situation: ChannelOnChain, time: int, root: bytes) -> tuple[Lock, ...]:
    """Return which locks a redeem in a block of that time left, empty if none make up the root that it told.

    Secrets registered in that very block count only if they came before the redeem: which did, the root tells.
    """
    same_block = [puzzle for puzzle, (registered, _) in situation.proofs.items() if registered == time]
    for first_late in range(len(same_block), -1, -1):
        late = same_block[first_late:]
        left = tuple(
            lock
            for lock in locks
            if not _decided(lock, situation, time)
            or (lock.puzzle in late and (time <= lock.expiry or is_judged(lock.kind)))
        )
        if locks_root(left) == root:
            return left
    return ()


def claim_fee(market: int | None, tariff: Tariff, policy: DutyPolicy) -> int:
    """Return below what worth a secret is not claimed, in the native coin: 0 if all are, or no price is known."""
    return policy.worth_percent * tariff.fee_of(RegisterSecretCall, market) // 100 if market else 0


def must_close(channel: Channel, situation: ChannelOnChain, policy: DutyPolicy) -> bool:
    """Whether the peer has long owed us locks that the chain shows to be ours, worth more than closing costs."""
    if channel.phase not in (Phase.OPEN, Phase.FROZEN) or situation.view.status != OPEN or situation.market is None:
        return False
    owed = [
        worth(lock, proof)
        for lock in channel.theirs.simplex.locks
        for time, proof in [situation.proofs.get(lock.puzzle, (lock.expiry + 1, b""))]
        if not is_judged(lock.kind)
        and time <= lock.expiry
        and situation.now > _due(lock, time) + policy.unlock_patience
    ]
    for lock in channel.theirs.simplex.locks:
        owed.append(_paid_in_court(lock, situation, situation.final - MARGIN - policy.unlock_patience))
    tariff, price = situation.tariff, situation.market
    fee = tariff.fee_of(CloseCall, price) + tariff.fee_of(SettleCall, price) + redeems_fee(channel, price, tariff)
    return sum(owed) > 0 and is_worth(channel.terms.asset, sum(owed), fee, policy)


def _due(lock: Lock, registered: int) -> int:
    """Return since when the peer could have known that the lock is to be paid, and how much of it."""
    return registered if verdict_of(lock).early else lock.expiry


def _register(channel: Channel, situation: ChannelOnChain, policy: DutyPolicy) -> Iterator[_Step]:
    """What solves the peer's locks goes to the chain when time runs out, or the channel is closing."""
    held = [(known.lock, known.secret) for known in channel.secrets]
    held += [(lock, claim.encode()) for lock, claim in situation.claims.items()]
    for number, proof in held:
        lock = channel.theirs.simplex.lock(number)
        if lock is None or (channel.phase is Phase.OPEN and lock.expiry - situation.now > policy.secret_margin):
            continue
        yield from _claim(channel, situation, policy, lock, proof, f":{lock.id}")


def _register_older(channel: Channel, situation: ChannelOnChain, policy: DutyPolicy) -> Iterator[_Step]:
    """The peer's locks of a state that we left behind, and that stands: they pay us only by what the chain shows."""
    older = situation.older.get(channel.peer_side)
    if older is not None and situation.view.status == SETTLED:
        for lock in older.locks:
            if lock.id in older.proofs:
                yield from _claim(channel, situation, policy, lock, older.proofs[lock.id], f":older:{lock.id}")


def _claim(
    channel: Channel, situation: ChannelOnChain, policy: DutyPolicy, lock: Lock, proof: bytes, detail: str
) -> Iterator[_Step]:
    verdict, known = verdict_of(lock), situation.proofs.get(lock.puzzle)
    if situation.now > lock.expiry or (known is not None and verdict.early):
        return
    gain = worth(lock, proof) - (worth(lock, known[1]) if known is not None else 0)
    call, stake = verdict.registration(lock, proof), max(gain, situation.at_stake.get(lock.puzzle, 0))
    if gain > 0 and is_worth(channel.terms.asset, stake, situation.worth_of(call), policy):
        yield _Step(_REGISTRATIONS[type(call)], call, stake, detail + verdict.mark(proof), lock.expiry, claim=True)
