"""One thing that goes wrong while some payments cross between two chains, and what everybody holds in the end.

The faults and cases of `crossings`, and `live_through`, which plays one in worlds of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec
import trio

from simulation.invariants import check_always, check_settled, unsettled
from simulation.two_chains import DEPOSIT, Hub, go_on, open_two_chains, stand_still
from tallystick.channels.node.peers import number_of
from tallystick.channels.protocol.core import Phase
from tallystick.router.sending.payments import find_payment
from tallystick.sdk.chains.crossings import CrossingEnd
from tallystick.sdk.testing.audit import Violation
from tallystick.sdk.testing.world import World
from tallystick.settlement.chain import SecretRegistered

REVEAL = 8
"""Number of the message that shows a secret to a peer."""
PACES = ((12.0, 30.0), (30.0, 12.0))
"""Seconds between blocks: of the payer's chain, and the payee's. Each case is played with both in turn."""
LOOK = 4.0
"""Seconds between two looks at what need not be seen at once."""
AMOUNTS = (1_000, 2_357, 7, 40_011)
DEPTH = 3
"""Blocks that a reorganisation replaces at most: as many as make a deposit count."""
STALL = 200.0
"""Seconds of standing still that all take into account …"""
STALLS = (100.0, 190.0)
"""… and for which a chain stops: more than a node calls a fresh view."""
ABSENCE = 200
"""Seconds for which the maker may be away."""
PATIENCE = 4 * 3_600.0
"""Virtual seconds within which all is over."""
DOWN = 2.0
"""Seconds that payer and payee stay dead; the maker's program starts it again by itself."""


class Way(enum.StrEnum):
    """How the payments go if nothing goes wrong."""

    HANDS = "by hand"
    """Each shows the secret to its peer."""
    REGISTRY = "by registry"
    """No message that shows a secret arrives."""
    REFUSED = "refused"


class Seat(msgspec.Struct, frozen=True):
    """One of the four nodes: on the payer's chain (0) or the payee's (1)."""

    chain: int
    name: str


SEATS = (Seat(0, "alice"), Seat(0, "hub"), Seat(1, "hub"), Seat(1, "bob"))


class Death(msgspec.Struct, frozen=True, tag=True):
    """A node dies at its effect of that number since the payments were asked for."""

    seat: Seat
    effect: int
    after: bool
    both: bool = False
    """The maker's other node dies with it: they are one program."""

    kind = "deaths"


class Rewrite(msgspec.Struct, frozen=True, tag=True):
    """The newest blocks are replaced around each block that first registers a secret."""

    chain: int
    depth: int
    later: int
    """Blocks after that one; −1: while the registration waits to be mined."""
    keep: bool
    """Whether what was in them is mined again by itself."""

    kind = "rewritten"


class Stop(msgspec.Struct, frozen=True, tag=True):
    """A chain stops."""

    chain: int
    when: str
    """See `Crossing.reached`."""
    seconds: float

    kind = "stopped"


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """All goes well."""

    kind = "nothing"


Fault = Death | Rewrite | Stop | Nothing
MOMENTS = ("asked", "held", "begun", "shown", "claimed")


class Case(msgspec.Struct, frozen=True):
    """What goes wrong, with which payments, on chains of which paces."""

    way: Way
    fault: Fault
    pace: int


class Outcome(msgspec.Struct, frozen=True):
    """What came of a case."""

    paid: int
    struck: int
    """Deaths, replaced tips and stops that there were."""
    effects: dict[Seat, list[str]]
    """Of each node, until all payments had ended."""
    steps: dict[Seat, list[int]]
    """How many of them there were when each chain first showed a secret, if it did."""


