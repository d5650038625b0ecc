"""The router of a node: all locks of its channels go through it. It forwards, and hands the rest to payer and payee.

It hangs on the engine as its `LockKeeper`: everything it decides is part of the commit of what made it decide. So an
incoming lock, the record of its onion, the circuit and the outgoing lock's signature are one transaction. It has no
task and no clock of its own; time passes with the chain's blocks.

    relay       what is to become of a lock that comes in: `Forward`, `Deliver` or `Fail`
    forwarder   what follows for the incoming lock from what becomes of the outgoing one
    stakes      the same for stakes in apps, which two players may decide one way here and another way in court
    admission   from whom how much is taken on

The first three say what to do, and it is done here. After a restart every incoming lock that was not answered is looked
at again: with a circuit it waits for its outgoing lock; without one nothing was signed for it, and it is decided
anew, once the channel onwards is in step, or refused if that takes too long.

Locks without an onion are none of its business: an application opened them, and an application answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.protocol.conditions import HASH, kind_of, worth
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.storage.store import Moment
from tallystick.router.codes import Code
from tallystick.router.forwarding.admission import Admission, IncomingLocks
from tallystick.router.forwarding.circuits import (
    CircuitClosed,
    CircuitOpened,
    CircuitOwed,
    CircuitRejected,
    load_circuits,
)
from tallystick.router.forwarding.forwarder import (
    Answer,
    Circuit,
    ClaimLock,
    CloseCircuit,
    Forwarder,
    ForwardOutcome,
    KeepReason,
    Name,
    ReleaseLock,
)
from tallystick.router.forwarding.policies import Policies, RoutingOptions
from tallystick.router.forwarding.ports import NodeChannels, PayeePort, PayerPort
from tallystick.router.forwarding.relay import Deliver, Forward, Relay
from tallystick.router.forwarding.stakes import OweLock, PayStake, ShowOutcome, StakeAnswer, Stakes
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalLock
from tallystick.router.onion.replay import Replays, load_onions

__all__ = ["Router", "RouterStatistics", "RoutingOptions"]


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
    """The router of one node, which all locks of its channels go through: see the module's docstring. The engine's
    `LockKeeper`; `start` it once the chain was caught up with."""

    def __init__(
        self,
        channels: NodeChannels,
        options: RoutingOptions,
        *,
        policies: Policies,
        admission: Admission,
        incoming: IncomingLocks,
        payer: PayerPort,
        payee: PayeePort,
        stakes: PayerPort | None = None,
        alarm: OnAlarm,
        on_ready: Callable[[ChannelId], None] = lambda channel: None,
    ) -> None:
        """`stakes`: who sends locks of ours that are no payments; the payer, unless told otherwise.

        `alarm` is told what a person should know, `on_ready` of every channel that its peer is in step.
        """
        self._channels = channels
        self._limits = options.limits
        self._admission = admission
        self._incoming = incoming
        self._payer = payer
        self._stakes_payer = stakes or payer
        self._payee = payee
        self._alarm = alarm
        self._on_ready = on_ready
        self._replays = Replays(load_onions(channels.disk))
        self._forwarder = Forwarder(incoming.hide)
        self._stakes = Stakes(options.stakes, incoming.hide)
        self._relay = Relay(channels, policies, admission, incoming, self._replays, self._stakes, self._limits)
        self._counts = dict.fromkeys(ForwardOutcome, 0)
        self._refused = 0
        self._earned: dict[Address, int] = {}
        self._waiting: dict[Name, AddLock] = {}
        """Locks from before the restart whose channels onwards are not in step yet …"""
        self._patient_until = 0
        """… and until when they may wait for that, in chain time."""
        states = [view.channel for view in channels.views]
        claimed = {(state.id, known.lock) for state in states for known in state.secrets}
        circuits = load_circuits(channels.disk)
        self._forwarder.resume([each for each in circuits if each[0].kind == HASH], claimed)
        self._stakes.resume([each for each in circuits if each[0].kind != HASH], self)
        admission.resume([*self._forwarder.circuits, *self._stakes.circuits])

    def __repr__(self) -> str:
        return f"<Router forwarding={len(self._forwarder)} onions={len(self._replays)}>"

    def start(self) -> None:
        """Look again at every incoming lock that was pending when the node went down. Peers come after."""
        self._patient_until = self._channels.chain.now + self._limits.unsigned_max
        for channel in self._channels.views.ids:
            for added in self._channels.views.undecided_locks(channel):
                name = (channel, added.lock.id)
                if added.onion and self._passed_on(*name) is None:
                    self._waiting[name] = added
        for channel in self._channels.views.ids:
            self._do(self._stakes.on_ready(channel))
        self._channels.store(self._look_again())

    def statistics(self) -> RouterStatistics:
        """Return the figures of this moment."""
        paid = self._counts[ForwardOutcome.PAID]
        failed = self._counts[ForwardOutcome.FAILED] + self._counts[ForwardOutcome.EXPIRED]
        earned = {"0x" + asset.hex(): fees for asset, fees in self._earned.items()}
        pending = len(self._forwarder) + len(self._stakes)
        return RouterStatistics(pending, paid, failed, self._refused, earned, len(self._replays))

    def is_passed_on(self, channel: ChannelId, lock: int) -> bool:
        """Whether a peer's lock is not for this node, or that is not decided yet."""
        return (channel, lock) in self._waiting or self._passed_on(channel, lock) is not None

    # --- LockKeeper: the peers' locks ----------------------------------------------------------------------------

    def on_lock_received(self, channel: ChannelId, added: AddLock) -> Sequence[Moment]:
        """Decide about a lock that came with an onion."""
        return self._decide(channel, added, patient=False) or () if added.onion else ()

    def refusal(self, channel: ChannelId, added: AddLock, objection: str) -> bytes:
        """Say a channel's objection to a lock in words that only the payer can read."""
        self._refused += bool(added.onion)
        return self._relay.refusal(added, objection)

    def _look_again(self) -> list[Moment]:
        """Decide about the locks from before the restart whose channels onwards are in step, or are too long not."""
        moments: list[Moment] = []
        patient = self._channels.chain.now <= self._patient_until
        for (channel, lock), added in list(self._waiting.items()):
            decided = self._decide(channel, added, patient=patient, again=True)
            if decided is not None:
                self._waiting.pop((channel, lock), None)
                moments += decided
        return moments

    def _decide(self, channel: ChannelId, added: AddLock, *, patient: bool, again: bool = False) -> list[Moment] | None:
        """Do with an incoming lock what the relay says; return what to store, None if the lock is to wait.

        All of it is in the commit of the update that brought the lock. `again`: it was pending at a restart.
        """
        decision, seen = self._relay.decide(channel, added, again=again)
        if isinstance(decision, Forward):
            self._forward(decision, added.lock)
        elif isinstance(decision, Deliver):
            if kind_of(added.lock).expected:
                return [*seen, *self._hand_over(channel, decision.final)]
            self._admission.on_accepted(channel, added.lock)
            return [*seen, *self._payee.on_arrived(decision.final)]
        elif decision.passing and (patient or decision.taken):
            self._channels.store(seen)
            return None
        else:
            self._fail(channel, added.lock.id, decision.reason())
        return [*seen]

    def _forward(self, forward: Forward, lock: Lock) -> None:
        """Queue the outgoing lock with its circuit."""
        circuit, attach = forward.circuit, CircuitOpened(forward.circuit)
        try:
            self._channels.send_lock(
                circuit.outgoing,
                circuit.amount_out,
                circuit.expiry,
                lock.condition,
                forward.onion,
                attach,
                lock.kind,
            )
        except InvalidInput:
            failure = Failure(Code.TEMPORARY_CHANNEL_FAILURE, channel=forward.named)
            self._fail(circuit.incoming, lock.id, self._incoming.hide(circuit.secret, failure))
            return
        if circuit.kind == HASH:
            self._forwarder.on_opened(circuit)
        else:
            self._stakes.on_opened(circuit)
        self._admission.began(circuit, lock, forward.bucket)

    def _hand_over(self, channel: ChannelId, final: FinalLock) -> Sequence[Moment]:
        """Leave a lock to who expects it, and answers later; give it back at once if nobody does.

        What was looked at before a restart was taken then, or is refused by whoever answers.
        """
        state, payload, lock = self._channels.views.channel(channel), final.payload, final.lock
        if final.again:
            return ()
        whole = (payload.amount, payload.expiry, payload.total) == (lock.amount, lock.expiry, lock.amount)
        if not whole or self._channels.expected.objection(state, lock, payload.payment_secret) is not None:
            self._incoming.refuse(final, Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS))
        return ()

    def _payer_of(self, lock: Lock) -> PayerPort:
        return self._payer if lock.kind == HASH else self._stakes_payer

    def _fail(self, channel: ChannelId, lock: int, reason: bytes) -> None:
        self._refused += 1
        self._incoming.release(channel, lock, reason)

    # --- LockKeeper: stakes that are passed on -------------------------------------------------------------------

    def stands_for(self, channel: ChannelId, lock: int) -> bool:
        """Whether our stake stands for one that came in."""
        return self._stakes.circuit(channel, lock) is not None

    def on_proof_shown(self, channel: ChannelId, lock: Lock, proof: bytes) -> Sequence[Moment]:
        """Whom we owe a stake asks for it: ask whoever owes it to us."""
        return self._do(self._stakes.on_proof_shown(channel, lock.id, proof, whole=worth(lock, proof) == lock.amount))

    def covers(self, channel: ChannelId, lock: Lock, paid: int) -> bool:
        """Whether a stake that is passed on may be unlocked for that much: what we owe for it can be no more."""
        circuit = self._stakes.of_origin(channel, lock.id)
        if circuit is None:
            return True
        if any(rejection.lock == lock.id for rejection in self._channels.views.channel(channel).rejections):
            return True  # what we owed is agreed gone
        if not self._is_signed(circuit):
            return False  # what we owe is not there yet to be paid
        return paid >= circuit.amount_out or paid == self._channels.chain.given_in_court(lock)

    def is_incoming_over(self, circuit: Circuit) -> bool:
        """Whether the incoming lock of a stake is agreed gone, or its channel is."""
        state = self._channels.views.channel(circuit.incoming)
        return state.phase is Phase.GONE or state.theirs.simplex.lock(circuit.incoming_lock) is None

    def is_outgoing_over(self, circuit: Circuit) -> bool:
        """Whether the outgoing lock of a stake was signed, and is agreed gone, or its channel is."""
        state = self._channels.views.channel(circuit.outgoing)
        if state.phase is Phase.GONE:
            return True
        states = (state.ours, *state.flight)
        return self._is_signed(circuit) and all(s.simplex.lock(circuit.outgoing_lock) is None for s in states)

    def _is_signed(self, circuit: Circuit) -> bool:
        return circuit.outgoing_lock < self._channels.views.channel(circuit.outgoing).newest.next_lock

    def _passed_on(self, channel: ChannelId, lock: int) -> Circuit | None:
        return self._forwarder.of_origin(channel, lock) or self._stakes.of_origin(channel, lock)

    # --- LockKeeper: our locks -----------------------------------------------------------------------------------

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """A lock of ours will be paid: claim what it stands for."""
        if self.stands_for(channel, lock.id):
            return ()
        if self._forwarder.holds(channel, lock.id):
            return self._do(self._forwarder.on_secret_learned(channel, lock.id, secret))
        return self._payer_of(lock).on_secret_learned(channel, lock, secret)

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """A lock of ours is being given back."""
        circuit = self._forwarder.circuit(channel, lock.id)
        if circuit is not None:
            reason = self._relay.checked(circuit, lock, reason)
            return self._do(self._forwarder.on_rejected(channel, lock.id, reason))
        stake = self._stakes.circuit(channel, lock.id)
        if stake is not None:
            return self._do(self._stakes.on_rejected(channel, lock.id, self._relay.checked(stake, lock, reason)))
        return self._payer_of(lock).on_lock_rejected(channel, lock, reason)

    def on_lock_ended(self, channel: ChannelId, sender: int, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """A lock is agreed gone."""
        if sender != self._channels.views.channel(channel).side:
            self._admission.on_freed(channel, lock.id)
            if self._forwarder.of_origin(channel, lock.id) is not None:
                return self._do(self._forwarder.on_incoming_paid(channel, lock.id)) if paid else ()
            if self._stakes.of_origin(channel, lock.id) is not None:
                return self._do(self._stakes.on_incoming_ended(channel, lock.id, paid, secret))
            self._waiting.pop((channel, lock.id), None)
            return self._payee.on_gone(channel, lock, secret)
        if self._forwarder.holds(channel, lock.id):
            return self._do(self._forwarder.on_ended(channel, lock.id, secret))
        if self.stands_for(channel, lock.id):
            return self._do(self._stakes.on_outgoing_ended(channel, lock.id, paid))
        return self._payer_of(lock).on_lock_ended(channel, lock, paid, secret)

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """A lock of ours was given up unsigned."""
        if self._forwarder.holds(channel, lock.id):
            self._admission.on_dropped(channel, lock.id)
            return self._do(self._forwarder.on_dropped(channel, lock.id))
        if self.stands_for(channel, lock.id):
            self._admission.on_dropped(channel, lock.id)
            return self._do(self._stakes.on_dropped(channel, lock.id))
        return self._payer_of(lock).on_lock_dropped(channel, lock)

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks again: look again at what waited for it."""
        self._on_ready(channel)
        owed = self._do(self._stakes.on_ready(channel))
        return [*owed, *self._look_again(), *self._payer.on_channel_ready(channel)]

    def on_chain_moved(self) -> Sequence[Moment]:
        """Time has passed: give up what waits for too long, release what can never be paid."""
        moments: list[Moment] = []
        self._give_up_unsigned()
        moments += self._admission.on_chain_moved()
        moments += self._do(self._forwarder.on_time(self._channels.chain.final, self._is_gone))
        moments += self._do(self._stakes.on_time(self))
        moments += self._look_again()
        moments += self._payee.on_time_passed()
        moments += self._payer.on_time_passed()
        forgotten = self._replays.prune(self._channels.chain.final)
        return [*moments, forgotten] if forgotten is not None else moments

    def _give_up_unsigned(self) -> None:
        """Give up outgoing locks that wait for their peer's acknowledgement of earlier ones for too long.

        At once, if the channel that is to pay for them is closing.
        One that expires unsigned must never be signed: its incoming lock is about to be released.
        """
        now = self._channels.chain.now
        for circuit in [*self._forwarder.circuits, *self._stakes.circuits]:
            outgoing, lock = circuit.outgoing, circuit.outgoing_lock
            if lock >= self._channels.views.channel(outgoing).newest.next_lock:
                closing = self._channels.views.channel(circuit.incoming).phase is not Phase.OPEN
                if closing or now > circuit.began + self._limits.unsigned_max:
                    self._channels.give_up(outgoing, lock)
                if now >= circuit.expiry and lock < self._channels.view(outgoing).next_lock:
                    self._channels.give_up_all(outgoing)

    def _is_gone(self, channel: ChannelId) -> bool:
        return self._channels.views.channel(channel).phase is Phase.GONE

    # --- doing ---------------------------------------------------------------------------------------------------

    def _do(self, answers: Sequence[Answer | StakeAnswer]) -> list[Moment]:
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
            elif isinstance(answer, OweLock):
                moments.append(CircuitOwed(answer.circuit))
            elif isinstance(answer, PayStake):
                self._channels.pay(answer.channel, answer.lock, answer.proof)
            elif isinstance(answer, ShowOutcome):
                self._channels.show(answer.channel, answer.lock, answer.proof)
        return moments

    def _claim(self, claim: ClaimLock) -> list[Moment]:
        circuit = self._forwarder.of_origin(claim.channel, claim.lock)
        if self._incoming.reveal(claim.channel, claim.lock, claim.secret) or circuit is None:
            return []
        text = (
            f"{circuit.amount_out} was paid onwards, and the lock that was to pay for it in channel "
            f"{claim.channel.hex()[:8]} is gone: check whether this node runs on an old copy of its data"
        )
        self._alarm(Alarm(AlarmKind.FORWARD_UNPAID, text))
        return self._do(self._forwarder.on_incoming_lost(circuit))

    def _close(self, close: CloseCircuit) -> Moment:
        circuit, paid = close.circuit, close.outcome is ForwardOutcome.PAID
        self._counts[close.outcome] += 1
        if paid:
            asset = self._channels.views.channel(circuit.incoming).terms.asset
            self._earned[asset] = self._earned.get(asset, 0) + circuit.fee
        self._admission.on_ended(circuit, paid=paid)
        return CircuitClosed(circuit, close.outcome, self._channels.chain.now)
