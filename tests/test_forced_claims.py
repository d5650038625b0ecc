"""Who pays for secrets only once they are on chain makes its neighbour pay for that: it gets a price."""

from __future__ import annotations

import pytest

from simulation.line import Line
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.messages import Reveal
from tallystick.router.forwarding.circuits import load_bars
from tallystick.router.forwarding.forced_claims import ABSENCE, FIRST_BAR, FORCED_MAX, WINDOW, ForcedClaims
from tallystick.router.forwarding.jamming import Jamming, JammingLimits, Reputation
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import ForwardingPolicy

FEE = 48_000
AMOUNT = 3 * FEE
LIFETIME = 600


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def line() -> Line:
    world = Line(options=RoutingOptions(policy=ForwardingPolicy(fee_ppm=0)), deposit=10_000_000)
    world["B"].claim_fee = FEE
    return world


def send(world: Line, number: int) -> bool:
    """Send a payment from A over B to C, who opens it; return whether B takes it on."""
    world["C"].secrets[digest_of(secret(number))] = secret(number)
    before = len(world["C"].finals)
    world.send("ABC", (AMOUNT, AMOUNT), secret(number), lifetime=LIFETIME, seed=secret(number))
    world.settle()
    return len(world["C"].finals) > before


def run_out(world: Line, *, step: int = 50, away: bool = False) -> None:
    """Let time pass until B goes to the chain with what A did not pay for; then A sees it there, and pays."""
    if away:
        world.disconnect(world["A"], world["B"])
    for _ in range(-(-(LIFETIME - 100) // step)):
        world.pass_time(step)
        world.settle()
    world.claim(600)
    world.pass_time(20)
    world.settle()
    world["B"].mute = lambda message: False
    world.connect()
    world.settle()
    world.pass_time(12)  # the debts are paid
    world.settle()
    assert world.pending() == []
    world["B"].mute = lambda message: isinstance(message, Reveal)


def hostile() -> Line:
    """A gets each secret, and might as well not have: it waits until it is on chain."""
    world = line()
    world["B"].mute = lambda message: isinstance(message, Reveal)
    return world


@pytest.mark.alarm("peer-barred")
def test_a_peer_that_lets_every_lock_run_until_it_is_on_chain_is_served_no_more_for_a_day() -> None:
    world = hostile()
    before = world.wealth("B")
    for number in range(FORCED_MAX):
        assert load_bars(world["B"].store) == []
        assert send(world, number)
        run_out(world)
    assert world.wealth("B") == before, "it has paid what it owes"
    ((peer, until),) = load_bars(world["B"].store)
    assert peer == world["A"].node and FIRST_BAR - 600 <= until - world.time <= FIRST_BAR
    (alarm,) = world["B"].alarms
    assert alarm.kind == "peer-barred" and "for 24 hours" in alarm.text
    assert not send(world, 100)
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert not send(world, 101), "restarts or not"
    world.time = until
    world.pass_time(0)
    assert send(world, 102)


def test_many_at_once_count_as_many() -> None:
    world = hostile()
    for number in range(FORCED_MAX):
        assert send(world, number)
    run_out(world)
    assert len(load_bars(world["B"].store)) == 1


def test_it_costs_the_reputation_what_the_claim_costs() -> None:
    jamming, peer = Jamming(JammingLimits(), [(b"a" * 33, Reputation(100.0, 100.0, 0))]), b"a" * 33
    assert jamming.confidence(peer, 1, 0) > 0.98
    jamming.cost(peer, FEE, 0)
    assert jamming.confidence(peer, 1, 0) < 0.003
    assert [name for name, _ in jamming.take_changed()] == [peer]


def test_who_was_away_is_blamed_once_whatever_ran_out_meanwhile() -> None:
    world = hostile()
    for number in range(5):
        assert send(world, number)
    run_out(world, away=True)
    assert load_bars(world["B"].store) == [] and send(world, 100)


def test_nobody_is_blamed_for_what_ran_out_while_we_were_away_ourselves() -> None:
    world = hostile()
    for number in range(5):
        assert send(world, number)
    run_out(world, step=LIFETIME)
    assert load_bars(world["B"].store) == [] and send(world, 100)


def test_who_pays_in_time_is_never_blamed() -> None:
    world = line()
    for number in range(20):
        assert send(world, number)
        world.pass_time(50)
        world.settle()
    for _ in range(20):
        world.pass_time(50)
        world.settle()
    assert world.pending() == [] and load_bars(world["B"].store) == [] and world["B"].alarms == []


def test_bars_double_up_to_two_weeks_and_old_claims_are_forgotten() -> None:
    forced, peer = ForcedClaims(), b"p" * 33
    name, now, bars = 0, 0, []
    for _ in range(6):
        for _ in range(FORCED_MAX):
            assert forced.bar(peer) is None
            name += 1
            assert forced.on_expired(peer, (peer, name), now, away=False)  # type: ignore[arg-type]
            assert not forced.on_expired(peer, (peer, name), now, away=False)  # type: ignore[arg-type]
        bars.append(forced.bar(peer))
    assert bars == [FIRST_BAR, 2 * FIRST_BAR, 4 * FIRST_BAR, 8 * FIRST_BAR, WINDOW, WINDOW]
    for number in range(5):
        now += WINDOW // 2 + 1
        assert forced.on_expired(peer, (peer, 1_000 + number), now, away=False)  # type: ignore[arg-type]
        assert forced.bar(peer) is None
    assert forced.on_expired(peer, (peer, 2_000), now + WINDOW, away=True)  # type: ignore[arg-type]
    assert not forced.on_expired(peer, (peer, 2_001), now + WINDOW + ABSENCE - 1, away=True)  # type: ignore[arg-type]
    assert forced.on_expired(peer, (peer, 2_002), now + WINDOW + ABSENCE, away=True)  # type: ignore[arg-type]