class Crossing:
    """The worlds of one case, and what happens in them."""

    def __init__(self, zero: World, one: World, hub: Hub, case: Case) -> None:
        self.worlds = (zero, one)
        self.hub = hub
        self.case = case
        self.lives = {seat: self.worlds[seat.chain].seats[seat.name].life for seat in SEATS}
        self.marks = {seat: len(life.gate.effects) for seat, life in self.lives.items() if life is not None}
        self.asked: list[tuple[bytes, str, int]] = []
        """Hash, the maker's invoice, and its price."""
        self.struck = 0
        self.steps: dict[Seat, list[int]] = {seat: [] for seat in SEATS}

    async def ask(self, count: int) -> None:
        """Let Bob ask for payments, and the maker agree to carry them."""
        bob = self.worlds[1].node("bob")
        for number in range(count):
            wanted = await bob.create_invoice(AMOUNTS[number % len(AMOUNTS)], lifetime=7_200)
            text = await self.hub.cross(wanted.text)
            price = self.worlds[0].node("hub").invoice(wanted.payment_hash).amount
            self.asked.append((wanted.payment_hash, text, price))
            if self.case.way is Way.REFUSED:
                await bob.cancel_invoice(wanted.payment_hash)
        if self.case.way is Way.REGISTRY:
            for seat in SEATS:
                self.worlds[seat.chain].seats[seat.name].tamper = _without_reveals

    # --- what goes on ----------------------------------------------------------------------------------------------

    async def pay(self, digest: bytes, text: str) -> None:
        """Let Alice pay, and ask again after each of her deaths, as a person would, until it is paid or has failed."""
        world = self.worlds[0]
        while True:
            if world.is_up("alice"):
                known = find_payment(world.node("alice").store, digest)
                if known is not None and known.ended is not None:
                    return
                life = world.seats["alice"].life
                assert life is not None
                attempt = world.attempt("alice", lambda alice: alice.pay(text, timeout=7_200))
                await world.until(_either(attempt.ended, life.ended), PATIENCE, every=LOOK)
                if attempt.ended.is_set() and not life.gate.dead:
                    return
            await trio.sleep(1.0)

    async def revive(self) -> None:
        """Start payer and payee again whenever they have died."""
        while True:
            for seat in (SEATS[0], SEATS[3]):
                world = self.worlds[seat.chain]
                if not world.is_up(seat.name):
                    await trio.sleep(DOWN)
                    await world.start(seat.name)
            await trio.sleep(LOOK)

    async def harm(self, fault: Fault) -> None:
        """Let it happen."""
        match fault:
            case Death():
                life = self.lives[fault.seat]
                assert life is not None
                life.gate.aim(fault.effect, after=fault.after)
                await life.ended.wait()
                self.struck += 1
                if fault.both:
                    await self.worlds[1 - fault.seat.chain].crash("hub")
            case Rewrite():
                await self.rewrite(self.worlds[fault.chain], fault)
            case Stop():
                world = self.worlds[fault.chain]
                brief = fault.when in ("held", "begun")
                await world.until(lambda: self.reached(fault.when), PATIENCE, every=0.01 if brief else LOOK)
                stand_still(world)
                self.struck += 1
                await trio.sleep(fault.seconds)
                go_on(world)
            case Nothing():
                pass

    def reached(self, moment: str) -> bool:
        """Whether the first payment has come so far: held by the maker, begun on the target, its secret on chain."""
        first = self.asked[0][0]
        match moment:
            case "held":
                hub = self.worlds[0]
                return hub.is_up("hub") and first in hub.node("hub").routing.receiving.held_payments
            case "begun":
                hub = self.worlds[1]
                return hub.is_up("hub") and find_payment(hub.node("hub").store, first) is not None
            case "shown" | "claimed":
                return first in _registered(self.worlds[moment == "shown"])
            case _:
                return True

    async def note_registrations(self) -> None:
        """Note how far each node was when the payee's chain, then the payer's, first showed a secret."""
        for moment in ("shown", "claimed"):
            await self.worlds[0].until(lambda moment=moment: self.reached(moment), PATIENCE, every=LOOK)  # type: ignore[misc]
            for seat, effects in self.effects().items():
                self.steps[seat].append(len(effects))

    async def rewrite(self, world: World, fault: Rewrite) -> None:
        """Replace the newest blocks around each first registration of a secret."""
        seen = _registered(world)
        while True:
            if fault.later < 0:
                waiting = {each.hash for each in world.chain.waiting()}
                if waiting - seen:
                    seen |= waiting
                    self._replace(world, fault)
                await trio.sleep(2.0)
                continue
            await world.blocks(1)
            fresh = _registered(world) - seen
            if fresh:
                seen |= fresh
                await world.blocks(fault.later) if fault.later else None
                self._replace(world, fault)

    def _replace(self, world: World, fault: Rewrite) -> None:
        world.chain.reorganise(fault.depth, keep=lambda transaction: fault.keep)
        self.struck += 1

    # --- the end -----------------------------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Wait until all run, and nothing is locked, in flight or on its way to a chain."""

        def quiet() -> bool:
            if not all(self.worlds[seat.chain].is_up(seat.name) for seat in SEATS):
                return False
            return not any(unsettled(world, self.names(at)) for at, world in enumerate(self.worlds))

        if not await self.worlds[0].until(quiet, PATIENCE, every=5):
            raise Violation("the nodes do not come to rest")

    def names(self, chain: int) -> list[str]:
        """Return who lives on a chain."""
        return [seat.name for seat in SEATS if seat.chain == chain]

    def check(self) -> int:
        """Raise Violation if anybody has lost or gained; return how many payments were made."""
        alice, bob = self.worlds[0].node("alice"), self.worlds[1].node("bob")
        given = got = paid = 0
        for digest, _, price in self.asked:
            arrived = bob.invoice(digest).received
            wanted = bob.invoice(digest).amount
            known = find_payment(alice.store, digest)
            if arrived not in (0, wanted) or (known is not None and known.is_paid) is not bool(arrived):
                raise Violation(f"of payment {digest.hex()[:8]} Bob has {arrived} of {wanted}, and Alice says {known}")
            if arrived:
                paid, given, got = paid + 1, given + price, got + arrived
        held = [sum(each.balances[0] for each in self.worlds[seat.chain].node(seat.name).channels) for seat in SEATS]
        due = [DEPOSIT - given, given, DEPOSIT - got, got]
        if held != due:
            raise Violation(f"payer, maker, maker, payee hold {held}, and {due} is theirs")
        lost = self.hub.made().counts()[0][CrossingEnd.LOST]
        if lost:
            raise Violation(f"the maker calls {lost} crossings lost")
        if self.case.way is Way.REFUSED and paid:
            raise Violation(f"{paid} payments were made that the payee had refused")
        for at, world in enumerate(self.worlds):
            check_always(world)
            check_settled(world, self.names(at))
        return paid

    async def close(self) -> None:
        """Close all channels, and check that each was paid out what was its own."""
        for at, world in enumerate(self.worlds):
            for channel in world.node("hub").channels:
                await channel.close()

            def gone(world: World = world, at: int = at) -> bool:
                channels = [channel for name in self.names(at) for channel in world.node(name).channels]
                return all(each.phase is Phase.GONE for each in channels) and not unsettled(world, self.names(at))

            if not await world.until(gone, 3_600, every=5):
                raise Violation("a channel is not closed")
            check_always(world)
            check_settled(world, self.names(at))

    def effects(self) -> dict[Seat, list[str]]:
        """Return the kinds of effects that each node's first life has had since the beginning, in order."""
        return {seat: life.gate.effects[self.marks[seat] :] for seat, life in self.lives.items() if life is not None}


