"""What a node must do on chain for one channel, derived from its state and the chain's. Pure.

Nothing is remembered as an event that could get lost: whenever a channel or the chain changes, the duties are derived
again, and each has a fixed name, so that it is taken on once (`settlement.obligations`).

| channel               | chain             | duty                                                                     |
| --------------------- | ----------------- | ------------------------------------------------------------------------ |
| FROZEN, both signed   | open              | submit the cooperative close (the other side: shortly before it dies) |
| withdrawal, both sig. | open              | submit it                                                                |
| CLOSING               | open              | close with the newest proofs                                             |
| CLOSED                | open              | the peer's close left the chain: close ourselves if it does not return   |
| CLOSED                | window open       | challenge whatever is older than what we hold                            |
| CLOSED                | window over       | settle                                                                   |
| SETTLED               | pots wait         | redeem, once every lock of a simplex is decided                          |
| any                   | lock near expiry  | register the secret that we revealed, or the deepest link that we hold,  |
|                       |                   | and were not paid for, unless its fee is above what it is worth          |

A unilateral close is a duty only of whoever wants it, or whom `must_close` forces: the peer does not pay for locks that
the chain shows to be ours, and they are worth more than closing costs. There is no hurry: what was registered in time
is owed for ever. A lock of our own that expired and whose end the peer holds back forces nothing: it comes back anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from tallystick.channels.arguments import Options
from tallystick.channels.conditions import HASH, amount_paid
from tallystick.channels.core import Channel, Phase, Wish
from tallystick.channels.discretion import Discreet
from tallystick.channels.eip712 import locks_root
from tallystick.channels.hashchain import StreamProof
from tallystick.channels.objects import NATIVE, ZERO32, Lock, SignedProof
from tallystick.settlement.chain import (
    Call,
    ChallengeCall,
    ChannelView,
    CloseCall,
    CooperativeCloseCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    WithdrawCall,
)
from tallystick.settlement.errors import Revert
from tallystick.settlement.index import CLOSED, OPEN, SETTLED
from tallystick.settlement.obligations import Obligation, Status
from tallystick.settlement.transactions import GAS, LOCK_GAS, gas_of

DUTY_NAMES = (
    "cooperative-close",
    "withdraw",
    "close",
    "challenge",
    "settle",
    "redeem",
    "register-secret",
    "register-link",
)
"""With these begin the names of obligations that are duties."""

STAND_IN = 300
"""Seconds before a cooperative close dies at which the side that did not ask for it submits it too."""

COURTESY = 60
"""Seconds that whoever did not close leaves to the closer before it settles, or closes anew, itself."""


_OFFER_DEAD = frozenset({Revert.EXPIRED, Revert.BAD_BALANCES, Revert.BAD_AMOUNT})


def judge(obligation: Obligation, reason: str) -> Status | None:
    """Say that a failed offer is moot: it was mined too late, or a deposit changed what it was about."""
    offered = isinstance(obligation.call, (CooperativeCloseCall, WithdrawCall))
    return Status.SUPERSEDED if offered and reason.partition(":")[0] in _OFFER_DEAD else None


def came_to_nothing(earlier: Obligation, duty: Obligation, head: int) -> bool:
    """Say whether `earlier`, taken on for a duty that is due at block `head`, has ended without doing it.

    Reorganisations do that: it failed, or was given up, on a branch on which it was moot, or its deadline was that of
    a close which left the chain. Offers are left alone: they die by themselves.
    """
    if isinstance(earlier.call, (CooperativeCloseCall, WithdrawCall)):
        return False
    if earlier.status is Status.QUARANTINED:
        return earlier.deadline != duty.deadline
    if earlier.receipt is not None:
        over = earlier.receipt.block.number <= head  # else the duty may only seem due, to who has not followed so far
    else:
        over = earlier.nonce is None or earlier.resting
    return earlier.status is Status.SUPERSEDED and over


class Situation(Discreet, msgspec.Struct, frozen=True):
    """What the chain says, as far as one channel is concerned."""

    view: ChannelView
    """At the head."""
    now: int
    """Block time of the head."""
    secrets: Mapping[bytes, tuple[int, bytes]]
    """Registered at the head: condition to (block time, secret, or the proof of a stream), in order of registration."""
    redeemed: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]
    """Earlier redeems, by simplex: block time, and the root of the locks that were left."""
    claims: Mapping[int, StreamProof] = {}
    """Not of the chain: the deepest links that we hold of the peer's streams, by lock."""
    market: int | None = None
    """What a unit of gas costs, None if that is not known."""
    stakes: Mapping[bytes, int] = {}
    """What is at stake for us on each secret that we know, in all channels of the chain's own coin together."""


