"""Payments of this node on their way: the thin layer between `payer.Payment` and the channels.

    order       stored before anything is planned; one that is pending or paid is never begun again
    part        an onion, and a lock on one of our channels; the part's row is in the commit that signs the lock
    end         a lock that ended, whichever way, is in the commit in which it ended; one that nobody can agree upon any
                more, as its channel closed or its peer is away, ends when the confirmed chain is past its expiry
    restart     what is in the rows is under way or ended; what is not was never sent, and is planned anew
    wait        a payment that can send nothing now (`payer.WaitUntil`) is woken when its wait is over, or ended in
                time; `on_time` does both. A wait is not stored: after a restart the payment is planned anew
    time        within one run all of it is counted by a clock that nobody sets. An order's end is stored as a date; a
                payment has no more time after a restart than it was given at first, whatever the clock shows then

    search      ways are looked for one after the other, in steps; `run` lets others work between them. What is found
                before the first pause is sent at once, and its order and lock are in one commit

It lives on the engine's loop and never waits; whoever wants to know how a payment ended waits for its event.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.session.effects import Event, SecretLearned
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import Unpaid
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.objects import Route
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion
from tallystick.router.sending.asset_graph import OrderRoutes
from tallystick.router.sending.attribution import attribution_of
from tallystick.router.sending.payer import Limits, Part, Payment, narrowed
from tallystick.router.sending.payments import (
    ADVICE,
    Order,
    PartEnded,
    PartRecord,
    PartSent,
    PaymentEnded,
    PaymentKind,
    PaymentOrdered,
    PaymentRecord,
    find_payment,
    load_parts,
    parts_under_way,
    pending_payments,
)
from tallystick.router.sending.searches import SearchQueue

UNSIGNED_MAX = 60
"""Seconds of chain time that a part may wait to be signed, for a peer that acknowledges nothing, before it goes
another way."""

SLACK = 600
"""Seconds by which locks live longer than the largest margin on their way: they take a while to get there."""

_SPARE = 1_000
"""Deadlines of payments that have ended which are worth keeping."""


class _Active(msgspec.Struct):
    order: Order
    routes: OrderRoutes
    payment: Payment
    gives_up: float
    """By this run's own time."""
    onions: dict[int, BuiltOnion]
    """By number of the part; after a restart with secrets only."""
    done: trio.Event
    record: PaymentRecord | None = None
    """How it ended, as it is recorded or about to be."""


class _Sent(Discreet, msgspec.Struct):
    """The lock of a part."""

    payment_hash: bytes
    number: int
    since: int
    """Chain time at which it was queued, or taken over."""
    secret: bytes = b""
    reason: bytes = b""


