"""The router of a node: all locks of its channels go through it. It forwards, and hands the rest to payer and payee.

It hangs on the engine as its `LockKeeper`: everything it decides is part of the commit of what made it decide. So an
incoming lock, the record of its onion, the circuit and the outgoing lock's signature are one transaction. It has no
task and no clock of its own; time passes with the chain's blocks.

    incoming    what becomes of a lock that comes in: forwarded, kept or refused
    admission   from whom how much is taken on
    forwarder   what follows for the incoming lock from what becomes of the outgoing one; done here

Locks without an onion are none of its business: an application opened them, and an application answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.session.inputs import RevealSecret, SubmitLock
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.values.arguments import Options
from tallystick.router.codes import Code
from tallystick.router.forwarding.admission import Admission
from tallystick.router.forwarding.circuits import (
    CircuitClosed,
    CircuitRejected,
    PolicySet,
    load_circuits,
    load_policies,
)
from tallystick.router.forwarding.exposure import ExposureLimits
from tallystick.router.forwarding.forwarder import (
    Answer,
    ClaimLock,
    CloseCircuit,
    Forwarder,
    ForwardingLimits,
    ForwardOutcome,
    KeepReason,
    ReleaseLock,
)
from tallystick.router.forwarding.incoming import IncomingLocks
from tallystick.router.forwarding.jamming import JammingLimits
from tallystick.router.forwarding.ports import FinalLock, PayeeSeam, PayerSeam
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy
from tallystick.router.onion import replay
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.replay import Replays

__all__ = ["FinalLock", "PayeeSeam", "PayerSeam", "Router", "RouterStatistics", "RoutingOptions"]


class RoutingOptions(Options, frozen=True, kw_only=True):
    """How a node takes part in the payment network."""

    policy: ForwardingPolicy = ForwardingPolicy(base_fee=0, fee_ppm=1_000)
    """What it asks for payments over its channels, where the owner says nothing else."""
    policies: dict[Address, ForwardingPolicy] = msgspec.field(default_factory=dict)
    """The same for channels in other assets than the chain's coin. Where an asset is not named, it is the policy above
    without its amounts (no base fee, any amount): those are in units of the coin. And of all that is not named, few
    locks pend at once (`exposure`)."""
    limits: ForwardingLimits = ForwardingLimits()
    jamming: JammingLimits = JammingLimits()
    exposure: ExposureLimits = ExposureLimits()

    def policy_in(self, asset: Address) -> ForwardingPolicy:
        """Return what is asked for payments over channels in an asset, where the owner says nothing else."""
        if asset == NATIVE:
            return self.policy
        rates = msgspec.structs.replace(self.policy, base_fee=0, minimum=1, maximum=0)
        return self.policies.get(asset, rates)


class RouterStatistics(msgspec.Struct, frozen=True):
    """Counters since the start."""

    forwarding: int
    """Payments on their way through this node now."""
    forwarded: int
    failed: int
    """Forwarded, and came back."""
    refused: int
    """Not forwarded."""
    earned: dict[str, int]
    """Fees, by asset (its address in hex, as the control API has it), in its smallest unit."""
    onions: int
    """Remembered against replays."""


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
        alarm: OnAlarm,
        claim_fee: Callable[[], int] = lambda: 0,
    ) -> None:
        """`fresh` says whether our view of the chain is up to date; `alarm` is told what a person should know.

        `claim_fee` says below what worth in the native coin a secret is not claimed on chain now; 0: all are claimed.
        """
        self.options = options
        self.payer: PayerSeam | None = None
        self.payee: PayeeSeam | None = None
        self.update_of: Callable[[ChannelId], bytes] = lambda channel: b""
        """Returns the newest announced policy of a channel of ours, as gossip carries it, for failures."""
        self.on_ready: Callable[[ChannelId], None] = lambda channel: None
        """Told of every channel that its peer is in step."""
        self._engine = engine
        self._fresh = fresh
        self._alarm = alarm
        self._forwarder = Forwarder(self._hide)
        self._replays = Replays(replay.load_onions(store))
        self._policies = load_policies(store)
        self._admission = Admission(
            engine, store, options.jamming, options.exposure, named=options.policies, fee=claim_fee, alarm=alarm
        )
        self._incoming = IncomingLocks(
            key,
            engine,
            self._forwarder,
            self._admission,
            self._replays,
            options.limits,
            policy_of=self.policy_of,
            update_of=self._newest_update,
            fresh=fresh,
            arrived=self._arrived,
        )
        self._counts = dict.fromkeys(ForwardOutcome, 0)
        self._earned: dict[Address, int] = {}
        channels = [view.channel for view in engine.views]
        claimed = {(channel.id, known.lock) for channel in channels for known in channel.secrets}
        self._forwarder.resume(load_circuits(store), claimed)
        self._admission.resume(self._forwarder.circuits)
        engine.keep_locks(self)

    def _hide(self, secret: bytes, failure: Failure) -> bytes:
        return self._incoming.hide(secret, failure)

    def _newest_update(self, channel: ChannelId) -> bytes:
        return self.update_of(channel)

    def __repr__(self) -> str:
        return f"<Router forwarding={len(self._forwarder)} onions={len(self._replays)}>"

    # --- what the node asks --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look again at every incoming lock that was pending when the node went down. Peers come after."""
        self._incoming.start()

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one, no secret is given away."""
        return self._fresh()

    def policy_of(self, channel: ChannelId) -> ForwardingPolicy:
        """Return what is asked for payments over a channel, outwards."""
        chosen = self._policies.get(channel)
        if chosen is not None:
            return chosen
        view = self._engine.views.get(channel)
        return self.options.policy_in(NATIVE if view is None else view.channel.terms.asset)

    def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> Sequence[Moment]:
        """Ask something else from now on; return what to commit. Locks that were forwarded before stay as they are.

        Raise InvalidInput if the channel is unknown, or the policy one that cannot be announced or carries nothing.
        """
        self._engine.view(channel)
        if flaw := policy.flaw():
            raise InvalidInput(flaw)
        if policy.enabled and 0 < policy.maximum < policy.minimum:
            raise InvalidInput("a policy whose maximum is below its minimum carries nothing: disable it instead")
        if policy.margin > MARGIN_MAX:
            raise InvalidInput(f"the margin of a policy is {MARGIN_MAX} s at most: payers leave no more")
        self._policies[channel] = policy
        return (PolicySet(channel, policy),)

    def send_lock(
        self, channel: ChannelId, amount: int, expiry: int, condition: bytes, onion: bytes, attach: Moment | None = None
    ) -> int:
        """Queue a lock of our own and return its number (before: `next_lock`).

        Raise ChannelNotReady unless the channel is `usable`, else as `SubmitLock` is refused; nothing was done then.
        """
        session = self._engine.session(channel)
        if not session.usable:
            raise ChannelNotReady(
                f"the peer of channel {channel.hex()[:8]} is not connected or acknowledges nothing now"
            )
        return self._engine.apply(channel, SubmitLock(amount, expiry, condition, onion, attach=attach))

    def next_lock(self, channel: ChannelId) -> int:
        """Return the number that the next lock over a channel will have."""
        return self._engine.view(channel).next_lock

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim an incoming lock; return whether it is there (still) to be claimed."""
        try:
            self._engine.apply(channel, RevealSecret(lock, secret))
        except InvalidInput:
            return False
        self._admission.claimed(self._engine.view(channel), lock)
        return True

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        """Let a lock that ends here go, for a reason that only the payer can read."""
        self._incoming.release(final.channel, final.lock.id, self._hide(final.secret, failure))

    def statistics(self) -> RouterStatistics:
        """Return the figures of this moment."""
        paid = self._counts[ForwardOutcome.PAID]
        failed = self._counts[ForwardOutcome.FAILED] + self._counts[ForwardOutcome.EXPIRED]
        earned = {"0x" + asset.hex(): fees for asset, fees in self._earned.items()}
        return RouterStatistics(len(self._forwarder), paid, failed, self._incoming.refused, earned, len(self._replays))

    # --- LockKeeper: the peers' locks ----------------------------------------------------------------------------

    def lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        """Decide about a lock that came with an onion."""
        return self._incoming.decide(channel, added, patient=False) or () if added.onion else ()

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        """Say a channel's objection to a lock in words that only the payer can read."""
        return self._incoming.refusal(channel, added, objection)

    def _arrived(self, final: FinalLock) -> Sequence[Moment]:
        if self.payee is not None:
            return self.payee.arrived(final)
        details = Failure(
            Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS, amount=final.lock.amount, time=self._engine.chain.now
        )
        self._incoming.refuse(final.channel, final.lock, final.secret, details)
        return ()

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
            reason = self._incoming.checked(circuit, lock, reason)
            return self._do(self._forwarder.rejected(channel, lock.id, reason))
        return self.payer.lock_rejected(channel, lock, reason) if self.payer is not None else ()

    def lock_ended(self, channel: ChannelId, sender: int, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """A lock is agreed gone."""
        if sender != self._engine.view(channel).channel.side:
            self._admission.freed(channel, lock.id)
            if self._forwarder.of_origin(channel, lock.id) is not None:
                return self._do(self._forwarder.origin_paid(channel, lock.id)) if paid else ()
            self._incoming.forget(channel, lock.id)
            return self.payee.gone(channel, lock, secret) if self.payee is not None else ()
        if self._forwarder.holds(channel, lock.id):
            return self._do(self._forwarder.ended(channel, lock.id, secret))
        return self.payer.lock_ended(channel, lock, paid, secret) if self.payer is not None else ()

    def lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """A lock of ours was given up unsigned."""
        if self._forwarder.holds(channel, lock.id):
            self._admission.dropped(channel, lock.id)
            return self._do(self._forwarder.dropped(channel, lock.id))
        return self.payer.lock_dropped(channel, lock) if self.payer is not None else ()

    def channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks again: look again at what waited for it."""
        self.on_ready(channel)
        moments = self._incoming.look_again()
        return (*moments, *self.payer.channel_ready(channel)) if self.payer is not None else moments

    def chain_moved(self) -> Sequence[Moment]:
        """Time has passed: give up what waits for too long, release what can never be paid."""
        moments: list[Moment] = []
        self._give_up_unsigned()
        moments += self._admission.chain_moved()
        moments += self._do(self._forwarder.on_time(self._engine.chain.final, self._is_gone))
        moments += self._incoming.look_again()
        for seam in (self.payee, self.payer):
            moments += seam.time_passed() if seam is not None else ()
        forgotten = self._replays.prune(self._engine.chain.final)
        return [*moments, forgotten] if forgotten is not None else moments

    def _give_up_unsigned(self) -> None:
        """Give up outgoing locks that wait for their peer's acknowledgement of earlier ones for too long.

        At once, if the channel that is to pay for them is closing.
        One that expires unsigned must never be signed: its incoming lock is about to be released.
        """
        now, limits = self._engine.chain.now, self.options.limits
        for circuit in self._forwarder.circuits:
            session = self._engine.session(circuit.outgoing)
            if circuit.outgoing_lock >= session.channel.newest.next_lock:
                closing = self._engine.view(circuit.incoming).channel.phase is not Phase.OPEN
                if closing or now > circuit.began + limits.unsigned_max:
                    session.locks.drop_accompanied()
                if now >= circuit.expiry and circuit.outgoing_lock < session.next_lock:
                    session.locks.drop()

    def _is_gone(self, channel: ChannelId) -> bool:
        return self._engine.view(channel).channel.phase is Phase.GONE

    # --- doing ---------------------------------------------------------------------------------------------------

    def _do(self, answers: Sequence[Answer]) -> list[Moment]:
        """Do what the forwarder says; return what to store."""
        moments: list[Moment] = []
        for answer in answers:
            if isinstance(answer, ClaimLock):
                moments += self._claim(answer)
            elif isinstance(answer, ReleaseLock):
                self._incoming.release(answer.channel, answer.lock, answer.reason)
            elif isinstance(answer, KeepReason):
                circuit = answer.circuit
                moments.append(CircuitRejected(circuit.outgoing, circuit.outgoing_lock, answer.reason))
            elif isinstance(answer, CloseCircuit):
                moments.append(self._close(answer))
        return moments

    def _claim(self, claim: ClaimLock) -> list[Moment]:
        circuit = self._forwarder.of_origin(claim.channel, claim.lock)
        if self.reveal(claim.channel, claim.lock, claim.secret) or circuit is None:
            return []
        text = (
            f"{circuit.amount_out} was paid onwards, and the lock that was to pay for it in channel "
            f"{claim.channel.hex()[:8]} is gone: check whether this node runs on an old copy of its data"
        )
        self._alarm(Alarm(AlarmKind.FORWARD_UNPAID, text))
        return self._do(self._forwarder.lost(circuit))

    def _close(self, close: CloseCircuit) -> Moment:
        circuit, paid = close.circuit, close.outcome is ForwardOutcome.PAID
        self._counts[close.outcome] += 1
        if paid:
            asset = self._engine.view(circuit.incoming).channel.terms.asset
            self._earned[asset] = self._earned.get(asset, 0) + circuit.fee
        self._admission.ended(circuit, paid=paid)
        return CircuitClosed(circuit, close.outcome, self._engine.chain.now)
