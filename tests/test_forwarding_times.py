"""A secret that one hop of three gets late: to the second it is paid by everybody, or by nobody above that hop.

A pays D through B and C. The hop that is late hears of the secret when so many seconds are left until the expiry, which
all locks share. Until `reveal_margin` it pays, and so does everybody before it. After that only the chain counts: a
secret that was registered by the expiry pays all locks, one second later it pays none, and whoever told it to the late
hop and did not go to the chain (`settlement.enforcement.duties`) has lost what it paid onwards.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from simulation.line import Line
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.messages import Reveal
from tallystick.channels.protocol.objects import Lock
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.settlement.contract.verdicts import decide

SECRET = b"s" * 32
LINE = "ABCD"
AMOUNTS = {"AB": 100_200, "BC": 100_100, "CD": 100_000}
DEPOSIT = 1_000_000
START = {"A": DEPOSIT, "B": 2 * DEPOSIT, "C": 2 * DEPOSIT, "D": DEPOSIT}
LIFETIME = 900
MARGIN = Policy().reveal_margin
AFTER = {"A": "B", "B": "C", "C": "D"}


def locks(world: Line) -> dict[str, Lock]:
    """Return the pending lock of each hop, as its receiver has it."""
    return {
        one + other: world[other].engine.session(world.channel(one + other)).channel.theirs.simplex.locks[0]
        for one, other in pairwise(LINE)
    }


def held(world: Line) -> dict[str, Lock]:
    """Send the payment, and let D keep it."""
    world.send(LINE, tuple(AMOUNTS.values()), SECRET, lifetime=LIFETIME)
    world.settle()
    pending = locks(world)
    assert {pair: lock.amount for pair, lock in pending.items()} == AMOUNTS
    assert len({lock.expiry for lock in pending.values()}) == 1, "all hops share one expiry"
    return pending


def tell_late(world: Line, late: str, left: int) -> None:
    """Let D reveal at once; the late hop hears of it when that many seconds are left."""
    source, expiry = world[AFTER[late]], world.time + LIFETIME
    source.mute = lambda message: isinstance(message, Reveal)
    final = world["D"].finals[0]
    world["D"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    world.pass_time(expiry - left - world.time)
    source.mute = lambda message: False
    world.connect()  # each secret that was not paid for is said again
    world.settle()


def wealth(world: Line) -> dict[str, int]:
    return {name: world.wealth(name) for name in LINE}


def expected(paid: bool, late: str) -> dict[str, int]:
    """Return what everybody has: all of it paid, or only what lies behind the late hop."""
    found = dict(START)
    for pair, amount in AMOUNTS.items():
        if paid or pair[0] > late:
            found[pair[0]] -= amount
            found[pair[1]] += amount
    return found


@pytest.mark.parametrize("late", ["A", "B", "C"])
@pytest.mark.parametrize("left", [MARGIN + 1, MARGIN, MARGIN - 1, 1, 0, -1])
@pytest.mark.parametrize("registered", [-1, 0, 1, None], ids="registered {}".format)
def test_a_hop_that_hears_of_the_secret_late_pays_up_to_the_margin_and_then_by_the_chain_alone(
    late: str, left: int, registered: int | None
) -> None:
    """`registered`: when, in seconds after the expiry; None: never."""
    world = Line(LINE)
    pending = held(world)
    expiry, source = pending["AB"].expiry, AFTER[late]
    tell_late(world, late, left)
    in_time = left >= MARGIN
    assert wealth(world) == expected(in_time, late)
    assert (world["A"].receipts == {SECRET}) is in_time

    if registered is not None:
        world.pass_time(max(0, expiry + registered - world.time))
        world.register(SECRET, expiry + registered)
    world.pass_time(expiry + 100 - world.time)
    world.connect()
    world.settle()
    paid = in_time or (registered is not None and registered <= 0)
    assert world.pending() == [] and world.faults == []
    assert wealth(world) == expected(paid, late) and sum(wealth(world).values()) == sum(START.values())
    assert (world["A"].receipts == {SECRET}) is paid and [bool(end.secret) for end in world["A"].ended] == [paid]

    for name in "BC":  # the records say the same, and nothing is left under way
        (forward,) = forwards_after(world[name].store, 0, 9)
        assert (forward.outcome is ForwardOutcome.PAID) is (paid or name > late) and load_circuits(
            world[name].store
        ) == []
    barred = [name for name, member in world.members.items() if member.alarms]
    assert barred == ([] if paid else [source]), "whoever was not paid says so, and nobody else"

    if not in_time:  # the contract would have decided each lock above the late hop in the same way
        seen = Counter({} if registered is None else {(HASH, digest_of(SECRET)): expiry + registered})
        for pair, lock in pending.items():
            verdict = decide(lock, expiry + 200, seen.__getitem__)
            assert verdict == (AMOUNTS[pair] if paid else 0)


@pytest.mark.parametrize("late", ["B", "C"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_late_hop_that_crashes_between_hearing_and_paying_decides_by_the_same_second(late: str, after: int) -> None:
    """It dies in the commit in which it would pay; when it is back, it is `after` seconds later."""
    world = Line(LINE)
    expiry = held(world)["AB"].expiry
    source, hop = world[AFTER[late]], world[late]
    source.mute = lambda message: isinstance(message, Reveal)
    final = world["D"].finals[0]
    world["D"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    world.pass_time(expiry - MARGIN - world.time)
    source.mute = lambda message: False
    world.connect()
    while not hop.session(source).outbox.is_ending(0):
        world.do(*world.moments()[0])
    world.crash_in_commit(hop, takes_effect=False)
    world.pass_time(after)
    world.connect()
    world.settle()
    assert wealth(world) == expected(after == 0, late)
    world.claim()
    world.pass_time(LIFETIME)
    world.connect()
    world.settle()
    assert wealth(world) == expected(True, late) and world.pending() == [], "whoever told it has claimed it on chain"


@pytest.mark.parametrize("late", ["A", "B", "C"])
@pytest.mark.parametrize("behind", [1, 0])
def test_a_hop_with_an_old_view_of_the_chain_pays_for_no_secret_until_it_knows_the_time(late: str, behind: int) -> None:
    world = Line(LINE)
    expiry = held(world)["AB"].expiry
    world[late].fresh = False
    final = world["D"].finals[0]
    world["D"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    assert wealth(world) == expected(False, late)
    world.pass_time(expiry - MARGIN + behind - world.time)
    world.settle()
    assert wealth(world) == expected(False, late)
    world[late].fresh = True
    world.pass_time(0)
    world.settle()
    assert wealth(world) == expected(behind == 0, late)
