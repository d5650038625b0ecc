"""What a forwarder refuses comes back at once, with a code that only the payer can read, and costs nobody anything."""

from __future__ import annotations

import pytest

from simulation.line import Line
from simulation.line_payments import AMOUNTS, SECRET, paid, unpaid
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy


def refused(world: Line, code: Code, hop: int = 0, **send: object) -> None:
    amounts = send.pop("amounts", AMOUNTS)
    built = world.send("ABC", amounts, SECRET, **send)  # type: ignore[arg-type]
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (hop, code)


def test_a_fee_below_what_is_asked_for_is_refused() -> None:
    refused(Line(), Code.FEE_INSUFFICIENT, amounts=(100_099, 100_000))


def test_an_amount_outside_the_policy_is_refused() -> None:
    small = RoutingOptions(policy=ForwardingPolicy(minimum=1_000, maximum=5_000))
    refused(Line(options=small), Code.AMOUNT_BELOW_MINIMUM, amounts=(999, 999))
    refused(Line(options=small), Code.TEMPORARY_CHANNEL_FAILURE, amounts=(5_001, 5_001))


def test_a_channel_that_is_switched_off_forwards_nothing() -> None:
    world = Line()
    moments = world["B"].policies.set_policy(world.channel("BC"), ForwardingPolicy(enabled=False))
    world["B"].writer.add(moments)
    world.settle()
    refused(world, Code.CHANNEL_DISABLED)
    world.crash(world["B"])
    world.connect()
    world.settle()
    assert not world["B"].policies.policy_of(world.channel("BC")).enabled


@pytest.mark.parametrize(
    "policy",
    [
        ForwardingPolicy(base_fee=2**128),
        ForwardingPolicy(fee_ppm=2**32),
        ForwardingPolicy(margin=2**32),
        ForwardingPolicy(margin=MARGIN_MAX + 1),
        ForwardingPolicy(minimum=-1),
        ForwardingPolicy(minimum=10, maximum=9),
    ],
)
def test_a_policy_that_cannot_be_announced_is_refused_before_it_is_stored(policy: ForwardingPolicy) -> None:
    world = Line()
    policies, channel = world["B"].policies, world.channel("BC")
    before = policies.policy_of(channel)
    with pytest.raises(InvalidInput):
        policies.set_policy(channel, policy)
    assert policies.policy_of(channel) == before


@pytest.mark.parametrize(("lifetime", "code"), [(299, Code.EXPIRY_TOO_SOON), (7 * 86_400 + 1, Code.EXPIRY_TOO_FAR)])
def test_a_lock_that_expires_too_soon_or_too_far_away_is_refused(lifetime: int, code: Code) -> None:
    refused(Line(), code, lifetime=lifetime)


@pytest.mark.parametrize(("route", "code"), [("AB", Code.FINAL_INCORRECT_EXPIRY), ("ABC", Code.INCORRECT_EXPIRY)])
def test_a_lock_that_expires_before_what_its_onion_says_is_refused(route: str, code: Code) -> None:
    world = Line()
    amounts, expiry, condition = AMOUNTS[: len(route) - 1], world.time + 3_600, digest_of(SECRET)
    world["B"].secrets[condition] = world["C"].secrets[condition] = SECRET
    built = world.onion(route[1:], amounts, expiry + 1, condition)
    world["A"].channels.send_lock(world.channel("AB"), amounts[0], expiry, condition, built.packet)
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, code)


@pytest.mark.alarm("forward-unpaid")
def test_a_forwarder_that_paid_and_cannot_claim_raises_an_alarm_and_writes_its_loss_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    monkeypatch.setattr(world["B"].locks, "reveal", lambda channel, lock, secret: False)  # as on an old copy of data
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    (alarm,) = world["B"].alarms
    assert "100000 was paid onwards" in alarm.text and "old copy of its data" in alarm.text
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert forward.outcome is ForwardOutcome.LOST and load_circuits(world["B"].store) == []
    assert world["B"].router.statistics().earned == {}


@pytest.mark.parametrize("lifetime", [300, 7 * 86_400])
def test_a_lock_at_the_edge_of_what_is_allowed_goes_on(lifetime: int) -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.send("ABC", AMOUNTS, SECRET, lifetime=lifetime)
    world.settle()
    paid(world)


def test_a_lock_that_channel_policy_refuses_comes_back_encrypted() -> None:
    refused(Line(), Code.EXPIRY_TOO_SOON, lifetime=119)
    refused(Line(), Code.EXPIRY_TOO_FAR, lifetime=14 * 86_400 + 1)


def test_more_than_the_channel_can_carry_is_refused() -> None:
    world = Line()
    world["B"].engine.pay(world.channel("BC"), 950_000)
    world.settle()
    before = {name: world.wealth(name) for name in "ABC"}
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    assert {name: world.wealth(name) for name in "ABC"} == before and world.pending() == []
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.TEMPORARY_CHANNEL_FAILURE)


def test_a_peer_that_is_away_is_said_to_be() -> None:
    world = Line()
    world.disconnect(world["B"], world["C"])
    refused(world, Code.CHANNEL_DISABLED)


def test_an_onion_that_names_an_unknown_channel_or_a_damaged_one_is_refused() -> None:
    world = Line()
    condition, expiry = digest_of(SECRET), world.time + 3_600
    built = world.onion("BC", AMOUNTS, expiry, condition, number=9)
    world["A"].channels.send_lock(world.channel("AB"), AMOUNTS[0], expiry, condition, built.packet)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.UNKNOWN_NEXT_PEER)
    damaged = built.packet[:100] + bytes([built.packet[100] ^ 1]) + built.packet[101:]
    world["A"].channels.send_lock(world.channel("AB"), AMOUNTS[0], expiry, condition, damaged)
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.INVALID_ONION_HMAC)


def test_an_onion_serves_once_also_after_a_crash() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    world.crash(world["B"])
    world.connect()
    world.settle()
    expiry = world.time + 3_600
    world["A"].channels.send_lock(world.channel("AB"), AMOUNTS[0], expiry, digest_of(SECRET), built.packet)
    world.settle()
    paid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.INVALID_ONION_HMAC)


def test_a_node_with_an_old_view_of_the_chain_forwards_nothing() -> None:
    world = Line()
    world["B"].fresh = False
    refused(world, Code.TEMPORARY_NODE_FAILURE)
