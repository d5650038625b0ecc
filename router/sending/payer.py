"""One payment from the payer's side: plan, send, learn, split and try again until it is paid, impossible or too dear.

Sans-IO. A `Payment` is told what became of each part and answers with the parts to send next. It asks `OrderRoutes`
(the planner with what it has learned) for routes, and never has more under way than is still owed:

    under way + paid ≤ amount        fees of parts under way or paid ≤ max_fee

A payment starts with a plan over many parts at once (min-cost flow). A part that fails is tried again as one path with
what its failure taught, and if there is none, as two halves, down to `Limits.part_min` (ROUTING.md). The secret is the
receipt: as soon as one part brings it, the payment is paid, since only the payee can have given it away, and parts
that are still under way belong to it.

Where no way is left, a payment asks what would be there if all that failed for a moment only were back (`RetryPlan`).
With no hope, it fails at once. With some, it waits (`WaitUntil`) and is woken to plan anew: after a pause that doubles
each time, less if the network changes or a peer of ours returns. What failed for a moment then gets another chance,
unless it just failed again for another payment.

Finding a way may take long in a large network, so it is done in steps (`steps`): what happens to a payment counts at
once, and the answer is a computation that leads to the parts to send next. Computations of one payment run one after
the other, in the order in which they were given.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.router.errors import NoRoute, Unpaid
from tallystick.router.objects import NodeKey, Route
from tallystick.router.pathfinding.steps import Steps
from tallystick.router.sending.asset_graph import OrderRoutes
from tallystick.router.sending.attribution import Attribution, PartFailure


class Limits(Options, frozen=True, kw_only=True):
    """How hard a payment is tried."""

    parts: int = 32
    """Parts under way at once."""
    attempts: int = 200
    """Parts sent in all."""
    part_min: int = 1_000
    """No part is made smaller than this by splitting, in the asset's smallest unit."""
    again: int = 48
    """Parts that the payee may give back without refusing the payment."""
    avoid_seconds: int = 600
    """How long a channel or node that made no sense, or is of no use for now, is avoided while there are others."""
    lock_max: int = 2**32
    """How many seconds a lock may live, whatever those on the way ask for: a way that takes more is not gone."""
    waits: bool = True
    """Whether to wait for what is of no use for now, if nothing else is left."""
    pause: float = 1.0
    """Seconds of the first wait; each is twice as long as the one before."""
    pause_max: float = 16.0
    """Seconds of the longest wait."""


@functools.lru_cache(100)
def narrowed(limits: Limits, *, parts: bool, waits: bool) -> Limits:
    """Return the limits of a payment that may not come in parts, or not wait. Kept, as each making of options checks
    them all."""
    return msgspec.structs.replace(limits, parts=limits.parts if parts else 1, waits=limits.waits and waits)


class WaitUntil(msgspec.Struct, frozen=True):
    """Nothing can be sent now; something may be at `until`."""

    since: float
    until: float
    text: str
    """What for, for a person."""


class Part(msgspec.Struct, frozen=True):
    """A part of a payment, numbered from 0."""

    number: int
    route: Route


class PaymentOutcome(Discreet, msgspec.Struct, frozen=True):
    """How a payment ended: `secret` if it was paid, else the reason and what to tell a person."""

    secret: bytes = b""
    fee: int = 0
    """Of the parts that were paid or are under way still."""
    reason: Unpaid | None = None
    text: str = ""


