"""The relay: what is to become of a lock that comes in with an onion. It says so, and does nothing.

peel, read, replay record ──▶ is its channel alive, our view of the chain fresh? ─┬▶ `Deliver`: it ends here
                                                                                  ├▶ `Forward`: `choose` and `admission`
                                                                                  │   let it pass
                                                                                  └▶ `Fail`
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.router.codes import Code
from tallystick.router.errors import InvalidOnion
from tallystick.router.forwarding.admission import Admission, IncomingLocks
from tallystick.router.forwarding.forwarder import Circuit, ForwardingLimits, OutboundChannel, Readiness, choose
from tallystick.router.forwarding.jamming import Bucket
from tallystick.router.forwarding.policies import Policies
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.forwarding.stakes import Stakes
from tallystick.router.onion.failures import NOTICE_SIZE, Failure, refusal
from tallystick.router.onion.payload import FinalLock, FinalPayload, ForwardPayload, Payload, decode_payload
from tallystick.router.onion.replay import Replays
from tallystick.router.onion.sphinx import Peeled, peel


class Forward(Discreet, msgspec.Struct, frozen=True):
    """Send it on: queue the outgoing lock of `circuit` with this onion."""

    circuit: Circuit
    onion: bytes
    bucket: Bucket
    """The places that it takes (`jamming`)."""
    named: ChannelId
    """The channel that the onion named."""


class Deliver(msgspec.Struct, frozen=True):
    """Hand it to the payee."""

    final: FinalLock


class Fail(msgspec.Struct, frozen=True):
    """Give it back."""

    reason: Callable[[], bytes]
    """Makes what its payer alone can read: not before it is needed, as some locks only wait."""
    passing: bool = False
    """What is in the way may be over in a moment: whoever has patience decides again then."""
    taken: bool = False
    """It ends here, and was taken on before a restart: it is never given back for want of a fresh view of the chain, as
    something may have been paid for it meanwhile."""


Decision: TypeAlias = Forward | Deliver | Fail


@dataclass(eq=False, repr=False)
class Relay:
    """Decides what becomes of a lock that comes in with an onion: see the module's docstring. Part of a `Router`."""

    channels: NodeChannels
    policies: Policies
    admission: Admission
    incoming: IncomingLocks
    replays: Replays
    stakes: Stakes
    limits: ForwardingLimits

    def decide(self, channel: ChannelId, added: AddLock, *, again: bool = False) -> tuple[Decision, Sequence[Moment]]:
        """Return what to do with a lock, and what to store in any case. `again`: it was pending at a restart."""
        lock = added.lock
        peeled: Peeled | None = None
        try:
            peeled = peel(self.channels.key, added.onion, lock.condition)
            payload = _read(peeled)
            if payload.expiry > lock.expiry:
                code = Code.FINAL_INCORRECT_EXPIRY if peeled.next_packet is None else Code.INCORRECT_EXPIRY
                return self._fail(peeled, Failure(code, time=lock.expiry)), ()
            seen = self.replays.check(peeled.secret, channel, lock.id, lock.expiry)
        except InvalidOnion as error:
            reason = refusal(error, added.onion, peeled.secret if peeled else b"")
            return Fail(lambda: reason), ()
        return self._decide(channel, lock, payload, peeled, again=again), () if seen is None else (seen,)

    def _decide(self, channel: ChannelId, lock: Lock, payload: Payload, peeled: Peeled, *, again: bool) -> Decision:
        view = self.channels.view(channel)
        phase, final = view.channel.phase, isinstance(payload, FinalPayload)
        if phase in (Phase.SETTLED, Phase.GONE) or (phase is not Phase.OPEN and not final):
            # it may not be in what the chain paid out: nothing may be given for it any more
            return self._fail(peeled, Failure(Code.PERMANENT_CHANNEL_FAILURE, channel=channel))
        if not self.channels.fresh:
            failure = Failure(Code.TEMPORARY_NODE_FAILURE)
            return self._fail(peeled, failure, passing=True, taken=again and final)
        if isinstance(payload, ForwardPayload):
            return self._forward(view, lock, payload, peeled)
        taken = again or lock.kind != HASH  # what was taken on once is not refused for that; stakes are their player's
        if not taken and not self.admission.accepts(channel, lock):
            return self._fail(peeled, Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=channel))
        return Deliver(FinalLock(channel, lock, payload, peeled.secret, view.channel.terms.asset, again))

    def _forward(self, source: ChannelView, lock: Lock, order: ForwardPayload, peeled: Peeled) -> Decision:
        now, channel = self.channels.chain.now, source.channel.id
        views = {
            view.channel.id: view for view in self.channels.views.beside(order.channel) if not view.channel.is_virtual
        }
        if views:
            views[channel] = source
        outbound = [self._outbound_channel(view) for view in views.values() if view.channel.phase is not Phase.GONE]
        found = choose(lock, channel, order, outbound, now, self.limits)
        if isinstance(found, Failure):
            return self._not_onwards(found, order, peeled)
        circuit = Circuit(
            incoming=channel,
            incoming_lock=lock.id,
            outgoing=found.channel,
            outgoing_lock=views[found.channel].next_lock,
            amount_in=lock.amount,
            amount_out=order.amount,
            expiry=order.expiry,
            secret=peeled.secret,
            began=now,
            kind=lock.kind,
        )
        admitted = lock.kind == HASH or self._admits_stake(circuit)
        bucket = self.admission.admit(circuit) if admitted else None
        if bucket is None:  # nothing is said of what the channel can carry: this is over in a moment
            return self._not_onwards(Failure(Code.CHANNEL_DISABLED, channel=order.channel), order, peeled)
        return Forward(circuit, peeled.next_packet or b"", bucket, order.channel)

    def _admits_stake(self, circuit: Circuit) -> bool:
        views = self.channels.views
        incoming, outgoing = views.channel(circuit.incoming), views.channel(circuit.outgoing)
        ends = [(views.channel(each.incoming), views.channel(each.outgoing)) for each in self.stakes.circuits]
        pending = [peer for one, other in ends for peer in {one.peer_key, other.peer_key}]
        value = outgoing.funding(0) + outgoing.funding(1)
        return self.stakes.admits(circuit, (incoming.peer_key, outgoing.peer_key), value, pending)

    def _not_onwards(self, failure: Failure, order: ForwardPayload, peeled: Peeled) -> Fail:
        passing = failure.code is Code.CHANNEL_DISABLED and not self.channels.view(order.channel).usable
        return self._fail(peeled, failure, passing=passing)

    def _fail(self, peeled: Peeled, failure: Failure, *, passing: bool = False, taken: bool = False) -> Fail:
        return Fail(lambda: self.incoming.hide(peeled.secret, failure), passing, taken)

    def _outbound_channel(self, view: ChannelView) -> OutboundChannel:
        channel = view.channel
        way = Readiness.CLOSING
        if view.payable:
            way = Readiness.OPEN if view.usable else Readiness.OFFLINE
        policy = self.policies.policy_of(channel.id)
        asset = channel.terms.asset
        return OutboundChannel(channel.id, channel.peer_key, asset, policy, way, view.signable, view.lock_slots)

    # --- and what the payer is told ------------------------------------------------------------------------------

    def refusal(self, added: AddLock, objection: str) -> bytes:
        """Say a channel's objection to a lock in words that only the payer can read."""
        if not added.onion:
            return objection.encode()
        try:
            secret = peel(self.channels.key, added.onion, added.lock.condition).secret
        except InvalidOnion as error:
            return refusal(error, added.onion)
        policy, expiry, now = self.channels.policy, added.lock.expiry, self.channels.chain.now
        code = Code.TEMPORARY_CHANNEL_FAILURE
        if expiry < now + policy.lock_expiry_min:
            code = Code.EXPIRY_TOO_SOON
        elif expiry > now + policy.lock_expiry_max:
            code = Code.EXPIRY_TOO_FAR
        return self.incoming.hide(secret, Failure(code))

    def checked(self, circuit: Circuit, lock: Lock, reason: bytes) -> bytes:
        """Return the reason of a reject; a notice is made to name the onion that we sent, else we would be blamed."""
        if len(reason) != NOTICE_SIZE:
            return reason
        onion = self.channels.views.onion(circuit.incoming, circuit.incoming_lock)
        try:
            sent = peel(self.channels.key, onion, lock.condition).next_packet or b""
        except InvalidOnion:
            return b"no onion was sent"  # no failure at all: the channel is blamed
        return reason[:2] + hashlib.sha256(sent).digest()


def _read(peeled: Peeled) -> Payload:
    """Return what the onion says; raise InvalidOnion unless it is for a hop in this place."""
    payload = decode_payload(peeled.payload)
    if isinstance(payload, FinalPayload) != (peeled.next_packet is None):
        raise InvalidOnion("the onion ends where it should go on, or the reverse", Code.INVALID_ONION_PAYLOAD)
    return payload
