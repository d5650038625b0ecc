"""What secrets in tokens may cost: fees are in the coin, and nobody but the owner knows what a token is worth in it."""

from __future__ import annotations

import pytest

from simulation.line import Line
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.messages import Reveal
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.router.forwarding.circuits import load_circuits
from tallystick.router.forwarding.exposure import ExposureLimits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import ForwardingPolicy

FEE = 48_000
TOKEN, OTHER = Address(b"\x70" * 20), Address(b"\x71" * 20)
LIMITS = ExposureLimits()
FREE = ForwardingPolicy(fee_ppm=0)
OPTIONS = RoutingOptions(policy=FREE)
NAMED = RoutingOptions(policy=FREE, policies={TOKEN: FREE, OTHER: FREE})
TWICE = ("AB", "BC")


def line(options: RoutingOptions, assets: tuple[Address, Address], careful: str = "B") -> Line:
    """A line whose neighbours share a channel in each of two assets; one member has to pay fees on chain."""
    world = Line(options=options, deposit=10_000_000, twins=TWICE, assets=assets)
    world[careful].claim_fee = FEE
    return world


def send(world: Line, numbers: range, amount: int, *, channel: int, known: bool = False) -> None:
    """Send payments from A to C over the first channels (0) or the second ones (1)."""
    for number in numbers:
        secret = number.to_bytes(32, "big")
        if known:
            world["C"].secrets[digest_of(secret)] = secret
        world.send("ABC", (amount, amount), secret, lifetime=600, seed=secret, number=channel)
    world.settle(100_000)


def test_tokens_that_pend_take_no_room_from_coins() -> None:
    """Amounts of a token are no amounts of the coin, however small their numbers are."""
    world = line(NAMED, (TOKEN, NATIVE))
    send(world, range(LIMITS.count), 1, channel=0)
    assert len(load_circuits(world["B"].store)) == LIMITS.count
    send(world, range(1_000, 1_001), 10_000, channel=1)
    assert len(load_circuits(world["B"].store)) == LIMITS.count + 1


@pytest.mark.parametrize("careful", ["B", "C"])
def test_a_peer_cannot_make_a_node_claim_one_worthless_token_after_the_other(careful: str) -> None:
    """Each secret that goes to the chain costs coins, while who mints a token has as much of it as it likes."""
    world = line(OPTIONS, (TOKEN, OTHER), careful)
    world[careful].mute = lambda message: isinstance(message, Reveal)
    for channel in (0, 1):
        send(world, range(1_000 * channel, 1_000 * channel + 50), 10_000, channel=channel, known=True)
    world.pass_time(500)
    world.claim()
    owner = {known.secret for session in world[careful].engine.sessions.values() for known in session.channel.secrets}
    assert len(owner) == LIMITS.claims, "whatever the number of tokens"
    assert {secret for _, secret in world.registered.values()} == owner


def test_who_claims_whatever_it_costs_and_whoever_named_a_token_carries_as_much_as_channels_do() -> None:
    for options, fee in ((OPTIONS, 0), (NAMED, FEE)):
        world = line(options, (TOKEN, OTHER))
        world["B"].claim_fee = fee
        send(world, range(20), 10_000, channel=0)
        assert len(load_circuits(world["B"].store)) == 20


def test_of_a_token_that_is_named_what_is_below_its_minimum_is_as_good_as_worthless_for_the_payee_too() -> None:
    """Else whoever has a little of it, and pays it unasked in many payments, makes the payee claim each of them."""
    policies = {TOKEN: ForwardingPolicy(fee_ppm=0, minimum=10_000)}
    world = line(RoutingOptions(policy=FREE, policies=policies), (TOKEN, OTHER), "C")
    for member in "AB":
        world[member].policies._options = NAMED
    send(world, range(50), 9_999, channel=0)
    assert len(world["C"].finals) == LIMITS.claims
    send(world, range(100, 150), 10_000, channel=0)
    assert len(world["C"].finals) == LIMITS.claims + 50


def test_worthless_tokens_take_no_room_from_coins_and_what_has_ended_makes_room_again() -> None:
    world = line(OPTIONS, (TOKEN, NATIVE))
    send(world, range(20), 10_000, channel=0)
    assert len(load_circuits(world["B"].store)) == LIMITS.claims
    send(world, range(1_000, 1_001), 10_000, channel=1)
    assert len(load_circuits(world["B"].store)) == LIMITS.claims + 1
    final = next(final for final in world["C"].finals if final.asset == TOKEN)
    world["C"].locks.reveal(final.channel, final.lock.id, (0).to_bytes(32, "big"))
    world.settle(100_000)
    send(world, range(2_000, 2_010), 10_000, channel=0)
    assert len(load_circuits(world["B"].store)) == LIMITS.claims + 1


def test_what_pends_is_counted_alike_after_a_restart() -> None:
    world = line(OPTIONS, (TOKEN, OTHER))
    send(world, range(3), 10_000, channel=0)
    world.crash(world["B"])
    world.connect()
    world.settle(100_000)
    send(world, range(100, 110), 10_000, channel=1)
    assert len(load_circuits(world["B"].store)) == LIMITS.claims