class Payment:
    """One payment from the payer's side: see the module's docstring. Methods return the steps to the parts to send."""

    def __init__(self, routes: OrderRoutes, target: NodeKey, amount: int, *, max_fee: int, limits: Limits) -> None:
        self.target = target
        self.amount = amount
        self.max_fee = max_fee
        self.limits = limits
        self.secret = b""
        self.attempts = 0
        self.delivered = 0
        """What the parts that ended paid have delivered."""
        self.fee_paid = 0
        self.waiting: WaitUntil | None = None
        """Set while nothing can be sent: `wake` it then."""
        self._routes = routes
        self._under_way: dict[int, Part] = {}
        self._stopped: tuple[Unpaid, str] | None = None
        self._last_failure = ""
        self._given_back = 0
        self._pause = limits.pause

    # --- what it stands at ---------------------------------------------------------------------------------------

    @property
    def parts(self) -> list[Part]:
        """The parts under way."""
        return list(self._under_way.values())

    @property
    def under_way(self) -> int:
        """What the parts under way will deliver."""
        return sum(part.route.delivered for part in self._under_way.values())

    @property
    def fee(self) -> int:
        """Of the parts that were paid or are under way."""
        return self.fee_paid + sum(part.route.fee for part in self._under_way.values())

    @property
    def owed(self) -> int:
        """What no part stands for yet."""
        return self.amount - self.delivered - self.under_way

    @property
    def outcome(self) -> PaymentOutcome | None:
        """How it ended; None while it has not. An unpaid payment has ended only once nothing of it is under way."""
        if self.secret:
            return PaymentOutcome(self.secret, self.fee)
        if self._stopped is not None and not self._under_way:
            return PaymentOutcome(reason=self._stopped[0], text=self._stopped[1])
        return None

    @property
    def complete(self) -> bool:
        """Whether it has ended and no part is under way any more."""
        return self.outcome is not None and not self._under_way

    @property
    def too_late(self) -> str:
        """What to tell a person if its time is over now."""
        text = "it was not paid in the time that it was given"
        if self.waiting is not None:
            return f"{text}; at last it waited for {self.waiting.text}"
        return self._with_last_failure(text)

    # --- what happens to it --------------------------------------------------------------------------------------

    def resume(self, parts: Iterable[Part], attempts: int) -> None:
        """Take over parts that were signed before a restart, and are under way still."""
        for part in parts:
            self._under_way[part.number] = part
            self._routes.reserve(part.route)
        self.attempts = max([attempts, *(number + 1 for number in self._under_way)])

    def start(self, now: float) -> Steps[list[Part]]:
        """Plan what is owed, as many parts at once."""
        self.waiting = None
        if self.owed <= 0 or self._over:
            return []
        if self._room < 1:
            return (yield from self._place(self.owed, now, None))
        budget = self.max_fee - self.fee
        try:
            routes = yield from self._routes.plan(self.target, self.owed, max_fee=budget, max_parts=self._room, now=now)
        except NoRoute as error:
            return (yield from self._place(self.owed, now, error))
        return [] if self._over else [self._send(route) for route in routes]

    def hurry(self, now: float, *, surely: bool) -> None:
        """Wait less: a peer of ours is back (`surely`), or the network has changed."""
        waiting = self.waiting
        if waiting is not None:
            least = waiting.since + (self.limits.pause if surely else max(self.limits.pause, self._pause / 4))
            self.waiting = msgspec.structs.replace(waiting, until=min(waiting.until, max(now, least)))

    def wake(self, now: float) -> Steps[list[Part]]:
        """Plan anew what is owed, as the wait is over."""
        self.waiting = None
        self._pause = min(2 * self._pause, self.limits.pause_max)
        return self.start(now)

    def on_part_paid(self, number: int, secret: bytes, now: float) -> None:
        """A part was paid, `secret` is the proof."""
        self.on_secret_learned(secret)
        part = self._end(number)
        if part is None:
            return
        self.delivered += part.route.delivered
        self.fee_paid += part.route.fee
        self._routes.knowledge.on_settled(part.route, now)

    def on_secret_learned(self, secret: bytes) -> None:
        """The secret is known: whatever is under way belongs to a payment that is paid."""
        self.secret = secret
        self.waiting = None

    def part_unsent(self, number: int, now: float) -> Steps[list[Part]]:
        """Our own channel could not take the part."""
        part = self._end(number)
        if part is None:
            return _nothing()
        first = part.route.hops[0]
        self._routes.knowledge.on_failed(first.channel, first.node, first.amount, now)
        return self._retry(part, now)

    def part_impossible(self, number: int, why: str) -> None:
        """The part cannot be written down for those who are to carry it: nobody is to blame, and all is given up."""
        self._end(number)
        self.stop(Unpaid.NO_ROUTE, f"this payment cannot be sent: {why}")

    def on_part_failed(self, number: int, failure: PartFailure, now: float) -> Steps[list[Part]]:
        """A part came back: learn from it, and send what takes its place."""
        part = self._end(number)
        if part is None:
            return _nothing()
        self._last_failure = failure.text
        self._learn(part.route, failure, now)
        self._given_back += failure.attribution is Attribution.AGAIN
        if failure.attribution is Attribution.REFUSED or self._given_back > self.limits.again:
            self.stop(Unpaid.PAYEE_REFUSES, f"the payee refuses this payment: {failure.text or 'it gives no reason'}")
            return _nothing()
        return self._retry(part, now)

    def stop(self, reason: Unpaid, text: str) -> None:
        """Send no further part. What is under way cannot be called back: it ends paid or not at all."""
        self.waiting = None
        if self._stopped is None:
            self._stopped = (reason, text)

    # --- sending -------------------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        """Whether no further part is to be sent."""
        return self._stopped is not None or bool(self.secret)

    @property
    def _room(self) -> int:
        return max(0, min(self.limits.parts - len(self._under_way), self.limits.attempts - self.attempts))

    def _send(self, route: Route) -> Part:
        owed, budget = self.owed, self.max_fee - self.fee
        if route.delivered > owed or route.fee > budget:
            raise InvalidInput(
                f"a route that delivers {route.delivered} for {route.fee} does not fit: {owed} is owed, {budget} is "
                "left for fees; the planner is at fault"
            )
        part = Part(self.attempts, route)
        self.attempts += 1
        self._under_way[part.number] = part
        self._routes.reserve(route)
        return part

    def _end(self, number: int) -> Part | None:
        part = self._under_way.pop(number, None)
        if part is not None:
            self._routes.release(part.route)
        return part

    def _retry(self, part: Part, now: float) -> Steps[list[Part]]:
        if self._over or (self.waiting is not None and self._under_way):
            return []  # all that is owed is planned anew once the wait is over
        if self.waiting is not None:
            return (yield from self.start(now))
        return (yield from self._place(part.route.delivered, now, None))

    def _place(self, amount: int, now: float, cause: NoRoute | None) -> Steps[list[Part]]:
        """Find one path, or halve what finds none; send none of it if a piece cannot be placed."""
        sent: list[Part] = []
        waiting = [min(amount, self.owed)]  # since this was asked for, a plan may have taken care of it
        while waiting and waiting[-1] and not self._over:
            piece = waiting.pop()
            try:
                route = yield from self._one_path(piece, self._room - len(waiting), now)
            except NoRoute as error:
                cause = cause or error  # of the whole, not of the last crumb: that is what a person asked for
                half = piece // 2
                if half < max(1, self.limits.part_min) or self._room <= len(waiting) + 1:
                    self._take_back(sent)
                    return (yield from self._hold(cause, now))
                waiting += [piece - half, half]
                continue
            if not self._over:
                sent.append(self._send(route))
        return self._take_back(sent) if self._over else sent

    def _one_path(self, amount: int, room: int, now: float) -> Steps[Route]:
        if room < 1:
            raise NoRoute(f"this payment was tried in {self.attempts} parts", Unpaid.NO_LIQUIDITY)
        budget = self.max_fee - self.fee
        owed = max(amount, self.owed)
        try:
            return (yield from self._routes.route(self.target, amount, max_fee=budget * amount // owed, now=now))
        except NoRoute:
            if owed == amount:
                raise
            return (yield from self._routes.route(self.target, amount, max_fee=budget, now=now))

    def _take_back(self, sent: list[Part]) -> list[Part]:
        """Nothing of this round was handed out yet, and it does not add up to what is owed: send none of it."""
        for part in sent:
            self._end(part.number)
        self.attempts -= len(sent)
        return []

    def _hold(self, cause: NoRoute, now: float) -> Steps[list[Part]]:
        """Nothing can be placed: give another chance to what failed for a moment, wait for it, or give all up."""
        retry_plan, room = None, self._room
        if self.limits.waits and room and self.owed > 0:
            retry_plan = yield from self._routes.retry_plan(
                self.target, self.owed, max_fee=self.max_fee - self.fee, max_parts=room, now=now
            )
        if self._over or self.owed <= 0:
            return []
        if retry_plan is not None and not retry_plan.away and retry_plan.since <= now - self._pause / 4:
            return [self._send(route) for route in retry_plan.routes]
        if self.limits.waits and self.attempts < self.limits.attempts and (retry_plan is not None or self._under_way):
            text = retry_plan.text if retry_plan is not None else "the parts of it that are under way"
            self.waiting = WaitUntil(now, now + self._pause, self._with_last_failure(text))
        else:
            self.stop(cause.reason, self._with_last_failure(str(cause)))
        return []

    def _with_last_failure(self, text: str) -> str:
        if not self._last_failure:
            return text
        return f"{text}; the last part that was tried came back with: {self._last_failure}"

    # --- learning ------------------------------------------------------------------------------------------------

    def _learn(self, route: Route, failure: PartFailure, now: float) -> None:
        hops, until, since = route.hops, now + self.limits.avoid_seconds, now if failure.brief else None
        if failure.attribution is Attribution.UNKNOWN or failure.at >= len(hops):
            for hop in hops[1:] or hops:
                self._routes.knowledge.avoid(hop.channel, hop.node, until, since)
            return
        for hop in hops[: failure.at + 1]:
            self._routes.knowledge.on_passed(hop.channel, hop.node, hop.amount, now)
        if failure.attribution in (Attribution.REFUSED, Attribution.AGAIN):
            return
        if failure.attribution is Attribution.NODE or failure.at + 1 >= len(hops):
            self._routes.knowledge.avoid_node(hops[failure.at].node, until, since)
            return
        onwards = hops[failure.at + 1]
        news = bool(failure.update) and self._routes.learn_policy(failure.update)
        fee = hops[failure.at].amount - onwards.amount
        changed = not self._routes.allows(onwards, fee)  # gossip may have been faster
        if failure.attribution is Attribution.LIQUIDITY:
            self._routes.knowledge.on_failed(onwards.channel, onwards.node, onwards.amount, now)
        elif failure.attribution is Attribution.CHANNEL or not (news or changed):
            self._routes.knowledge.avoid(onwards.channel, onwards.node, until, since)


def _nothing() -> Steps[list[Part]]:
    yield from ()
    return []