class OutgoingPayments:
    """All payments of this node that have not ended."""

    def __init__(
        self,
        channels: NodeChannels,
        routes_for: Callable[[Order], OrderRoutes],
        *,
        clock: Clock,
        entropy: Entropy,
        limits: Callable[[Address], Limits],
        alarm: OnAlarm,
        inline: bool = True,
        steady: Clock | None = None,
    ) -> None:
        """`limits` are those of an asset.

        `clock` is for what is recorded, `steady` shows the same when this is made, and is never set (None: `clock`).
        `inline`: nobody will call `run`; ways are looked for at once, however long it takes.
        """
        self._channels = channels
        self._routes_for = routes_for
        self._record = channels.record
        self._clock = clock
        self._now = steady or clock
        self._entropy = entropy
        self._limits = limits
        self._alarm = alarm
        self.begun = trio.Event()
        """Set, and replaced, when something is to be done for a payment before anything else (`on_time`)."""
        self._active: dict[bytes, _Active] = {}
        self._deadlines: list[tuple[float, bytes]] = []
        """When payments give up, and when waits are over; some of them no longer true."""
        self._waiting: set[bytes] = set()
        searches = SearchQueue(self._send, self._set_aside, inline=inline)
        self._look = searches.look
        """Sends the parts to which steps lead, when it is their turn."""
        self.run = searches.run
        """Looks for ways, and lets others work in between, until cancelled."""
        self._sent: dict[tuple[ChannelId, int], _Sent] = {}
        self._resumed: list[_Active] = []
        """From before a restart, to be planned anew once peers are back."""
        self._resumed_at = 0

    def __len__(self) -> int:
        return len(self._active)

    # --- beginning -----------------------------------------------------------------------------------------------

    def begin(self, order: Order) -> None:
        """Take an order on: nothing is sent before it is stored. Raise InvalidInput if its hash is pending or paid."""
        known = find_payment(self._channels.disk, order.payment_hash)
        if order.payment_hash in self._active or (known is not None and known.ended is None):
            raise InvalidInput("this invoice is being paid already: wait for that payment")
        if known is not None and known.is_paid:
            raise InvalidInput("this invoice has been paid already; its receipt is in the list of payments")
        active = self._add(order, self._now() + order.timeout)
        self._record([PaymentOrdered(order, first=known is None)])
        self._look(active, active.payment.start(self._now()))

    def load(self) -> None:
        """Know the locks from before a restart. Call it before the chain is followed, which tells each secret once."""
        for payment_hash, part in parts_under_way(self._channels.disk):  # of paid ones, too: their ends are recorded
            if (part.channel, part.lock) not in self._sent:
                secret, since = self._channels.paid_with(part.channel, part.lock), self._channels.chain.sure
                self._sent[part.channel, part.lock] = _Sent(payment_hash, part.number, since, secret)

    def resume(self) -> None:
        """Go on with what was under way before a restart. Call it once channels and graph are there.

        What was not sent is planned anew once the peers are back, or UNSIGNED_MAX later.
        """
        self.load()
        self._resumed_at = self._channels.chain.sure
        for record in pending_payments(self._channels.disk):
            active = self._add(record.order, min(record.order.gives_up, self._now() + record.order.timeout))
            parts = load_parts(self._channels.disk, record.order.payment_hash)
            waiting = [part for part in parts if not part.ended]
            active.payment.resume([Part(part.number, part.route) for part in waiting], attempts=len(parts))
            active.onions = {part.number: BuiltOnion(b"", part.secrets) for part in waiting}
            self._catch_up(active, parts)
        self._record((), self._plan_resumed)

    def _catch_up(self, active: _Active, parts: list[PartRecord]) -> None:
        told = [self._sent[name].secret for part in parts if (name := (part.channel, part.lock)) in self._sent]
        secret = next((secret for secret in (*(part.secret for part in parts), *told) if secret), b"")
        if secret:
            active.payment.on_secret_learned(secret)
            active.payment.delivered = sum(part.route.delivered for part in parts if part.secret)
            active.payment.fee_paid = sum(part.route.fee for part in parts if part.secret)
        if self._now() >= active.gives_up:
            active.payment.stop(Unpaid.TIMEOUT, "the time for this payment was over when the node came back")
        self._resumed.append(active)
        self._settle(active)

    def _plan_resumed(self) -> None:
        """Plan what is owed of resumed payments, if there is anything to plan with, or hope is over."""
        if self._resumed and (self._channels.ready or self._channels.chain.sure > self._resumed_at + UNSIGNED_MAX):
            resumed, self._resumed = self._resumed, []
            for active in resumed:
                self._look(active, active.payment.start(self._now()))

    def _add(self, order: Order, gives_up: float) -> _Active:
        routes = self._routes_for(order)
        waits = order.kind is not PaymentKind.PROBE  # which asks what can be paid now
        limits = narrowed(self._limits(order.asset), parts=order.parts, waits=waits)
        payment = Payment(routes, order.target, order.amount, max_fee=order.max_fee, limits=limits)
        active = self._active[order.payment_hash] = _Active(order, routes, payment, gives_up, {}, trio.Event())
        self._remind(order.payment_hash, gives_up)
        return active

    def _remind(self, digest: bytes, due: float) -> None:
        """Let `on_time` look at a payment then."""
        if len(self._deadlines) > 2 * (len(self._active) + len(self._waiting)) + _SPARE:
            self._deadlines = [(active.gives_up, each) for each, active in self._active.items()]
            waits = [(each, self._active[each].payment.waiting) for each in self._waiting]
            self._deadlines += [(waiting.until, each) for each, waiting in waits if waiting is not None]
            heapify(self._deadlines)
        heappush(self._deadlines, (due, digest))
        if self._deadlines[0] == (due, digest):
            self.begun.set()
            self.begun = trio.Event()

    # --- waiting -------------------------------------------------------------------------------------------------

    def order_of(self, payment_hash: bytes) -> Order | None:
        """Return the order of a payment that has not ended; None if there is none, or it has."""
        active = self._active.get(payment_hash)
        return active.order if active is not None else None

    async def wait_ended(self, payment_hash: bytes) -> PaymentRecord:
        """Wait until a payment has ended, durably, and return its record; raise InvalidInput if there is none."""
        active = self._active.get(payment_hash)
        if active is not None:
            await active.done.wait()
            if active.record is not None:
                return active.record
        record = find_payment(self._channels.disk, payment_hash)
        if record is None:
            raise InvalidInput("there is no payment of that hash")
        return record

    def stop(self, payment_hash: bytes, reason: Unpaid, text: str) -> None:
        """Send no further part of a payment; it ends once nothing of it is under way."""
        active = self._active.get(payment_hash)
        if active is not None:
            active.payment.stop(reason, text)
            self._settle(active)

    def on_time(self) -> float | None:
        """Stop the payments whose time is over, go on with those whose wait is; return in how many seconds one's is."""
        now = self._now()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, digest = heappop(self._deadlines)
            active = self._active.get(digest)
            if active is None or active.payment.outcome is not None:
                continue
            waiting = active.payment.waiting
            if now >= active.gives_up:
                self.stop(digest, Unpaid.TIMEOUT, active.payment.too_late)
            elif waiting is not None and waiting.until <= now:
                self._look(active, active.payment.wake(now))
        return self._deadlines[0][0] - now if self._deadlines else None

    def on_graph_changed(self) -> None:
        """There is news of the network: payments that wait for a way may find one."""
        self._hurry(surely=False)

    def _hurry(self, *, surely: bool) -> None:
        """Let payments wait less; `surely`: a peer of ours is back."""
        now = self._now()
        for digest in sorted(self._waiting):
            before = self._active[digest].payment.waiting
            self._active[digest].payment.hurry(now, surely=surely)
            waiting = self._active[digest].payment.waiting
            if waiting is not None and waiting != before:
                self._remind(digest, waiting.until)

    def _set_aside(self, active: _Active, error: Exception) -> None:
        """Try no more to plan a payment: what is under way of it goes on."""
        fault = f"a fault of this program ({type(error).__name__}: {error})"
        text = f"payment {active.order.payment_hash.hex()[:16]} is set aside: {fault} keeps it from being planned"
        self._alarm(Alarm(AlarmKind.PAYMENT_SET_ASIDE, text))
        active.payment.stop(Unpaid.FAULT, f"it could not be planned, for {fault}; please report it")
        self._settle(active)

    # --- sending -------------------------------------------------------------------------------------------------

    def _send(self, active: _Active, parts: list[Part]) -> None:
        for part in parts:
            margin = active.routes.margin(part.route)
            life = max(active.order.lock_seconds, margin + SLACK if margin else 0)
            expiry = self._channels.chain.sure + life
            if life > active.payment.limits.lock_max:
                active.payment.part_impossible(part.number, f"its locks would have to live {life} seconds")
                continue
            if 0 < active.order.expires_by < expiry:
                late = expiry - active.order.expires_by
                active.payment.part_impossible(part.number, f"its locks would have to live {late} seconds too long")
                continue
            try:
                onion = onion_of(active.order, part.route, expiry, self._entropy)
            except InvalidInput as error:  # no channel is to blame, and trying again is of no use
                active.payment.part_impossible(part.number, str(error))
                continue
            try:
                self._lock(active, part, expiry, onion)
            except InvalidInput:
                self._look(active, active.payment.part_unsent(part.number, self._now()))
        self._note_wait(active)
        self._settle(active)

    def _note_wait(self, active: _Active) -> None:
        digest, waiting = active.order.payment_hash, active.payment.waiting
        if waiting is None or self._active.get(digest) is not active:
            self._waiting.discard(digest)
        else:
            self._waiting.add(digest)
            self._remind(digest, waiting.until)

    def _lock(self, active: _Active, part: Part, expiry: int, onion: BuiltOnion) -> None:
        order, first = active.order, part.route.hops[0]
        digest, number, route = order.payment_hash, part.number, part.route

        lock = self._channels.view(first.channel).next_lock
        row = PartSent(digest, number, first.channel, lock, route, onion.secrets)
        self._channels.send_lock(first.channel, first.amount, expiry, digest, onion.packet, row)
        self._sent[first.channel, lock] = _Sent(digest, number, self._channels.chain.sure)
        active.onions[number] = onion

    # --- what becomes of locks, in the step in which it happens: what is returned goes into its commit -----------

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> list[Moment]:
        """The payee gave the secret away: the receipt is stored before anybody is paid for it."""
        sent = self._sent.get((channel, lock.id))
        if sent is None:
            return []
        sent.secret = secret
        active = self._active.get(sent.payment_hash)
        if active is None:
            return []
        active.payment.on_secret_learned(secret)
        return self._outcome(active)

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> list[Moment]:
        """The peer gives the lock of a part back, for a reason that only we can read."""
        sent = self._sent.get((channel, lock.id))
        if sent is not None:
            sent.reason = reason
        return []

    def on_lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> list[Moment]:
        """The lock of a part is gone."""
        sent = self._sent.get((channel, lock.id))
        return self._end(channel, lock.id, sent, secret) if sent is not None else []

    def _end(self, channel: ChannelId, lock: int, sent: _Sent, secret: bytes) -> list[Moment]:
        """Return what records the end of a part; go on with its payment once it is durable."""
        self._record((), lambda: self._on_end(channel, lock, secret))
        return [PartEnded(channel, lock, secret, sent.reason)]

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> list[Moment]:
        """The lock of a part was given up unsigned. Its number may name another one at once: forget it now."""
        found = self._forget(channel, lock.id)
        if found is not None:
            active, sent = found
            self._record((), lambda: self._look(active, active.payment.part_unsent(sent.number, self._now())))
        return []

    def on_channel_ready(self, channel: ChannelId) -> list[Moment]:
        """A channel can carry locks again: the next plan will see it."""
        if self._resumed:
            self._record((), self._plan_resumed)
        if self._waiting:
            self._record((), lambda: self._hurry(surely=True))
        return []

    def on_time_passed(self) -> list[Moment]:
        """Chain time has passed: end what no agreement will end, and find another way for what is not signed."""
        moments: list[Moment] = []
        if self._resumed:
            self._record((), self._plan_resumed)
        for (channel, lock), sent in list(self._sent.items()):
            if self._channels.is_over(channel, lock):
                moments += self._end(channel, lock, sent, sent.secret)
            elif self._channels.chain.sure > sent.since + UNSIGNED_MAX:
                self._channels.give_up(channel, lock)
        return moments

    # --- and what follows, once it is durable --------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Take in what the engine tells of our locks; what is about others' is left alone."""
        if isinstance(event, SecretLearned):
            sent = self._sent.get((event.channel, event.lock.id))
            if sent is not None and sent.payment_hash in self._active:
                self._settle(self._active[sent.payment_hash])

    def _on_end(self, channel: ChannelId, lock: int, secret: bytes) -> None:
        found = self._forget(channel, lock)
        if found is None:
            return
        active, sent = found
        if secret:
            active.onions.pop(sent.number, None)
            active.payment.on_part_paid(sent.number, secret, self._now())
            self._settle(active)
            return
        failure = attribution_of(active.onions.pop(sent.number, BuiltOnion(b"", ())), sent.reason)
        self._look(active, active.payment.on_part_failed(sent.number, failure, self._now()))

    def _forget(self, channel: ChannelId, lock: int) -> tuple[_Active, _Sent] | None:
        sent = self._sent.pop((channel, lock), None)
        if sent is None or sent.payment_hash not in self._active:
            return None
        return self._active[sent.payment_hash], sent

    # --- ending --------------------------------------------------------------------------------------------------

    def _outcome(self, active: _Active) -> list[Moment]:
        """Return what records the outcome, if there is one and it was not recorded yet."""
        outcome, order = active.payment.outcome, active.order
        if outcome is None or active.record is not None:
            return []
        now, text = self._clock(), outcome.text
        if outcome.reason is Unpaid.PAYEE_REFUSES:
            text += ADVICE.get(order.kind, "")
        active.record = PaymentRecord(order, now, outcome.secret, outcome.fee, outcome.reason, text)
        return [PaymentEnded(order.payment_hash, outcome.secret, outcome.fee, outcome.reason, text, now)]

    def _settle(self, active: _Active) -> None:
        """Record the outcome once there is one; forget the payment once nothing of it is under way."""
        moments = self._outcome(active)
        if active.record is not None:  # with no moments of its own, it waits for what was stored before
            self._record(moments, lambda: self._finish(active))

    def _finish(self, active: _Active) -> None:
        active.done.set()
        digest = active.order.payment_hash
        if active.payment.complete and self._active.get(digest) is active:
            del self._active[digest]
            self._waiting.discard(digest)
            active.routes.close()


def onion_of(order: Order, route: Route, expiry: int, entropy: Entropy) -> BuiltOnion:
    """Return the onion of one part, for locks that expire then; raise InvalidInput if it cannot be built."""
    final = FinalPayload(
        route.delivered, expiry, order.payment_secret, order.amount, keysend=order.keysend, metadata=order.metadata
    )
    payloads = [encode_payload(ForwardPayload(hop.amount, expiry, hop.channel)) for hop in route.hops[1:]]
    payloads.append(encode_payload(final))
    return build_onion(entropy(32), [hop.node for hop in route.hops], payloads, order.payment_hash)
