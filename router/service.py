"""The router of a node: decides about incoming locks, forwards, and hands the rest to payer and payee.

It hangs on the engine as its `LockKeeper`: everything it decides is part of the commit of what made it decide. So an
incoming lock, the record of its onion, the circuit and the outgoing lock's signature are one transaction. It has no
task and no clock of its own; time passes with the chain's blocks. After a restart every pending incoming lock that was
not answered is looked at again (`start`): with a circuit it waits for its outgoing lock; without one nothing was signed
for it, and it is decided anew, once the channel onwards is in step, or refused if that takes too long.

Locks without an onion are none of its business: an application opened them, and an application answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tallystick.channels import core
from tallystick.channels.core import Phase
from tallystick.channels.engine import Engine
from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.keys import PrivateKey
from tallystick.channels.limits import LOCKS_MAX
from tallystick.channels.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.operations import AddLock
from tallystick.channels.session import Session
from tallystick.channels.store import Moment, Store
from tallystick.router import replay
from tallystick.router.circuits import (
    CircuitClosed,
    CircuitOpened,
    CircuitRejected,
    PolicySet,
    ReputationSaved,
    load_circuits,
    load_policies,
    load_reputations,
)
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.failures import NOTICE_SIZE, Failure, first_wrap, refusal
from tallystick.router.forwarder import (
    Answer,
    Circuit,
    Claim,
    Close,
    Forwarder,
    ForwardingLimits,
    Name,
    Outcome,
    Outlet,
    Release,
    Remember,
    Way,
    choose,
)
from tallystick.router.jamming import Asked, Bucket, Jamming, JammingLimits, Reputation
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.payload import FinalPayload, ForwardPayload, Payload, decode_payload
from tallystick.router.replay import Replays
from tallystick.router.sphinx import Peeled, peel


class RoutingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a node takes part in the payment network."""

    policy: ForwardingPolicy = ForwardingPolicy(base_fee=0, fee_ppm=1_000)
    """What it asks for payments over its channels, where the owner says nothing else."""
    policies: dict[Address, ForwardingPolicy] = {}
    """The same for channels in other assets than the chain's coin. Where an asset is not named, it is the policy above
    without its amounts (no base fee, any amount): those are in units of the coin."""
    limits: ForwardingLimits = ForwardingLimits()
    jamming: JammingLimits = JammingLimits()

    def policy_in(self, asset: Address) -> ForwardingPolicy:
        """Return what is asked for payments over channels in an asset, where the owner says nothing else."""
        if asset == NATIVE:
            return self.policy
        rates = msgspec.structs.replace(self.policy, base_fee=0, minimum=1, maximum=0)
        return self.policies.get(asset, rates)


class FinalLock(msgspec.Struct, frozen=True):
    """A lock that ends at this node."""

    channel: ChannelId
    lock: Lock
    payload: FinalPayload
    secret: bytes
    """Shared with the payer by the onion: `Router.refuse` needs it."""
    asset: Address = NATIVE
    """Of the channel."""
    again: bool = False
    """It was pending when the node went down, and handed to the payee before."""


class PayeeSeam(Protocol):
    """Who takes payments in. Called within the commit of what happened: must neither wait nor raise."""

    def arrived(self, final: FinalLock) -> Sequence[Moment]:
        """A lock ends here: `Router.reveal` or `Router.refuse` it, now or later. Told again after a restart."""
        ...

    def gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """An incoming lock that is no forwarded one has ended, paid for its secret or (empty) taken back."""
        ...

    def time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        ...


