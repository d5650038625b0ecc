"""What is too small to be claimed on chain can be taken from a forwarder: only so much of it pends with one peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.line import Line
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Reveal
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.inputs import PhaseReached
from tallystick.router.codes import Code
from tallystick.router.forwarding.admission import TOLD_BEFORE
from tallystick.router.forwarding.circuits import load_bars, load_circuits
from tallystick.router.forwarding.exposure import Exposure, ExposureLimits, LockDirection, Name
from tallystick.router.forwarding.jamming import JammingLimits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import Failure

FEE = 48_000
LIMITS = ExposureLimits()
AMOUNT = 10_000
MOST = LIMITS.claims * FEE // AMOUNT
"""So many locks of AMOUNT may pend with one peer."""
FREE = RoutingOptions(policy=ForwardingPolicy(fee_ppm=0))
TWO_WEEKS = JammingLimits().banned


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def line(options: RoutingOptions = FREE, careful: str = "B") -> Line:
    """A line in which fees count for one node: the one that is to be robbed."""
    world = Line(options=options, deposit=10_000_000)
    world[careful].claim_fee = FEE
    return world


def send(world: Line, numbers: range, amount: int = AMOUNT, *, route: str = "ABC", known: bool = False) -> None:
    """Let the payee know the secrets of these payments (or not yet), and send them."""
    for number in numbers:
        if known:
            world[route[-1]].secrets[digest_of(secret(number))] = secret(number)
        world.send(route, (amount,) * (len(route) - 1), secret(number), lifetime=600, seed=secret(number))
    world.settle(100_000)


def reveal_all(world: Line, count: int) -> None:
    """Let the payee open whatever it holds."""
    known = {digest_of(secret(number)): secret(number) for number in range(count)}
    for final in world["C"].finals:
        world["C"].locks.reveal(final.channel, final.lock.id, known[final.lock.condition])
    world.settle(100_000)


def expire(world: Line) -> None:
    """Let all locks expire unclaimed, and everybody meet again."""
    world.pass_time(613)
    world["B"].mute = world["C"].mute = lambda message: False
    world.pass_time(60)
    world.connect()
    world.settle(100_000)
    assert world.pending() == []


# --- a thief ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "most"), [(AMOUNT, LIMITS.claims * FEE), (100, LIMITS.count * 100)])
def test_a_peer_that_takes_secrets_and_pays_nothing_can_take_no_more_than_the_limit(amount: int, most: int) -> None:
    world = line()
    before = world.wealth("B")
    world["B"].mute = lambda message: isinstance(message, Reveal)  # A gets them, and might as well not have
    send(world, range(300), amount, known=True)
    expire(world)
    assert before - world.wealth("B") == most
    send(world, range(300, 600), amount, known=True)
    assert before - world.wealth("B") == most, "now it is barred"


def test_a_peer_that_pays_the_last_hop_nothing_can_take_no_more_either() -> None:
    """B is the thief, C is paid: what ends here is limited, and after the theft nothing small is taken from B."""
    world = line(careful="C")
    before = world.wealth("C")
    world["C"].mute = lambda message: isinstance(message, Reveal)
    send(world, range(100), known=True)
    assert len(world["C"].finals) == MOST
    expire(world)
    assert world.wealth("C") == before and len(load_bars(world["C"].store)) == 1
    send(world, range(200, 201))
    assert len(world["C"].finals) == MOST, "small, and from a peer that is barred"
    send(world, range(300, 301), 2 * FEE, known=True)
    assert world.wealth("C") == before + 2 * FEE, "what can be claimed on chain is still taken"


# --- the limit --------------------------------------------------------------------------------------------------


def test_what_exceeds_the_limit_comes_back_with_a_temporary_failure_and_what_has_ended_makes_room() -> None:
    world = line()
    send(world, range(MOST))
    assert len(load_circuits(world["B"].store)) == MOST and world["A"].ended == []
    built = world.send("ABC", (AMOUNT, AMOUNT), secret(1_000), lifetime=600)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.CHANNEL_DISABLED)
    world["C"].locks.refuse(world["C"].finals[0], Failure(Code.MPP_TIMEOUT))
    world.settle()
    send(world, range(2_000, 2_001))
    assert len(load_circuits(world["B"].store)) == MOST
    reveal_all(world, 2_001)
    assert world.pending() == [] and len(world["B"].admission.exposure) == 0
    send(world, range(3_000, 3_000 + MOST))
    assert len(load_circuits(world["B"].store)) == MOST


def test_what_is_worth_a_claim_even_at_twice_its_fee_is_not_limited() -> None:
    world = line()
    send(world, range(8), 2 * FEE)
    assert len(load_circuits(world["B"].store)) == 8
    world = line()
    send(world, range(8), 2 * FEE - 1)
    assert len(load_circuits(world["B"].store)) == LIMITS.claims // 2


def test_fees_that_rise_make_large_locks_small_ones() -> None:
    world = line()
    world["B"].claim_fee = 10
    send(world, range(MOST + 3))
    assert len(load_circuits(world["B"].store)) == MOST + 3
    world["B"].claim_fee = FEE
    send(world, range(100, 101))
    assert len(load_circuits(world["B"].store)) == MOST + 3 and len(world["A"].ended) == 1
    world["B"].claim_fee = 10
    send(world, range(200, 201))
    assert len(load_circuits(world["B"].store)) == MOST + 4


def test_what_goes_out_to_one_peer_is_limited_whoever_sends_it() -> None:
    """A star, B in the middle: two peers pay a third, and each of them keeps within its own limit."""
    world = Line("ABC", options=FREE, deposit=10_000_000)
    world["B"].claim_fee = FEE
    out = (world["C"].node, LockDirection.OUT)
    exposure = world["B"].admission.exposure
    send(world, range(MOST - 1))
    assert exposure.small(*out, FEE) == ((MOST - 1) * AMOUNT, MOST - 1)
    exposure.began((ChannelId(b"other" * 6 + b"xx"), LockDirection.OUT, 0), world["C"].node, AMOUNT)
    send(world, range(100, 101))
    assert len(world["A"].ended) == 1, "A has room, C has none"
    assert exposure.has_room(world["A"].node, LockDirection.IN, AMOUNT, FEE)
    send(world, range(200, 201), route="CBA")
    assert len(world["C"].ended) == 0, "the other way is another limit"


def test_what_comes_in_from_one_peer_is_limited_wherever_it_goes() -> None:
    world = line()
    send(world, range(MOST - 1))
    elsewhere = (ChannelId(b"other" * 6 + b"xx"), LockDirection.IN, 0)
    world["B"].admission.exposure.began(elsewhere, world["A"].node, AMOUNT)
    send(world, range(100, 101))
    assert len(world["A"].ended) == 1
    world["B"].admission.exposure.on_ended(elsewhere)
    send(world, range(200, 201))
    assert len(load_circuits(world["B"].store)) == MOST


def test_nothing_is_counted_of_a_channel_that_is_gone_or_of_a_lock_that_was_given_back() -> None:
    world = line()
    b = world["B"]
    send(world, range(3))
    world.disconnect(world["A"], b)
    world.disconnect(b, world["C"])
    world.pass_time(613)  # the incoming locks are rejected, which A does not know yet
    for _ in range(2):
        b.step()
        exposure = b.admission.exposure
        assert len(exposure) == 3 and exposure.small(world["A"].node, LockDirection.IN, FEE) == (0, 0)
        assert exposure.small(world["C"].node, LockDirection.OUT, FEE) == (3 * AMOUNT, 3)
        world.crash(b)
    for phase in (Phase.CLOSED, Phase.SETTLED, Phase.GONE):
        b.engine.apply(world.channel("BC"), PhaseReached(phase))
    world.pass_time(1)
    assert len(b.admission.exposure) == 0


def test_a_limit_of_nothing_takes_nothing_small() -> None:
    world = line(RoutingOptions(policy=ForwardingPolicy(fee_ppm=0), exposure=ExposureLimits(claims=0)))
    send(world, range(1), 1)
    assert len(world["A"].ended) == 1
    send(world, range(1, 2), 2 * FEE)
    assert len(load_circuits(world["B"].store)) == 1


# --- restarts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revealed", [False, True])
def test_what_pends_is_counted_across_a_restart(revealed: bool) -> None:
    world = line()
    send(world, range(MOST))
    if revealed:
        world["B"].mute = lambda message: isinstance(message, Reveal)
        reveal_all(world, MOST)
        assert load_circuits(world["B"].store) == []
    world.crash(world["B"])
    incoming = world["B"].admission.exposure.small(world["A"].node, LockDirection.IN, FEE)
    outgoing = world["B"].admission.exposure.small(world["C"].node, LockDirection.OUT, FEE)
    assert incoming == (MOST * AMOUNT, MOST)
    assert outgoing == ((0, 0) if revealed else incoming)


def test_a_bar_outlives_a_restart_and_ends_after_two_weeks() -> None:
    world = line()
    world["B"].mute = lambda message: isinstance(message, Reveal)
    send(world, range(1), known=True)
    expire(world)
    (bar,) = load_bars(world["B"].store)
    assert bar[0] == world["A"].node and len(world["B"].alarms) == 1
    world.crash(world["B"])
    world.connect()
    world.settle()
    send(world, range(10, 11), 2 * FEE, known=True)
    assert not world["A"].receipts & {secret(10)}, "nothing is forwarded for it, small or large"
    world.time = bar[1] - 1
    world.pass_time(0)
    send(world, range(20, 21), 2 * FEE, known=True)
    assert not world["A"].receipts & {secret(20)}
    world.pass_time(1)
    send(world, range(30, 31), 2 * FEE, known=True)
    assert world["A"].receipts & {secret(30)}
    assert bar[1] - TWO_WEEKS <= world.time


@pytest.mark.alarm("lock-unpaid")
def test_who_reveals_in_the_last_moment_cannot_part_two_honest_nodes_nor_take_anything_small_twice() -> None:
    world = line()
    send(world, range(1))
    reveal_margin = world["B"].engine.policy.reveal_margin
    world.pass_time(600 - reveal_margin - TOLD_BEFORE + 1)
    world["B"].mute = lambda message: isinstance(message, Reveal)
    reveal_all(world, 1)
    expire(world)
    assert load_bars(world["B"].store) == [] and len(world["B"].alarms) == 1
    send(world, range(10, 11), known=True)
    assert not world["A"].receipts & {secret(10)}, "nothing small is forwarded for it"
    send(world, range(20, 21), 2 * FEE, known=True)
    assert world["A"].receipts & {secret(20)}, "what can be claimed on chain is"
    world.pass_time(TWO_WEEKS)
    send(world, range(30, 31), known=True)
    assert world["A"].receipts & {secret(30)}


def test_a_payment_that_was_held_before_a_restart_is_held_after_it_though_fees_rose() -> None:
    world = line(careful="C")
    world["C"].claim_fee = 0
    send(world, range(MOST + 5))
    held = len(world["C"].finals)
    assert held == MOST + 5
    world["C"].claim_fee = FEE
    world.crash(world["C"])
    world["C"].finals, world["C"].claim_fee = world["C"].finals[held:], FEE
    world.connect()
    world.settle()
    assert len(world["C"].finals) == held and world["A"].ended == []


# --- debts that the chain shows ---------------------------------------------------------------------------------


def test_nothing_is_forwarded_for_a_peer_that_owes_what_the_chain_shows_until_it_has_paid() -> None:
    world = line()
    world.send("ABC", (2 * FEE, 2 * FEE), secret(1), lifetime=600)
    world.settle()
    world["B"].mute = lambda message: isinstance(message, Reveal)
    reveal_all(world, 2)
    world.register(secret(1))
    a = world["A"]
    a.see_chain, see = lambda: None, a.see_chain  # type: ignore[method-assign]  # it takes no notice of the chain
    world.pass_time(620)
    world.settle()
    session = world["B"].engine.session(world.channel("AB"))
    assert session.channel.theirs.simplex.locks != () and load_bars(world["B"].store) == []
    send(world, range(10, 11), 2 * FEE, known=True)
    assert len(a.ended) == 1 and a.ended[0].secret == b""
    send(world, range(11, 12), 100, route="AB")
    assert world["B"].finals == [], "nor is anything small accepted from it"
    a.see_chain = see  # type: ignore[method-assign]
    world["B"].mute = lambda message: False
    world.pass_time(12)
    world.settle()
    assert session.channel.theirs.simplex.locks == () and session.channel.phase is Phase.OPEN
    world.pass_time(12)
    send(world, range(20, 21), 2 * FEE, known=True)
    assert a.receipts == {secret(1), secret(20)}


# --- the sum ----------------------------------------------------------------------------------------------------

NAMES = st.tuples(
    st.sampled_from([ChannelId(b"1" * 32), ChannelId(b"2" * 32)]), st.sampled_from(LockDirection), st.integers(0, 5)
)


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 100), st.sampled_from([0, 0, 10, 20, 90]), st.booleans()), max_size=60),
    st.integers(0, 9),
)
def test_sums_kept_step_by_step_are_those_made_from_scratch(
    steps: list[tuple[Name, int, int, bool]], claims: int
) -> None:
    limits = ExposureLimits(claims=claims, count=4, rise=3)
    exposure, pending = Exposure(limits), dict[Name, int]()
    for name, amount, fee, begins in steps:
        peer = name[0][:1]
        if begins:
            exposure.began(name, peer, amount)
            pending.setdefault(name, amount)
        else:
            exposure.on_ended(name)
            pending.pop(name, None)
        small = [value for other, value in pending.items() if other[:2] == name[:2] and value < limits.rise * fee]
        assert exposure.small(peer, name[1], fee) == (sum(small), len(small)) and len(exposure) == len(pending)
        fits = sum(small) + amount <= claims * fee and len(small) < limits.count
        assert exposure.has_room(peer, name[1], amount, fee) == (fits or amount >= limits.rise * fee)
    for channel in set(exposure.channels):
        exposure.forget(channel)
    assert len(exposure) == 0 and exposure.channels == set()