class DutyPolicy(Options, frozen=True, kw_only=True):
    """How a node pays for its duties."""

    budget: int = 10**17
    """The most that one transaction may cost in fees, in the native coin's smallest unit."""
    secret_margin: int = 120
    """Seconds of chain time before a lock's expiry at which its secret is registered if the peer has not paid. No less
    than the channels' `reveal_margin`: a secret that was paid for at the last moment goes to the chain at once."""
    worth_percent: int = 100
    """What is claimed on chain has to be worth that much of the fee. 0: all is claimed, whatever it costs."""
    unlock_patience: int = 6 * 3_600
    """How long a peer may leave a lock unpaid that the chain shows to be ours before the channel is closed over it."""


def duties(
    channel: Channel, situation: Situation, policy: DutyPolicy, close_key: Callable[[Channel], bytes]
) -> list[Obligation]:
    """Return everything that should be on its way to the chain for this channel now."""
    name = channel.id.hex()[:16]
    found = [
        *_cooperate(channel, situation),
        *_withdraw(channel, situation),
        *_close(channel, situation, close_key),
        *_challenge(channel, situation),
        *_settle(channel, situation),
        *_redeem(channel, situation),
        *_register(channel, situation, policy),
        *_register_links(channel, situation, policy),
    ]
    return [
        Obligation(
            id=f"{duty.name}:{name}{duty.detail}",
            call=duty.call,
            purpose=f"{duty.name} channel {name[:8]}",
            budget=policy.budget,
            channel=channel.id,
            deadline=duty.deadline,
            not_before=duty.not_before,
        )
        for duty in found
    ]


class _Duty(msgspec.Struct, frozen=True):
    name: str
    call: Call
    detail: str = ""
    deadline: int | None = None
    not_before: int = 0