class PayerSeam(Protocol):
    """Who sends payments. Told of all locks of ours that are not forwarded ones, as `LockKeeper` says."""

    def secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """The lock will be paid."""
        ...

    def lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """The peer gives it back; it is not ours again yet."""
        ...

    def lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """It is agreed gone."""
        ...

    def lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """It was given up unsigned."""
        ...

    def channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks (again)."""
        ...

    def time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        ...


class RouterStatistics(msgspec.Struct, frozen=True):
    """Counters since the start."""

    forwarding: int
    """Payments on their way through this node now."""
    forwarded: int
    failed: int
    """Forwarded, and came back."""
    refused: int
    """Not forwarded."""
    earned: int
    """Fees in the chain's coin; the list of forwards has those in other assets, too."""
    onions: int
    """Remembered against replays."""


class _Waiting(msgspec.Struct):
    """A lock from before the restart whose channel onwards is not in step yet."""

    channel: ChannelId
    added: AddLock
    until: int


class Router:
    """See the module's docstring. Make it with an engine, `start` it once the chain was caught up with."""

    def __init__(
        self,
        key: PrivateKey,
        engine: Engine,
        store: Store,
        options: RoutingOptions,
        *,
        fresh: Callable[[], bool],
        alarm: Callable[[str], None],
    ) -> None:
        """`fresh` says whether our view of the chain is up to date; `alarm` is told what a person should know."""
        self.options = options
        self.payer: PayerSeam | None = None
        self.payee: PayeeSeam | None = None
        self.update_of: Callable[[ChannelId], bytes] = lambda channel: b""
        """Returns the newest announced policy of a channel of ours, as gossip carries it, for failures."""
        self.on_ready: Callable[[ChannelId], None] = lambda channel: None
        """Told of every channel that its peer is in step."""
        self._key = key
        self._engine = engine
        self._fresh = fresh
        self._alarm = alarm
        self._forwarder = Forwarder(self._hide)
        self._replays = Replays(replay.load_onions(store))
        reputations = [(row.peer, Reputation(row.worth, row.earned, row.time)) for row in load_reputations(store)]
        self._jamming = Jamming(options.jamming, reputations)
        self._policies = load_policies(store)
        self._waiting: dict[Name, _Waiting] = {}
        self._counts = dict.fromkeys(Outcome, 0)
        self._refused = self._earned = 0
        self._forwarder.resume(load_circuits(store))
        for circuit in self._forwarder.circuits:
            self._began(circuit, Bucket.GENERAL)
        engine.keep_locks(self)

    def __repr__(self) -> str:
        return f"<Router forwarding={len(self._forwarder)} onions={len(self._replays)}>"

    # --- what the node asks --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look again at every incoming lock that was pending when the node went down. Peers come after."""
        until = self._engine.chain.now + self.options.limits.unsigned_max
        for session in list(self._engine.sessions.values()):
            for added in session.locks.undecided():
                name = (session.channel.id, added.lock.id)
                if added.onion and self._forwarder.of_origin(*name) is None:
                    self._waiting[name] = _Waiting(session.channel.id, added, until)
        self._engine.store(self._look_again())

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one, no secret is given away."""
        return self._fresh()

    def policy_of(self, channel: ChannelId) -> ForwardingPolicy:
        """Return what is asked for payments over a channel, outwards."""
        chosen = self._policies.get(channel)
        if chosen is not None:
            return chosen
        session = self._engine.sessions.get(channel)
        return self.options.policy_in(NATIVE if session is None else session.channel.terms.asset)

    def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> Sequence[Moment]:
        """Ask something else from now on; return what to commit. Locks that were forwarded before stay as they are.

        Raise InvalidInput if the channel is unknown, or the policy one that cannot be announced or carries nothing.
        """
        self._engine.session(channel)
        if flaw := policy.flaw():
            raise InvalidInput(flaw)
        if policy.enabled and 0 < policy.maximum < policy.minimum:
            raise InvalidInput("a policy whose maximum is below its minimum carries nothing: disable it instead")
        self._policies[channel] = policy
        return (PolicySet(channel, policy),)

    def send_lock(
        self, channel: ChannelId, amount: int, expiry: int, condition: bytes, onion: bytes, attach: Moment | None = None
    ) -> int:
        """Queue a lock of our own and return its number (before: `next_lock`).

        Raise ChannelNotReady unless the channel is `usable`, else as `Session.add_lock` does; nothing was done then.
        """
        session = self._engine.session(channel)
        if not session.usable:
            raise ChannelNotReady(
                f"the peer of channel {channel.hex()[:8]} is not connected or acknowledges nothing now"
            )
        lock = session.add_lock(amount, expiry, condition, onion, attach=attach)
        self._engine.touch(session)
        return lock

    def next_lock(self, channel: ChannelId) -> int:
        """Return the number that the next lock over a channel will have."""
        return self._engine.session(channel).next_lock

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim an incoming lock; return whether it is there (still) to be claimed."""
        session = self._engine.session(channel)
        try:
            session.reveal(lock, secret)
        except InvalidInput:
            return False
        self._engine.touch(session)
        return True

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        """Let a lock that ends here go, for a reason that only the payer can read."""
        self._release(final.channel, final.lock.id, self._hide(final.secret, failure))

    def statistics(self) -> RouterStatistics:
        """Return the figures of this moment."""
        paid = self._counts[Outcome.PAID]
        failed = self._counts[Outcome.FAILED] + self._counts[Outcome.EXPIRED]
        return RouterStatistics(len(self._forwarder), paid, failed, self._refused, self._earned, len(self._replays))

    # --- LockKeeper: the peers' locks ----------------------------------------------------------------------------

    def lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        """Decide about a lock that came with an onion."""
        return self._decide(channel, added, patient=False) or () if added.onion else ()

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        """Say a channel's objection to a lock in words that only the payer can read."""
        if not added.onion:
            return objection.encode()
        try:
            secret = peel(self._key, added.onion, added.lock.condition).secret
        except InvalidOnion as error:
            return refusal(error, added.onion)
        self._refused += 1
        policy, expiry, now = self._engine.policy, added.lock.expiry, self._engine.chain.now
        code = Code.TEMPORARY_CHANNEL_FAILURE
        if expiry < now + policy.lock_expiry_min:
            code = Code.EXPIRY_TOO_SOON
        elif expiry > now + policy.lock_expiry_max:
            code = Code.EXPIRY_TOO_FAR
        return self._hide(secret, Failure(code))

    def _decide(self, channel: ChannelId, added: AddLock, *, patient: bool, again: bool = False) -> list[Moment] | None:
        """Forward a lock, hand it to the payee or refuse it; return what to store.

        `again`: it was pending at a restart. Return None if it is to wait for its channel onwards (only if `patient`).
        """
        lock, moments = added.lock, list[Moment]()
        peeled: Peeled | None = None
        try:
            peeled = peel(self._key, added.onion, lock.condition)
            payload = _read(peeled)
            if payload.expiry > lock.expiry:
                code = Code.FINAL_INCORRECT_EXPIRY if peeled.next_packet is None else Code.INCORRECT_EXPIRY
                self._refuse(channel, lock, peeled.secret, Failure(code, time=lock.expiry))
                return moments
            seen = self._replays.check(peeled.secret, channel, lock.id, lock.expiry)
        except InvalidOnion as error:
            self._refused += 1
            self._release(channel, lock.id, refusal(error, added.onion, peeled.secret if peeled else b""))
            return moments
        if seen is not None:
            moments.append(seen)
        phase = self._engine.session(channel).channel.phase
        final = isinstance(payload, FinalPayload)
        if phase in (Phase.SETTLED, Phase.GONE) or (phase is not Phase.OPEN and not final):
            # it may not be in what the chain paid out: nothing may be given for it any more
            self._refuse(channel, lock, peeled.secret, Failure(Code.PERMANENT_CHANNEL_FAILURE, channel=channel))
            return moments
        if not self._fresh():
            if patient:
                self._engine.store(moments)
                return None
            self._refuse(channel, lock, peeled.secret, Failure(Code.TEMPORARY_NODE_FAILURE))
            return moments
        if isinstance(payload, FinalPayload):
            asset = self._engine.session(channel).channel.terms.asset
            return moments + self._arrived(FinalLock(channel, lock, payload, peeled.secret, asset, again))
        found = self._forward(channel, lock, payload, peeled)
        if isinstance(found, Failure):
            if patient and found.code is Code.CHANNEL_DISABLED:
                self._engine.store(moments)
                return None
            self._refuse(channel, lock, peeled.secret, found)
        return moments

    def _arrived(self, final: FinalLock) -> list[Moment]:
        if self.payee is None:
            details = Failure(
                Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, amount=final.lock.amount, time=self._engine.chain.now
            )
            self._refuse(final.channel, final.lock, final.secret, details)
            return []
        return list(self.payee.arrived(final))

    def _forward(self, channel: ChannelId, lock: Lock, order: ForwardPayload, peeled: Peeled) -> Failure | None:
        """Queue the outgoing lock with its circuit, or return why not."""
        now = self._engine.chain.now
        found = choose(lock, channel, order, self._outlets(channel, order.channel), now, self.options.limits)
        if isinstance(found, Failure):
            return found
        session = self._engine.session(found.channel)
        circuit = Circuit(
            incoming=channel,
            incoming_lock=lock.id,
            outgoing=found.channel,
            outgoing_lock=session.next_lock,
            amount_in=lock.amount,
            amount_out=order.amount,
            expiry=order.expiry,
            secret=peeled.secret,
            began=now,
        )
        bucket = self._jamming.admit(self._asked(circuit), now)
        try:
            if bucket is None:
                raise ChannelNotReady("what this payment may take of the channel is taken")
            onion = peeled.next_packet or b""
            session.add_lock(order.amount, order.expiry, lock.condition, onion, attach=CircuitOpened(circuit))
        except InvalidInput:
            return Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=order.channel)
        self._forwarder.opened(circuit)
        self._began(circuit, bucket)
        self._engine.touch(session)
        return None

    def _outlets(self, source: ChannelId, target: ChannelId) -> list[Outlet]:
        """Return what a payment from `source` over `target` could go through."""
        named = self._engine.sessions.get(target)
        if named is None:
            return []
        sessions = {session.channel.id: session for session in self._engine.sessions_with(named.channel.peer_key)}
        sessions[source] = self._engine.session(source)
        return [self._outlet(session) for session in sessions.values() if session.channel.phase is not Phase.GONE]

    def _outlet(self, session: Session) -> Outlet:
        channel = session.channel
        way = Way.CLOSING
        if session.payable:
            way = Way.OPEN if session.usable else Way.OFFLINE
        signable = core.capacity(channel, session.funding) - channel.reserve - session.outbox.total
        pending = len(channel.newest.locks) + session.outbox.queued_locks
        policy = self.policy_of(channel.id)
        asset = channel.terms.asset
        return Outlet(channel.id, channel.peer_key, asset, policy, way, max(0, signable), LOCKS_MAX - pending)

    # --- LockKeeper: our locks -----------------------------------------------------------------------------------

    def secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """A lock of ours will be paid: claim what it stands for."""
        if self._forwarder.holds(channel, lock.id):
            return self._do(self._forwarder.learned(channel, lock.id, secret))
        return self.payer.secret_learned(channel, lock, secret) if self.payer is not None else ()

    def lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """A lock of ours is being given back."""
        circuit = self._forwarder.circuit(channel, lock.id)
        if circuit is not None:
            return self._do(self._forwarder.rejected(channel, lock.id, self._checked(circuit, lock, reason)))
        return self.payer.lock_rejected(channel, lock, reason) if self.payer is not None else ()

    def _checked(self, circuit: Circuit, lock: Lock, reason: bytes) -> bytes:
        """Return the reason of a reject; a notice is made to name the onion that we sent, else we would be blamed."""
        if len(reason) != NOTICE_SIZE:
            return reason
        onion = self._engine.session(circuit.incoming).locks.onion(circuit.incoming_lock)
        try:
            sent = peel(self._key, onion, lock.condition).next_packet or b""
        except InvalidOnion:
            return b"no onion was sent"  # no failure at all: the channel is blamed
        return reason[:2] + hashlib.sha256(sent).digest()

    def lock_ended(self, channel: ChannelId, sender: int, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """A lock is agreed gone."""
        if sender != self._engine.session(channel).channel.side:
            if self._forwarder.of_origin(channel, lock.id) is not None:
                return self._do(self._forwarder.origin_paid(channel, lock.id)) if paid else ()
            self._waiting.pop((channel, lock.id), None)
            return self.payee.gone(channel, lock, secret) if self.payee is not None else ()
        if self._forwarder.holds(channel, lock.id):
            return self._do(self._forwarder.ended(channel, lock.id, secret))
        return self.payer.lock_ended(channel, lock, paid, secret) if self.payer is not None else ()

    def lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """A lock of ours was given up unsigned."""
        if self._forwarder.holds(channel, lock.id):
            self._jamming.forget((channel, lock.id))
            return self._do(self._forwarder.dropped(channel, lock.id))
        return self.payer.lock_dropped(channel, lock) if self.payer is not None else ()

    def channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks again: look again at what waited for it."""
        self.on_ready(channel)
        moments = self._look_again()
        return (*moments, *self.payer.channel_ready(channel)) if self.payer is not None else moments

    def chain_moved(self) -> Sequence[Moment]:
        """Time has passed: give up what waits for too long, release what can never be paid."""
        moments: list[Moment] = []
        self._give_up_unsigned()
        self._bar_debtors()
        moments += self._do(self._forwarder.on_time(self._engine.chain.final, self._is_gone))
        moments += self._look_again()
        for seam in (self.payee, self.payer):
            moments += seam.time_passed() if seam is not None else ()
        forgotten = self._replays.prune(self._engine.chain.final)
        moments += [forgotten] if forgotten is not None else []
        return moments + [
            ReputationSaved(peer, reputation.worth, reputation.earned, reputation.time)
            for peer, reputation in self._jamming.take_changed()
        ]

    def _bar_debtors(self) -> None:
        """Forward nothing more for whoever let a lock expire unpaid although it got the secret."""
        chain = self._engine.chain
        for session in self._engine.sessions.values():
            for known in session.channel.secrets:
                lock = session.channel.theirs.simplex.lock(known.lock)
                if lock is None or lock.expiry >= chain.final or chain.registered_in_time(lock) is not None:
                    continue
                if self._jamming.bar(session.channel.peer_key, chain.now):
                    self._alarm(
                        f"the peer of channel {session.channel.id.hex()[:8]} got a secret and did not pay the "
                        f"{lock.amount} for it: nothing is forwarded for it for now; close the channel if it goes on"
                    )

    def _give_up_unsigned(self) -> None:
        """Give up outgoing locks that wait for their peer's acknowledgement of earlier ones for too long.

        At once, if the channel that is to pay for them is closing.
        One that expires unsigned must never be signed: its incoming lock is about to be released.
        """
        now, limits = self._engine.chain.now, self.options.limits
        for circuit in self._forwarder.circuits:
            session = self._engine.session(circuit.outgoing)
            if circuit.outgoing_lock >= session.channel.newest.next_lock:
                closing = self._engine.session(circuit.incoming).channel.phase is not Phase.OPEN
                if closing or now > circuit.began + limits.unsigned_max:
                    session.locks.drop_accompanied()
                if now >= circuit.expiry and circuit.outgoing_lock < session.next_lock:
                    session.locks.drop()

    def _is_gone(self, channel: ChannelId) -> bool:
        return self._engine.session(channel).channel.phase is Phase.GONE

    def _look_again(self) -> list[Moment]:
        """Decide about the locks from before the restart whose channels onwards are in step, or are too long not."""
        moments: list[Moment] = []
        for name, waiting in list(self._waiting.items()):
            patient = self._engine.chain.now <= waiting.until
            decided = self._decide(waiting.channel, waiting.added, patient=patient, again=True)
            if decided is not None:
                self._waiting.pop(name, None)
                moments += decided
        return moments

    # --- doing ---------------------------------------------------------------------------------------------------

    def _do(self, answers: Sequence[Answer]) -> list[Moment]:
        """Do what the forwarder says; return what to store."""
        moments: list[Moment] = []
        for answer in answers:
            if isinstance(answer, Claim):
                moments += self._claim(answer)
            elif isinstance(answer, Release):
                self._release(answer.channel, answer.lock, answer.reason)
            elif isinstance(answer, Remember):
                circuit = answer.circuit
                moments.append(CircuitRejected(circuit.outgoing, circuit.outgoing_lock, answer.reason))
            elif isinstance(answer, Close):
                moments.append(self._close(answer))
        return moments

    def _claim(self, claim: Claim) -> list[Moment]:
        circuit = self._forwarder.of_origin(claim.channel, claim.lock)
        if self.reveal(claim.channel, claim.lock, claim.secret) or circuit is None:
            return []
        self._alarm(
            f"{circuit.amount_out} was paid onwards, and the lock that was to pay for it in channel "
            f"{claim.channel.hex()[:8]} is gone: check whether this node runs on an old copy of its data"
        )
        return self._do(self._forwarder.lost(circuit))

    def _close(self, close: Close) -> Moment:
        now = self._engine.chain.now
        self._counts[close.outcome] += 1
        asset = self._engine.session(close.circuit.outgoing).channel.terms.asset
        self._earned += close.circuit.fee if close.outcome is Outcome.PAID and asset == NATIVE else 0
        self._jamming.ended(close.circuit.name, close.outcome is Outcome.PAID, now)
        return CircuitClosed(close.circuit, close.outcome, now)

    def _refuse(self, channel: ChannelId, lock: Lock, secret: bytes, failure: Failure) -> None:
        self._refused += 1
        self._release(channel, lock.id, self._hide(secret, failure))

    def _release(self, channel: ChannelId, lock: int, reason: bytes) -> None:
        """Reject an incoming lock. One that is gone, or was claimed, stays as it is."""
        session = self._engine.session(channel)
        try:
            session.reject(lock, reason)
        except InvalidInput:
            return
        self._engine.touch(session)

    def _hide(self, secret: bytes, failure: Failure) -> bytes:
        if failure.code.of_policy and failure.channel and not failure.update:
            failure = msgspec.structs.replace(failure, update=self.update_of(ChannelId(failure.channel)))
        return first_wrap(secret, failure)

    # --- jamming -------------------------------------------------------------------------------------------------

    def _asked(self, circuit: Circuit) -> Asked:
        incoming = self._engine.session(circuit.incoming).channel
        outgoing = self._engine.session(circuit.outgoing).channel
        return Asked(
            incoming=incoming.peer_key,
            outgoing=outgoing.peer_key,
            channel=outgoing.id,
            amount=circuit.amount_out,
            fee=circuit.fee,
            expiry=circuit.expiry,
            slots=LOCKS_MAX,
            value=outgoing.funding(0) + outgoing.funding(1),
            asset=b"" if outgoing.terms.asset == NATIVE else outgoing.terms.asset,
        )

    def _began(self, circuit: Circuit, bucket: Bucket) -> None:
        self._jamming.began(circuit.name, self._asked(circuit), bucket, circuit.began)


def _read(peeled: Peeled) -> Payload:
    """Return what the onion says; raise InvalidOnion unless it is for a hop in this place."""
    payload = decode_payload(peeled.payload)
    if isinstance(payload, FinalPayload) != (peeled.next_packet is None):
        raise InvalidOnion("the onion ends where it should go on, or the reverse", Code.INVALID_ONION_PAYLOAD)
    return payload
