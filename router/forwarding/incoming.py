"""What becomes of a lock that comes in with an onion. It is forwarded, kept or refused.

    peel, read, replay record ──▶ is its channel alive, our view of the chain fresh? ──▶ forwarded: `forwarder.choose`,
                                                                                       │  `admission`, then queued with
                                                                                       │  its circuit
                                                                                       └▶ ends here: the payee's

Everything is part of the commit of the update that brought the lock. After a restart every pending incoming lock that
was not answered is looked at again: with a circuit it waits for its outgoing lock; without one nothing was signed for
it, and it is decided anew, once the channel onwards is in step, or refused if that takes too long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.inputs import RejectLock, SubmitLock
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage.store import Moment
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.forwarding.admission import Admission
from tallystick.router.forwarding.circuits import CircuitOpened
from tallystick.router.forwarding.forwarder import (
    Circuit,
    Forwarder,
    ForwardingLimits,
    Name,
    OutboundChannel,
    Readiness,
    choose,
)
from tallystick.router.forwarding.ports import FinalLock
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import NOTICE_SIZE, Failure, first_wrap, refusal
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, Payload, decode_payload
from tallystick.router.onion.replay import Replays
from tallystick.router.onion.sphinx import Peeled, peel


class _UnresolvedLock(msgspec.Struct):
    """A lock from before the restart whose channel onwards is not in step yet."""

    channel: ChannelId
    added: AddLock
    until: int


class IncomingLocks:
    """See the module's docstring. Part of a `Router`."""

    def __init__(
        self,
        key: PrivateKey,
        engine: Engine,
        forwarder: Forwarder,
        admission: Admission,
        replays: Replays,
        limits: ForwardingLimits,
        *,
        policy_of: Callable[[ChannelId], ForwardingPolicy],
        update_of: Callable[[ChannelId], bytes],
        fresh: Callable[[], bool],
        arrived: Callable[[FinalLock], Sequence[Moment]],
    ) -> None:
        """`arrived` takes the locks that end here; the others are as in `Router`."""
        self.refused = 0
        """Locks that were, since the start."""
        self._key = key
        self._engine = engine
        self._forwarder = forwarder
        self._admission = admission
        self._replays = replays
        self._limits = limits
        self._policy_of = policy_of
        self._update_of = update_of
        self._fresh = fresh
        self._arrived = arrived
        self._waiting: dict[Name, _UnresolvedLock] = {}

    # --- when ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look again at every incoming lock that was pending when the node went down."""
        until = self._engine.chain.now + self._limits.unsigned_max
        for channel in self._engine.views.ids:
            for added in self._engine.views.undecided(channel):
                name = (channel, added.lock.id)
                if added.onion and self._forwarder.of_origin(*name) is None:
                    self._waiting[name] = _UnresolvedLock(channel, added, until)
        self._engine.store(self.look_again())

    def look_again(self) -> list[Moment]:
        """Decide about the locks from before the restart whose channels onwards are in step, or are too long not."""
        moments: list[Moment] = []
        for name, waiting in list(self._waiting.items()):
            patient = self._engine.chain.now <= waiting.until
            decided = self.decide(waiting.channel, waiting.added, patient=patient, again=True)
            if decided is not None:
                self._waiting.pop(name, None)
                moments += decided
        return moments

    def forget(self, channel: ChannelId, lock: int) -> None:
        """An incoming lock is gone: nothing is left to decide."""
        self._waiting.pop((channel, lock), None)

    # --- what ----------------------------------------------------------------------------------------------------

    def decide(self, channel: ChannelId, added: AddLock, *, patient: bool, again: bool = False) -> list[Moment] | None:
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
                self.refuse(channel, lock, peeled.secret, Failure(code, time=lock.expiry))
                return moments
            seen = self._replays.check(peeled.secret, channel, lock.id, lock.expiry)
        except InvalidOnion as error:
            self.refused += 1
            self.release(channel, lock.id, refusal(error, added.onion, peeled.secret if peeled else b""))
            return moments
        if seen is not None:
            moments.append(seen)
        phase = self._engine.view(channel).channel.phase
        final = isinstance(payload, FinalPayload)
        if phase in (Phase.SETTLED, Phase.GONE) or (phase is not Phase.OPEN and not final):
            # it may not be in what the chain paid out: nothing may be given for it any more
            self.refuse(channel, lock, peeled.secret, Failure(Code.PERMANENT_CHANNEL_FAILURE, channel=channel))
            return moments
        if not self._fresh():
            if patient:
                self._engine.store(moments)
                return None
            self.refuse(channel, lock, peeled.secret, Failure(Code.TEMPORARY_NODE_FAILURE))
            return moments
        if isinstance(payload, FinalPayload):
            return moments + self._keep(channel, lock, payload, peeled.secret, again=again)
        found = self._forward(channel, lock, payload, peeled)
        if isinstance(found, Failure):
            if patient and found.code is Code.CHANNEL_DISABLED and not self._engine.view(payload.channel).usable:
                self._engine.store(moments)
                return None
            self.refuse(channel, lock, peeled.secret, found)
        return moments

    def _keep(
        self, channel: ChannelId, lock: Lock, payload: FinalPayload, secret: bytes, *, again: bool
    ) -> list[Moment]:
        """Hand a lock to the payee. One that it had before a restart (`again`) is not refused for what it is worth."""
        if not again and not self._admission.accepts(channel, lock):
            self.refuse(channel, lock, secret, Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=channel))
            return []
        self._admission.accepted(channel, lock)
        asset = self._engine.view(channel).channel.terms.asset
        return list(self._arrived(FinalLock(channel, lock, payload, secret, asset, again)))

    def _forward(self, channel: ChannelId, lock: Lock, order: ForwardPayload, peeled: Peeled) -> Failure | None:
        """Queue the outgoing lock with its circuit, or return why not."""
        now = self._engine.chain.now
        found = choose(lock, channel, order, self._outbound_channels(channel, order.channel), now, self._limits)
        if isinstance(found, Failure):
            return found
        circuit = Circuit(
            incoming=channel,
            incoming_lock=lock.id,
            outgoing=found.channel,
            outgoing_lock=self._engine.session(found.channel).next_lock,
            amount_in=lock.amount,
            amount_out=order.amount,
            expiry=order.expiry,
            secret=peeled.secret,
            began=now,
        )
        bucket = self._admission.admit(circuit)
        try:
            if bucket is None:  # nothing is said of what the channel can carry: this is over in a moment
                return Failure(Code.CHANNEL_DISABLED, channel=order.channel)
            onion = peeled.next_packet or b""
            asked = SubmitLock(order.amount, order.expiry, lock.condition, onion, attach=CircuitOpened(circuit))
            self._engine.apply(found.channel, asked)
        except InvalidInput:
            return Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=order.channel)
        self._forwarder.opened(circuit)
        self._admission.began(circuit, lock, bucket)
        return None

    def _outbound_channels(self, source: ChannelId, target: ChannelId) -> list[OutboundChannel]:
        """Return what a payment from `source` over `target` could go through."""
        named = self._engine.views.get(target)
        if named is None:
            return []
        views = {view.channel.id: view for view in self._engine.views.with_peer(named.channel.peer_key)}
        views[source] = self._engine.view(source)
        return [self._outbound_channel(view) for view in views.values() if view.channel.phase is not Phase.GONE]

    def _outbound_channel(self, view: ChannelView) -> OutboundChannel:
        channel = view.channel
        way = Readiness.CLOSING
        if view.payable:
            way = Readiness.OPEN if view.usable else Readiness.OFFLINE
        policy = self._policy_of(channel.id)
        asset = channel.terms.asset
        return OutboundChannel(channel.id, channel.peer_key, asset, policy, way, view.signable, view.lock_slots)

    # --- and what the payer is told ------------------------------------------------------------------------------

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        """Say a channel's objection to a lock in words that only the payer can read."""
        if not added.onion:
            return objection.encode()
        try:
            secret = peel(self._key, added.onion, added.lock.condition).secret
        except InvalidOnion as error:
            return refusal(error, added.onion)
        self.refused += 1
        policy, expiry, now = self._engine.policy, added.lock.expiry, self._engine.chain.now
        code = Code.TEMPORARY_CHANNEL_FAILURE
        if expiry < now + policy.lock_expiry_min:
            code = Code.EXPIRY_TOO_SOON
        elif expiry > now + policy.lock_expiry_max:
            code = Code.EXPIRY_TOO_FAR
        return self.hide(secret, Failure(code))

    def checked(self, circuit: Circuit, lock: Lock, reason: bytes) -> bytes:
        """Return the reason of a reject; a notice is made to name the onion that we sent, else we would be blamed."""
        if len(reason) != NOTICE_SIZE:
            return reason
        onion = self._engine.views.onion(circuit.incoming, circuit.incoming_lock)
        try:
            sent = peel(self._key, onion, lock.condition).next_packet or b""
        except InvalidOnion:
            return b"no onion was sent"  # no failure at all: the channel is blamed
        return reason[:2] + hashlib.sha256(sent).digest()

    def refuse(self, channel: ChannelId, lock: Lock, secret: bytes, failure: Failure) -> None:
        """Reject an incoming lock for a reason of ours."""
        self.refused += 1
        self.release(channel, lock.id, self.hide(secret, failure))

    def release(self, channel: ChannelId, lock: int, reason: bytes) -> None:
        """Reject an incoming lock. One that is gone, or was claimed, stays as it is."""
        try:
            self._engine.apply(channel, RejectLock(lock, reason))
        except InvalidInput:
            return
        self._admission.freed(channel, lock)

    def hide(self, secret: bytes, failure: Failure) -> bytes:
        """Return the reason that tells the payer of a failure of ours, with the newest policy of what it is about."""
        if failure.code.of_policy and failure.channel and not failure.update:
            failure = msgspec.structs.replace(failure, update=self._update_of(ChannelId(failure.channel)))
        return first_wrap(secret, failure)


def _read(peeled: Peeled) -> Payload:
    """Return what the onion says; raise InvalidOnion unless it is for a hop in this place."""
    payload = decode_payload(peeled.payload)
    if isinstance(payload, FinalPayload) != (peeled.next_packet is None):
        raise InvalidOnion("the onion ends where it should go on, or the reverse", Code.INVALID_ONION_PAYLOAD)
    return payload
