"""When things happen in one channel: batching, pipelining, acks, locks. Sans-IO: everything it wants is in `effects`.

    writer    nothing in flight: sign at once (lowest latency); something in flight: let payments gather until its ack,
              unless they fill an update (highest throughput); at most as many updates in flight as `window` says
    receiver  verify each update as it arrives; countersign the newest only, once per round: an ack covers all up to it

Batches therefore grow with load by themselves. Around it: `receiver` takes the peer's updates in, `locks` and `streams`
follow what is conditional, `resync` resumes after a reconnect, `negotiation` makes offers, `timing` lets time pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.limits import HISTORY_BATCH, LOCKS_MAX, MEMO_MAX, ONION_MAX, UINT64_MAX, Policy
from tallystick.channels.protocol import answers, core
from tallystick.channels.protocol.conditions import require_known
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.messages import Ack, Message, Reestablish, Reject, Reveal, Update, encode
from tallystick.channels.protocol.objects import Lock, check_amount
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.counting import Counting
from tallystick.channels.session.effects import ChannelChanged, Effects, PaymentsSecured
from tallystick.channels.session.inputs import Asks, SubmitLock
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.locks import Locks
from tallystick.channels.session.outbox import Outbox, run_limit
from tallystick.channels.session.patience import Patience
from tallystick.channels.session.standing import Headroom, require_payable
from tallystick.channels.session.streams import Streams
from tallystick.channels.session.tickets import EndedLock, SentUpdate, Ticket, ended_locks
from tallystick.channels.session.window import Window
from tallystick.channels.storage.schema import HistoryChosen, HistoryPruned, UpdateSigned

LOCK_HISTORY = 4_096
"""Updates that a channel keeps at least if it has ever held a lock: states that a tower, or the peer, may let stand
are read back from them (`older`)."""


class RecorderPort(Protocol):
    """Stands before the rules and takes down what passes (`channels.session.recording`)."""

    def take(self, given: Asks[Any], now: float, act: Callable[..., Any]) -> Any:
        """Let it happen by `act`, which is told that it is taken down, and return what that returns."""


class Session:
    """One channel at work. Methods act at once in memory; what they append to `effects` says what must follow."""

    def __init__(self, channel: Channel, key: PrivateKey, policy: Policy, effects: Effects) -> None:
        self.channel = channel
        self.key = key
        self.policy = policy
        self.effects = effects
        self.peer = PublicKey(channel.peer_key)
        self.domain = domain_separator(channel.terms.chain_id, channel.terms.contract)
        self._standing = Headroom.of(channel)
        self.lost: Callable[[], bool] = lambda: False
        self.outbox = Outbox()
        self.window = Window(policy.window)
        self.streams = Streams(self)
        self.locks = Locks(self)
        self.sent: deque[SentUpdate] = deque()
        self.patience = Patience(policy.ack_patience)
        self.chain = ChainTime()
        self.link = LinkState()
        self.recorder: RecorderPort | None = None
        """Takes down whatever happens, if anybody wants that."""
        self.counting = Counting(self)
        self.must_ack = False
        self._keyed: dict[str, Ticket] = {}
        self.signatures = 0
        """Balance proofs signed and countersigned since the start."""
        self.received_payments = 0
        self.accepted_payments = 0
        self.secured_payments = 0
        self.history = policy.history
        """Agreed updates to keep in each journal; None: all."""
        self.tidied = 0
        """Updates of both simplices at the last pruning."""

    def __repr__(self) -> str:
        channel = self.channel
        return (
            f"<Session {channel.id.hex()[:8]} {channel.phase.name} ours={channel.ours.seq}+{len(channel.flight)} "
            f"theirs={channel.theirs.seq} waiting={len(self.outbox)}{' ready' if self.ready else ''}>"
        )

    # --- what the application asks -------------------------------------------------------------------------------

    @property
    def funding(self) -> int:
        """Our funding that both sides count: what is safe to spend from."""
        return self.link.counted_funding(self.channel)

    @property
    def signable(self) -> int:
        """What can be signed now, of what both sides count and beyond the reserve; below 0 when that has grown."""
        funding = self.funding
        return core.capacity(self.channel, funding) - self.channel.own_reserve(funding)

    @property
    def spendable(self) -> int:
        """What can be accepted now: capacity less the reserve and less what already waits.

        It counts all confirmed funding; what the peer does not count yet waits in the outbox until it does.
        """
        return max(0, self.standing.allowance - self.outbox.total)

    @property
    def unsecured(self) -> int:
        """The amount that was accepted, whether signed or not, and is not countersigned yet."""
        return max(0, self.outbox.total + self.standing.exposed)

    @property
    def standing(self) -> Headroom:
        """What the channel's present state means for payments."""
        if self._standing.channel is not self.channel:
            self._standing = Headroom.of(self.channel)
        return self._standing

    @property
    def payable(self) -> bool:
        """Whether new payments may join the outbox."""
        return self.standing.payable and not self.lost()

    @property
    def is_stuck(self) -> bool:
        """Whether the peer holds back an acknowledgement, and a new connection did not help."""
        return self.patience.cuts > 0

    @property
    def ready(self) -> bool:
        """Whether both sides have said Reestablish on the present connection."""
        return self.link.ready

    @property
    def full(self) -> bool:
        """Whether whoever wants to pay has to wait."""
        outbox, most = self.outbox, self.policy.unsecured
        waits = outbox.total + self.standing.exposed  # `unsecured`, but for a call that would cost as much as the rest
        return outbox.payments >= self.policy.outbox or waits >= most or most == 0

    def require_payable(self) -> None:
        """Raise ChannelNotReady unless new payments may join the outbox."""
        require_payable(self.channel, lost=self.lost())

    def pay(self, amount: int, memo: bytes, key: str, now: float) -> Ticket:
        """Queue a payment; raise InvalidInput, InsufficientFunds or ChannelNotReady, and nothing was done."""
        check_amount(amount, minimum=1)
        if len(memo) > MEMO_MAX:
            raise InvalidInput(f"a memo has at most {MEMO_MAX} bytes, this one has {len(memo)}")
        self._require(amount)
        ticket = Ticket(self.channel.id, (amount,), memo, key, now)
        self.outbox.add_payment(ticket)
        self.accepted_payments += 1
        if key:
            self._keyed[key] = ticket
        return ticket

    def pay_many(self, amounts: Sequence[int], now: float) -> list[Ticket]:
        """Queue payments in runs, each of which fits into one update; raise as `pay` does, and nothing was done."""
        if not amounts or set(map(type, amounts)) != {int} or min(amounts) < 1:
            raise InvalidInput("payments are whole numbers from 1 on, and at least one")
        self._require(sum(amounts))
        limit = run_limit(amounts)
        tickets = [
            Ticket(self.channel.id, tuple(amounts[start : start + limit]), b"", "", now)
            for start in range(0, len(amounts), limit)
        ]
        for ticket in tickets:
            self.outbox.add_payment(ticket)
        self.accepted_payments += len(amounts)
        return tickets

    def find_ticket(self, key: str) -> Ticket | None:
        """Return the ticket with this idempotency key that is waiting or in flight in this process."""
        ticket = self._keyed.get(key)
        if ticket is not None and (ticket.withdrawn or ticket.error is not None):
            del self._keyed[key]
            return None
        return ticket

    def join(self, seq: int, ticket: Ticket) -> None:
        """Let a ticket resolve with update `seq`, which is in flight."""
        for sent in self.sent:
            if sent.seq == seq:
                sent.tickets.append(ticket)
                if ticket.key:
                    self._keyed[ticket.key] = ticket

    def _require(self, amount: int) -> None:
        standing = self.standing
        if not standing.payable or self.lost():
            self.require_payable()
        if amount > standing.allowance - self.outbox.total:
            raise InsufficientFunds(
                f"this channel can send {self.spendable} now (a reserve of {self.channel.coming_reserve} stays), "
                f"{amount} was asked; wait for incoming payments or deposit more"
            )

    @property
    def next_lock(self) -> int:
        """The id of the next lock that is added."""
        return self.channel.newest.next_lock + self.outbox.queued_locks

    @property
    def lock_slots(self) -> int:
        """How many more locks may be queued now."""
        return LOCKS_MAX - len(self.channel.newest.locks) - self.outbox.queued_locks

    def add_lock(self, asked: SubmitLock) -> int:
        """Queue a lock and return its id; raise as `pay` does.

        If it is given up before it is signed, so is its companion, and LockDropped is told. `next_lock` says beforehand
        which id it will have.
        """
        check_amount(asked.amount, minimum=1)
        core.require_real(self.channel, "a lock, a stream or an app")
        self._require(asked.amount)
        if len(asked.condition) != 32:
            raise InvalidInput("the condition of a lock is a digest: 32 bytes")
        if len(asked.onion) > ONION_MAX:
            raise InvalidInput(f"an onion has at most {ONION_MAX} bytes, this one has {len(asked.onion)}")
        if not self.chain.now < asked.expiry <= UINT64_MAX:
            raise InvalidInput(f"the lock would expire at {asked.expiry}, chain time is {self.chain.now} already")
        if self.lock_slots < 1:
            raise ChannelNotReady(f"{LOCKS_MAX} locks are pending already: wait until some are resolved")
        lock = Lock(self.next_lock, asked.amount, asked.expiry, asked.kind, asked.condition)
        require_known((lock,))
        if self.policy.kinds is not None and lock.kind not in self.policy.kinds:
            raise InvalidInput(
                f"locks of kind {lock.kind} are not decided on this chain: nobody could claim them there"
            )
        self.outbox.add_lock(AddLock(lock, asked.onion))
        self.locks.attach(lock.id, asked.attach)
        return lock.id

    def reveal(self, lock_id: int, secret: bytes) -> None:
        """Record the secret of the peer's lock and ask to be paid; raise InvalidInput or InvalidUpdate."""
        self.change(answers.reveal(self.channel, lock_id, secret))
        if self.ready:
            self.send(Reveal(self.channel.id, lock_id, secret))

    def reject(self, lock_id: int, reason: bytes) -> None:
        """Consent to the cancellation of the peer's lock; raise InvalidInput."""
        if self.streams.holds_links(lock_id):
            raise InvalidInput(f"lock {lock_id} cannot be rejected: its stream has been paid from")
        self.change(answers.reject(self.channel, lock_id, reason))
        if self.ready:
            self.send(Reject(self.channel.id, lock_id, reason))

    # --- what both need ------------------------------------------------------------------------------------------

    def change(self, channel: Channel) -> None:
        self.channel = channel
        self.effects.save(channel)

    def enter(self, phase: Phase) -> None:
        """Move to another phase, durably; end what can no longer be signed, and say so."""
        if phase is self.channel.phase:
            return
        if self.must_ack:
            self.countersign()  # what was accepted must be enforceable before we freeze
        self.change(core.move(self.channel, phase))
        if phase is not Phase.OPEN:
            self.abandon(ChannelNotReady(f"the channel became {phase.name.lower()}: this payment was not made"))
            self.streams.freeze()
        if phase in (Phase.SETTLED, Phase.GONE):
            uncertain = ChannelNotReady(
                "the channel closed before the payee acknowledged this payment: the settlement on chain decides it"
            )
            for sent in self.sent:
                for ticket in sent.tickets:
                    ticket.fail(uncertain)
            self.sent.clear()
            self.streams.abandon()
        self.tell_changed()

    def learn(self, **changes: Any) -> None:
        """Note what was said on the present link."""
        self.link = msgspec.structs.replace(self.link, **changes)

    def abandon(self, error: TallystickError) -> None:
        """End everything that waits unsigned."""
        self.locks.drop()
        self.outbox.fail_all(error)

    def tell_changed(self) -> None:
        """Say that the duties of this channel may have changed."""
        self.effects.emit(ChannelChanged(self.channel.id, self.channel.phase))

    def send(self, message: Message) -> None:
        """Send to this channel's peer, after the commit."""
        self.effects.send(self.channel.peer_key, message)

    def greet(self) -> None:
        """Say where this side is: first on each connection, and again to have the peer repeat what was left aside.

        The peer forgets our Shutdown over it, so that it must be said again.
        """
        self.seal()
        channel = self.channel
        self.learn(greeted=True, shutdown_said=False, peer_final=None)
        ours, theirs, funding = channel.ours.statement, channel.theirs.statement, channel.funding(channel.peer_side)
        self.send(Reestablish(channel.id, channel.newest.proof.seq, ours, theirs, max(0, funding)))
        if channel.reserve_ppm:
            self.counting.tell()

    def sign_proof(self, simplex: Simplex) -> bytes:
        """Return our signature over a balance proof."""
        self.signatures += 1
        return self.key.sign(digest_proof(self.domain, simplex.proof))

    # --- the writer ----------------------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Sign what is due: one countersignature for all that arrived, then updates. Called once per round."""
        if self.must_ack:
            self.countersign()
        if self.counting.heed():
            self.counting.tell()
        self.streams.store()
        if not self.ready or self.channel.phase is not Phase.OPEN:
            return
        self.streams.flush()
        while len(self.outbox) and len(self.channel.flight) < self.window.size:
            if self.channel.flight and not self.outbox.full_batch:
                return
            if not self._sign_update(now):
                return

    def _sign_update(self, now: float) -> bool:
        """Sign one update of what waits and fits the funding that both count now; return whether there was any."""
        before = self.channel.newest
        operations, tickets = self.outbox.take(before.next_payment, self.signable)
        if not operations:
            return False
        simplex = core.propose(self.channel, operations, self.funding)
        signature = self.sign_proof(simplex)
        proof = simplex.proof
        frame = encode(Update(self.channel.id, proof.seq, proof.seen, tuple(operations), signature))
        keys, number = [], before.next_payment
        for ticket in tickets:
            ticket.payment = number
            if ticket.key:
                keys.append((ticket.key, number))
            number += len(ticket.amounts)
        count = number - before.next_payment
        self.channel = core.with_proposal(self.channel, simplex, signature)
        ended = ended_locks(operations, before)
        self.sent.append(SentUpdate(proof.seq, frame, count, tickets, ended, self.channel.ours.seq, now))
        self.effects.store(
            UpdateSigned(self.channel.id, proof.seq, before.next_payment, count, frame, now, tuple(keys))
        )
        self.locks.on_signed(operations)
        self.effects.frames.append((self.channel.peer_key, frame))
        return True

    def on_ack(self, message: Ack, now: float) -> None:
        """The peer countersigned: everything up to that number is agreed. Raise InvalidUpdate or InvalidSignature."""
        newest = next((sent for sent in self.sent if sent.seq == message.seq), None)
        self.agree(message.seq, message.signature)
        if newest is not None:
            self.window.on_acknowledged(newest.seq - newest.agreed, now - newest.signed)

    def agree(self, seq: int, countersignature: bytes) -> None:
        """Verify and take in a countersignature of ours; raise InvalidUpdate or InvalidSignature."""
        agreed = core.in_flight(self.channel, seq)
        if agreed is None:
            return
        self.peer.verify(digest_proof(self.domain, agreed.simplex.proof), countersignature)
        self.change(core.with_ack(self.channel, seq, countersignature))
        payments = 0
        while self.sent and self.sent[0].seq <= seq:
            done = self.sent.popleft()
            payments += done.payments
            if done.tickets:
                self.effects.resolved.append((done.tickets, done.seq))
                for ticket in done.tickets:
                    if ticket.key:
                        self._keyed.pop(ticket.key, None)
            self.tell_ended(self.channel.side, done.ended)
        self.secured_payments += payments
        if self.is_stuck:
            self.patience.progress()
            self.locks.ready()
        self.effects.emit(PaymentsSecured(self.channel.id, seq, payments))
        self.tidy()

    def tell_ended(self, sender: int, ended: list[EndedLock]) -> None:
        """Say which locks of a side an agreed update removed."""
        for end in ended:
            self.streams.on_ended(sender, end.lock, end.paid)
            self.locks.on_ended(sender, end.lock, end.paid, end.secret)

    # --- its history -----------------------------------------------------------------------------------------------

    def keep_history(self, updates: int | None) -> None:
        """Keep that many agreed updates in each journal from now on (None: all); raise InvalidInput if it is none."""
        if updates is not None and updates < 0:
            raise InvalidInput(f"a channel keeps 0 updates or more, or all (None), not {updates}")
        self.history, self.tidied = updates, -HISTORY_BATCH
        self.effects.store(HistoryChosen(self.channel.id, updates))
        self.tidy()

    def tidy(self) -> None:
        """Prune, now and then, what is more than should be kept: in batches, which cost each update next to nothing."""
        ours, theirs = self.channel.ours, self.channel.theirs
        if self.history is not None and ours.seq + theirs.seq - self.tidied >= HISTORY_BATCH:
            self.tidied = ours.seq + theirs.seq
            locks = ours.simplex.next_lock or theirs.simplex.next_lock
            kept = max(self.history, LOCK_HISTORY) if locks else self.history
            self.effects.store(HistoryPruned(self.channel.id, ours.seq + 1 - kept, theirs.seq + 1 - kept))

    # --- the receiver: what is accepted is in `receiver` --------------------------------------------------------

    def seal(self) -> None:
        """Countersign what was accepted, before anything is said or signed that builds on it."""
        theirs = self.channel.theirs
        if theirs.seq and not theirs.countersignature:
            self.change(core.with_countersignature(self.channel, self.sign_proof(theirs.simplex)))

    def countersign(self) -> None:
        """Acknowledge everything that was accepted."""
        self.must_ack = False
        self.seal()
        theirs = self.channel.theirs
        self.send(Ack(self.channel.id, theirs.seq, theirs.countersignature))

    def resume(self, before: Phase) -> None:
        """Ask the peer to repeat what was left aside, now that the channel is open (again) or time has passed."""
        thawed = before is Phase.FROZEN and self.channel.phase is Phase.OPEN
        if self.ready and self.channel.phase is Phase.OPEN and (thawed or self.link.missed):
            self.greet()
