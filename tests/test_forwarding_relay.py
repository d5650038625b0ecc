"""What the relay says is to become of a lock, and that the router does it: all of it in the commit that brought it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simulation.line import Ends, Line, Member
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.operations import AddLock
from tallystick.channels.storage.store import Moment
from tallystick.router.forwarding.circuits import PolicySet, load_circuits, load_policies
from tallystick.router.forwarding.relay import Decision, Deliver, Fail, Forward
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.onion.failures import Failure
from tallystick.router.onion.payload import FinalLock

SECRET = b"s" * 32
AMOUNTS = (100_100, 100_000)
FEELESS = (100_000, 100_000)


def decided(
    world: Line, name: str, amounts: Sequence[int] = AMOUNTS, *, again: bool = False
) -> tuple[Decision, Sequence[Moment]]:
    """Let a lock for A's payment to C come in at a member, and return what its relay says of it."""
    member = world[name]
    heard: list[tuple[Decision, Sequence[Moment]]] = []
    decide = member.router._relay.decide

    def noted(channel: object, added: AddLock, *, again: bool = False) -> tuple[Decision, Sequence[Moment]]:
        heard.append(decide(channel, added, again=again))  # type: ignore[arg-type]
        return heard[-1]

    member.router._relay.decide = noted  # type: ignore[method-assign,assignment]
    world.send("ABC", amounts, SECRET)
    world.settle()
    return heard[0]


def test_what_goes_on_is_a_forward_with_its_circuit_and_changes_nothing_by_itself() -> None:
    world = Line()
    decision, seen = decided(world, "B")
    assert isinstance(decision, Forward) and len(seen) == 1
    circuit = decision.circuit
    assert (circuit.incoming, circuit.outgoing) == (world.channel("AB"), world.channel("BC"))
    assert (circuit.amount_in, circuit.amount_out) == AMOUNTS
    assert [found for found, _ in load_circuits(world["B"].store)] == [circuit], "in the commit of the outgoing lock"


def test_what_ends_here_is_delivered_to_the_payee() -> None:
    world = Line()
    decision, _ = decided(world, "C")
    assert isinstance(decision, Deliver)
    assert world["C"].finals == [decision.final] and decision.final.lock.condition == digest_of(SECRET)


def test_what_pays_too_little_fails_and_is_given_back_at_once() -> None:
    world = Line()
    decision, _ = decided(world, "B", FEELESS)
    assert isinstance(decision, Fail) and decision.reason() and not decision.passing
    assert world.pending() == [] and world["B"].router.statistics().refused == 1


@pytest.mark.parametrize("way", ["old chain", "peer away"])
def test_what_is_in_the_way_for_a_moment_only_is_told_from_what_stays(way: str) -> None:
    world = Line()
    if way == "old chain":
        world["B"].fresh = False
    else:
        world.disconnect(world["B"], world["C"])
    decision, _ = decided(world, "B")
    assert isinstance(decision, Fail) and decision.passing
    assert world.pending() == [], "nobody was patient: it came from a peer"


def test_no_failure_is_made_for_a_lock_that_only_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world, came, made = Line(), list[AddLock](), list[Failure]()
    router, channel = world["B"].router, world.channel("AB")
    with monkeypatch.context() as taken:
        taken.setattr(router, "_decide", lambda channel, added, **how: came.append(added) or [])
        world.send("ABC", AMOUNTS, SECRET)
        world.settle()
    world["B"].fresh = False
    monkeypatch.setattr(world["B"].locks, "hide", lambda secret, failure: made.append(failure) or b"reason")
    assert router._decide(channel, came[0], patient=True, again=True) is None and made == []
    assert len(world.pending()) == 1
    assert router._decide(channel, came[0], patient=False, again=True) == [] and len(made) == 1
    world.settle()
    assert world.pending() == [] and world["A"].ended[0].reason == b"reason"


def test_what_the_payee_decides_is_in_the_commit_of_the_update_that_brought_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = ForwardingPolicy(fee_ppm=7)

    def arrived(ends: Ends, final: FinalLock) -> Sequence[Moment]:
        return (PolicySet(final.channel, chosen),)

    monkeypatch.setattr(Ends, "on_arrived", arrived)
    world = Line()
    before = commits_of(world["C"])
    decided(world, "C")
    assert load_policies(world["C"].store) == {world.channel("BC"): chosen}
    assert commits_of(world["C"]) == before + 1


def commits_of(member: Member) -> int:
    return member.store.commits


def test_a_channel_that_takes_the_lock_back_at_the_last_moment_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Line()
    relay = world["B"].router._relay
    decide = relay.decide

    def late(*what: object, **how: object) -> tuple[Decision, Sequence[Moment]]:
        found = decide(*what, **how)  # type: ignore[arg-type]
        world.disconnect(world["B"], world["C"])
        return found

    monkeypatch.setattr(relay, "decide", late)
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    assert world.pending() == [] and load_circuits(world["B"].store) == []
    assert world["B"].router.statistics().forwarding == 0 and world["B"].router.statistics().refused == 1
