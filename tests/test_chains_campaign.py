"""Payments both ways across two chains while nodes die, chains reorganise and stop, and links are cut: nobody loses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest
import trio

from simulation.two_chains import DEPOSIT, Hub, go_on, place, play, stand_still
from tallystick.channels.errors import TallystickError
from tallystick.channels.node.peers import number_of
from tallystick.sdk.chains.rates import Rate
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.world import World
from tallystick.settlement.chain import SecretRegistered

STALL = 150
"""Seconds for which a chain stops: below what the maker takes into account, above what a node calls a fresh view."""

REVEAL = 8
"""Number of the message that shows a secret to a peer."""

ROUND = 5
"""Payments at once."""


class Tried(msgspec.Struct, frozen=True):
    """A payment that somebody was asked to make."""

    payer: tuple[World, str]
    payee: tuple[World, str]
    digest: bytes
    price: int
    amount: int


class Campaign:
    """The worlds, what was tried in them, and their faults."""

    def __init__(self, zero: World, one: World, hub: Hub, seed: int) -> None:
        self.zero, self.one, self.hub = zero, one, hub
        self.rng = random.Random(seed)
        self.tried: list[Tried] = []
        self.roles = [(zero, "alice"), (zero, "hub"), (one, "hub"), (one, "bob")]
        self.reorganised = 0

    async def pay(self) -> None:
        """Let Alice pay Bob, or Bob Alice, if all who are needed are up."""
        ends = [(self.zero, "alice"), (self.one, "bob")]
        if self.rng.random() < 0.5:
            ends.reverse()
        payer, payee = ends
        text = ""
        with trio.move_on_after(30), suppress(TallystickError):  # a node that dies meanwhile answers nothing
            asked = await payee[0].node(payee[1]).create_invoice(self.rng.randrange(1_000, 50_000))
            maker = self.hub.made()
            crossed = await maker.cross(asked.text)
            record, text = maker.node(place(payer[0])).invoice(asked.payment_hash), crossed
        if not text:
            return
        self.tried.append(Tried(payer, payee, asked.payment_hash, record.amount, asked.amount))
        payer[0].attempt(payer[1], lambda node: node.pay(text, timeout=300))

    async def harm(self) -> None:
        """Do one thing that may happen."""
        world, name = self.rng.choice(self.roles)
        match self.rng.randrange(6):
            case 0:
                life = world.seats[name].life
                if life is not None and world.is_up(name):
                    life.gate.aim(self.rng.randrange(12), after=self.rng.random() < 0.5)
            case 1:
                await world.crash(name)
            case 2:
                world.network.partition(world.seats["hub"].key.public)
            case 3:
                stand_still(world)
                await trio.sleep(self.rng.randrange(STALL))
                go_on(world)
            case 4:
                world.chain.reorganise(self.rng.choice((1, 2)))
            case _:
                await self.lose_reveals()

    async def lose_reveals(self) -> None:
        """Let no secret come through until the locks are over: it is registered, or lost."""
        seats = [world.seats[name] for world, name in self.roles]
        for seat in seats:
            seat.tamper = lambda message: [] if number_of(message) == REVEAL else [message]
        for _ in range(ROUND):
            await self.pay()
        await trio.sleep(self.rng.choice((1_000, 3_600, 5_000)))
        for seat in seats:
            seat.tamper = None

    async def reorganise_registrations(self, world: World) -> None:
        """Undo each block that first registers a secret, or let it stand, as the dice say; it is mined again."""
        known = world.chain.newest.header.number
        seen = set[bytes]()
        while True:
            await world.chain.wait(world.chain.newest.header.hash)
            newest = world.chain.newest.header.number
            for block in await world.chain.blocks(known + 1, 50) if newest > known else ():
                fresh = {event.digest for event in block.events if isinstance(event, SecretRegistered)} - seen
                seen |= fresh
                if fresh and self.rng.random() < 0.7:
                    world.chain.reorganise(1)
                    self.reorganised += 1
            known = newest

    async def revive(self) -> None:
        """Start whoever is down (the maker's own are started by its program), and mend what was cut."""
        for world, name in self.roles:
            world.network.heal()
            if name != "hub" and not world.is_up(name):
                await world.start(name)

    async def settle(self) -> None:
        """Wait until nothing is under way any more."""
        for world in (self.zero, self.one):
            world.heal()
        await self.revive()

        def quiet() -> bool:
            up = all(world.is_up(name) for world, name in self.roles)
            return up and not any(locked(world.node(name)) for world, name in self.roles)

        assert await self.zero.until(quiet, 4 * 3_600, every=10)

    def check(self) -> int:
        """Compare all balances with what was paid to the payees; return how many payments were."""
        expected = {"alice": DEPOSIT, "hub0": 0, "hub1": DEPOSIT, "bob": 0}
        paid = 0
        for each in self.tried:
            got = each.payee[0].node(each.payee[1]).invoice(each.digest).received
            assert got in (0, each.amount)
            payer = each.payer[0].node(each.payer[1])
            try:
                assert payer.payment(each.digest).is_paid is bool(got)
            except TallystickError:
                assert not got, "the payer died before it had ordered it"
            if not got:
                continue
            paid += 1
            there, back = ("hub0", "hub1") if each.payer[1] == "alice" else ("hub1", "hub0")
            expected[each.payer[1]] -= each.price
            expected[there] += each.price
            expected[back] -= each.amount
            expected[each.payee[1]] += each.amount
        found = [sum(channel.balances[0] for channel in world.node(name).channels) for world, name in self.roles]
        assert found == list(expected.values())
        return paid


def locked(node: Node) -> int:
    states = [channel.view.channel for channel in node.channels]
    return sum(state.ours.simplex.proof.locked + state.theirs.simplex.proof.locked for state in states)


def story_of(seed: int, rounds: int) -> Callable[[World, World, Hub], Awaitable[None]]:
    async def story(zero: World, one: World, hub: Hub) -> None:
        maker = hub.made()
        maker.set_rate(Rate(source=place(one), target=place(zero), take=2, give=3, base=5))
        campaign = Campaign(zero, one, hub, seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.serve)
            for world in (zero, one):
                nursery.start_soon(campaign.reorganise_registrations, world)
            for _ in range(rounds):
                for _ in range(ROUND):
                    await campaign.pay()
                await trio.sleep(campaign.rng.random() * 2)
                await campaign.harm()
                await trio.sleep(campaign.rng.random() * 60)
                await campaign.revive()
                await trio.sleep(5)
            await campaign.settle()
            paid = campaign.check()
            print(
                f"seed {seed}: {paid} of {len(campaign.tried)} were paid, {campaign.reorganised} undone registrations"
            )
            assert paid > len(campaign.tried) // 4
            nursery.cancel_scope.cancel()

    return story


@pytest.mark.parametrize("seed", range(2))
def test_nobody_loses_on_either_chain(seed: int) -> None:
    play(story_of(seed, 6), seed=seed + 100)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(30))
def test_nobody_loses_on_either_chain_over_thousands_of_payments(seed: int) -> None:
    play(story_of(seed + 1_000, 25), seed=seed + 1_000)