def _either(one: trio.Event, other: trio.Event) -> Callable[[], bool]:
    return lambda: one.is_set() or other.is_set()


def _without_reveals(message: bytes) -> list[bytes]:
    return [] if number_of(message) == REVEAL else [message]


def _registered(world: World) -> set[bytes]:
    """Return the digests whose secrets the best branch shows."""
    records = world.chain.slice(0, 10**6)
    return {each.digest for record in records for each in record.block.events if isinstance(each, SecretRegistered)}


async def live_through(case: Case, seed: int, count: int) -> Outcome:
    """Play a case in fresh worlds; raise Violation if anything is wrong."""
    async with open_two_chains(seed, PACES[case.pace], careful=True, stall=STALL, absence=ABSENCE) as (zero, one, hub):
        crossing = Crossing(zero, one, hub, case)
        async with trio.open_nursery() as others:
            others.start_soon(hub.serve)
            await crossing.ask(count)
            crossing.marks = {s: len(life.gate.effects) for s, life in crossing.lives.items() if life is not None}
            others.start_soon(crossing.revive)
            others.start_soon(crossing.harm, case.fault)
            if case.way is Way.REGISTRY and isinstance(case.fault, Nothing):
                others.start_soon(crossing.note_registrations)
            async with trio.open_nursery() as payments:
                for digest, text, _ in crossing.asked:
                    payments.start_soon(crossing.pay, digest, text)
            effects = crossing.effects()
            await crossing.rest()
            for world in crossing.worlds:
                world.heal()
            await crossing.rest()
            paid = crossing.check()
            await crossing.close()
            others.cancel_scope.cancel()
    return Outcome(paid, crossing.struck, effects, crossing.steps)