def _in_order(channel: Channel, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    return (ours, theirs) if channel.side == 0 else (theirs, ours)


def statements(channel: Channel) -> tuple[SignedProof | None, SignedProof | None]:
    """Return the newest doubly signed proofs of both simplices, in order of side; None for genesis."""
    ours, theirs = channel.ours.statement, channel.theirs.statement
    return (ours, theirs) if channel.side == 0 else (theirs, ours)


def _cooperate(channel: Channel, situation: Situation) -> Iterator[_Duty]:
    offer = channel.offer
    if situation.view.status != OPEN or offer is None or not offer.peer_signature or channel.phase is not Phase.FROZEN:
        return
    until = offer.close.valid_until
    if channel.shutdown is Wish.OWN or situation.now > until - STAND_IN:
        call = CooperativeCloseCall(offer.close, *_in_order(channel, offer.signature, offer.peer_signature))
        yield _Duty("cooperative-close", call, f":{until}", until)


def _withdraw(channel: Channel, situation: Situation) -> Iterator[_Duty]:
    pending = channel.withdrawals[channel.side]
    if situation.view.status == OPEN and pending is not None and pending.peer_signature:
        until = pending.withdrawal.valid_until
        call = WithdrawCall(pending.withdrawal, *_in_order(channel, pending.signature, pending.peer_signature))
        yield _Duty("withdraw", call, f":{pending.withdrawal.total}:{until}", until)


def _close(channel: Channel, situation: Situation, close_key: Callable[[Channel], bytes]) -> Iterator[_Duty]:
    if channel.phase in (Phase.CLOSING, Phase.CLOSED, Phase.SETTLED) and situation.view.status == OPEN:
        proof0, proof1 = statements(channel)
        patience = 0 if channel.phase is Phase.CLOSING else situation.now + COURTESY
        yield _Duty("close", CloseCall(channel.id, proof0, proof1, close_key(channel)), not_before=patience)


def _challenge(channel: Channel, situation: Situation) -> Iterator[_Duty]:
    view = situation.view
    if view.status != CLOSED or view.deadline is None or situation.now > view.deadline:
        return
    for sender, statement in enumerate(statements(channel)):
        if statement is not None and statement.proof.seq > view.seqs[sender]:
            detail = f":{sender}:{statement.proof.seq}:{view.seqs[sender]}"
            yield _Duty("challenge", ChallengeCall(statement), detail, view.deadline)


def _settle(channel: Channel, situation: Situation) -> Iterator[_Duty]:
    view = situation.view
    if view.status == CLOSED and view.deadline is not None:
        patience = 1 if view.closer == channel.side else COURTESY
        yield _Duty("settle", SettleCall(channel.id), f":{view.deadline}", not_before=view.deadline + patience)


def _redeem(channel: Channel, situation: Situation) -> Iterator[_Duty]:
    if situation.view.status != SETTLED:
        return
    for sender, pot in enumerate(situation.view.pots):
        locks = settled_locks(channel, situation, sender) if pot else ()
        if locks and all(_decided(lock, situation, situation.now) for lock in locks):
            detail = f":{sender}:{locks_root(locks).hex()[:8]}"
            yield _Duty("redeem", RedeemCall(channel.id, sender, locks), detail)


def _decided(lock: Lock, situation: Situation, time: int) -> bool:
    """Whether the contract pays or refunds the lock in a block of that time. A stream waits for its expiry."""
    registered = situation.secrets.get(lock.condition) if lock.kind == HASH else None
    return time > lock.expiry or (registered is not None and registered[0] <= min(time, lock.expiry))


def settled_locks(channel: Channel, situation: Situation, sender: int) -> tuple[Lock, ...]:
    """Return the locks that make up the settled root of simplex `sender`, in order of id; empty if we do not know them.

    It may be a state in flight: signed by us, countersigned by the peer, and never acknowledged to us.
    """
    states = [channel.ours, *channel.flight] if sender == channel.side else [channel.theirs]
    seq = situation.view.seqs[sender]
    for state in states:
        if state.seq == seq and state.simplex.proof.locks_root != ZERO32:
            locks = state.simplex.locks
            for time, root in situation.redeemed[sender]:
                locks = _left(locks, situation, time, root)
            return locks
    return ()


def _left(locks: tuple[Lock, ...], situation: Situation, time: int, root: bytes) -> tuple[Lock, ...]:
    """Return which locks a redeem in a block of that time left, empty if none make up the root that it told.

    Secrets registered in that very block count only if they came before the redeem: which did, the root tells.
    """
    same_block = [condition for condition, (registered, _) in situation.secrets.items() if registered == time]
    for first_late in range(len(same_block), -1, -1):
        late = same_block[first_late:]
        left = tuple(
            lock
            for lock in locks
            if not _decided(lock, situation, time) or (time <= lock.expiry and lock.condition in late)
        )
        if locks_root(left) == root:
            return left
    return ()


def _is_worth(channel: Channel, stake: int, gas: int, situation: Situation, policy: DutyPolicy) -> bool:
    """Whether claiming `stake` is worth its fee. What has no price in the chain's own coin always is."""
    if channel.terms.asset != NATIVE or situation.market is None:
        return True
    return 100 * stake >= policy.worth_percent * gas * situation.market


def claim_fee(market: int | None, policy: DutyPolicy) -> int:
    """Return below what worth a secret is not claimed, in the native coin: 0 if all are, or no price is known."""
    return policy.worth_percent * GAS[RegisterSecretCall] * (market or 0) // 100


def must_close(channel: Channel, situation: Situation, policy: DutyPolicy) -> bool:
    """Whether the peer has long owed us locks that the chain shows to be ours, worth more than closing costs."""
    if channel.phase not in (Phase.OPEN, Phase.FROZEN) or situation.view.status != OPEN or situation.market is None:
        return False
    owed = [
        amount_paid(lock, proof)
        for lock in channel.theirs.simplex.locks
        for time, proof in [situation.secrets.get(lock.condition, (lock.expiry + 1, b""))]
        if time <= lock.expiry and situation.now > _due(lock, time) + policy.unlock_patience
    ]
    locks = len(channel.theirs.simplex.locks) + len(channel.newest.locks)
    gas = GAS[CloseCall] + GAS[SettleCall] + 2 * GAS[RedeemCall] + LOCK_GAS * locks
    return bool(owed) and _is_worth(channel, sum(owed), gas, situation, policy)


def _due(lock: Lock, registered: int) -> int:
    """Return since when the peer could have known that the lock is to be paid, and how much of it."""
    return registered if lock.kind == HASH else lock.expiry


def _register(channel: Channel, situation: Situation, policy: DutyPolicy) -> Iterator[_Duty]:
    for known in channel.secrets:
        lock = channel.theirs.simplex.lock(known.lock)
        if lock is None or lock.condition in situation.secrets or situation.now > lock.expiry:
            continue
        call = RegisterSecretCall(known.secret)
        stake = max(lock.amount, situation.stakes.get(lock.condition, 0))
        if not _is_worth(channel, stake, gas_of(call), situation, policy):
            continue
        if channel.phase is not Phase.OPEN or lock.expiry - situation.now <= policy.secret_margin:
            yield _Duty("register-secret", call, f":{lock.id}", lock.expiry)


def _register_links(channel: Channel, situation: Situation, policy: DutyPolicy) -> Iterator[_Duty]:
    for lock_id, claim in situation.claims.items():
        lock = channel.theirs.simplex.lock(lock_id)
        if lock is None or situation.now > lock.expiry:
            continue
        _, proof = situation.secrets.get(lock.condition, (0, b""))
        known = StreamProof.decode(proof).amount if proof else 0
        if known >= claim.amount:
            continue
        if channel.phase is not Phase.OPEN or lock.expiry - situation.now <= policy.secret_margin:
            terms = claim.terms
            call = RegisterLinkCall(claim.link, claim.depth, terms.tip, terms.unit, terms.length, lock.expiry)
            if not _is_worth(channel, claim.amount - known, gas_of(call), situation, policy):
                continue
            yield _Duty("register-link", call, f":{lock.id}:{claim.depth}", lock.expiry)
