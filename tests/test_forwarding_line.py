"""Three nodes in a line, every moment in hand: a payment is made everywhere or nowhere, whatever crashes and when."""

from __future__ import annotations

import hashlib

import pytest

from simulation.line import Line, Member
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Ack, Message, Reestablish, Reject, Update
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.session.inputs import PhaseReached, RejectLock
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardingLimits, ForwardOutcome
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy
from tallystick.router.onion.failures import Failure, notice
from tallystick.router.onion.sphinx import onions_of

SECRET = b"s" * 32
OTHER = b"o" * 32
FREE = RoutingOptions(policy=ForwardingPolicy(fee_ppm=1_000))
AMOUNTS = (100_100, 100_000)
"""What A locks for B, and B for C: the fee is exactly what B asks for."""
WEALTH = {"A": 1_000_000, "B": 2_000_000, "C": 1_000_000}


def paid(world: Line, amounts: tuple[int, ...] = AMOUNTS, times: int = 1) -> None:
    """The payment was made once, by everybody, and nothing pends."""
    assert world.faults == [] and world.pending() == []
    assert world.wealth("A") == WEALTH["A"] - times * amounts[0]
    assert world.wealth("B") == WEALTH["B"] + times * (amounts[0] - amounts[1])
    assert world.wealth("C") == WEALTH["C"] + times * amounts[1]
    assert load_circuits(world["B"].store) == []


def unpaid(world: Line) -> None:
    """Everybody has what it had, and nothing pends."""
    assert world.faults == [] and world.pending() == []
    assert {name: world.wealth(name) for name in "ABC"} == WEALTH
    assert load_circuits(world["B"].store) == []


def test_a_payment_goes_through_and_earns_its_fee() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    paid(world)
    assert world["A"].receipts == {SECRET}
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert (forward.outcome, forward.circuit.fee) == (ForwardOutcome.PAID, 100)
    assert world["B"].router.statistics().earned == {"0x" + NATIVE.hex(): 100}


def test_a_payment_that_the_payee_refuses_comes_back_and_only_the_payer_can_read_why() -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    (final,) = world["C"].finals
    world["C"].locks.refuse(final, Failure(Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS))
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (1, Code.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS)
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert forward.outcome is ForwardOutcome.FAILED


@pytest.mark.parametrize("lie", [False, True])
def test_a_forwarder_whose_onion_was_not_opened_names_the_one_that_it_sent_whatever_its_peer_says(lie: bool) -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    (final,) = world["C"].finals
    sent = list(onions_of(built))[1]
    said = notice(Code.INVALID_ONION_HMAC, b"another one" if lie else sent)
    world["C"].engine.apply(final.channel, RejectLock(final.lock.id, said))
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.INVALID_ONION_HMAC)
    assert found[1].onion_hash == hashlib.sha256(sent).digest(), "else the forwarder would be blamed for it"


# --- refusals of the forwarder ----------------------------------------------------------------------------------


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


# --- ways on ----------------------------------------------------------------------------------------------------


def test_another_channel_with_the_same_peer_carries_what_the_named_one_cannot() -> None:
    world = Line(twins=("BC",))
    first, second = world.channel("BC", 0), world.channel("BC", 1)
    world["B"].engine.pay(first, 950_000)
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world.settle()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    assert world["B"].engine.session(second).channel.ours.simplex.proof.transferred == AMOUNTS[1]
    assert world["A"].receipts == {SECRET} and world.pending() == []


def test_nothing_goes_back_over_the_channel_that_it_came_from() -> None:
    world = Line()
    built = world.send("ABA", (100_100, 100_000), SECRET)
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert found is not None and found[0] == 0


def test_two_payments_with_one_hash_are_two_payments() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, seed=b"1")
    world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    assert len(world["C"].finals) == 2 and len(load_circuits(world["B"].store)) == 2
    world["C"].locks.reveal(world["C"].finals[0].channel, world["C"].finals[0].lock.id, SECRET)
    world.settle()
    assert world.wealth("C") == WEALTH["C"] + AMOUNTS[1]
    assert len(load_circuits(world["B"].store)) == 1
    world["C"].locks.reveal(world["C"].finals[1].channel, world["C"].finals[1].lock.id, SECRET)
    world.settle()
    paid(world, times=2)


# --- secrets ----------------------------------------------------------------------------------------------------


def mute_acks(message: Message) -> bool:
    return isinstance(message, Ack)


def test_a_secret_goes_on_before_the_peer_acknowledges_that_it_was_paid() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    world["C"].mute = mute_acks
    final = world["C"].finals[0]
    world["C"].locks.reveal(final.channel, final.lock.id, SECRET)
    world.settle()
    assert world["A"].receipts == {SECRET}
    assert world.wealth("A") == WEALTH["A"] - AMOUNTS[0]
    assert len(world["B"].engine.session(world.channel("BC")).channel.flight) == 1
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    paid(world)


def test_a_reject_alone_releases_nothing() -> None:
    """Until the peer countersigns the cancellation it can go to the chain with the lock."""
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    world["C"].mute = lambda message: isinstance(message, Ack | Reestablish)  # the greeting is an acknowledgement too
    world["C"].locks.refuse(world["C"].finals[0], Failure(Code.MPP_TIMEOUT))
    world.settle()
    assert world["A"].ended == []
    world.crash(world["B"])  # the reason survives as well
    world.connect()
    world.settle()
    assert world["A"].ended == []
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    unpaid(world)
    found = world.failure("A", built)
    assert len(world["A"].ended) == 1
    assert found is not None and (found[0], found[1].code) == (1, Code.MPP_TIMEOUT)


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_secret_on_chain_counts_up_to_the_last_second_and_pays_everybody_or_nobody(late: int) -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    for one, other in world.links:
        world.disconnect(one, other)
    world.pass_time(600)
    world.register(SECRET, world.time + late)
    world.pass_time(100)
    world.connect()
    world.settle()
    if late <= 0:
        paid(world)
    else:
        unpaid(world)
    (forward,) = forwards_after(world["B"].store, 0, 10)
    assert forward.outcome is (ForwardOutcome.PAID if late <= 0 else ForwardOutcome.EXPIRED)


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.GONE])
@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("crash", [True, False])
def test_an_outgoing_channel_on_chain_is_decided_by_the_chain(phase: Phase, registered: bool, crash: bool) -> None:
    world = Line()
    b = world["B"]
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world.disconnect(b, world["C"])
    session = b.engine.session(world.channel("BC"))
    b.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    b.step()
    if phase is Phase.GONE:
        if registered:
            world.register(SECRET)  # what was redeemed by a secret is gone only after that secret
            world.time += 20
        b.engine.apply(session.channel.id, PhaseReached(Phase.GONE))
        b.step()
    if crash:
        world.crash(b)
        world.connect()
        world.settle()
    if registered:
        world.register(SECRET)
    world.pass_time(100)
    world.settle()
    ended = world["A"].ended
    if registered:
        assert [end.secret for end in ended] == [SECRET]
    elif phase is Phase.GONE:
        assert [end.secret for end in ended] == [b""], "nothing is left that could be paid"
    else:
        assert ended == []
        world.pass_time(600)
        world.settle()
        assert [end.secret for end in ended] == [b""]
    assert world["B"].alarms == []


def test_a_lock_that_expires_while_the_peer_is_away_is_released() -> None:
    world = Line()
    built = world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world.disconnect(world["B"], world["C"])
    world.pass_time(613)
    world.settle()
    assert [end.secret for end in world["A"].ended] == [b""]
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.TEMPORARY_CHANNEL_FAILURE)
    world.pass_time(60)
    world.connect()
    world.settle()
    unpaid(world)


# --- locks that wait --------------------------------------------------------------------------------------------


def waiting(world: Line) -> None:
    """C acknowledges nothing, so that B's second lock to C waits unsigned behind the first."""
    world["C"].mute = mute_acks
    world.send("ABC", AMOUNTS, OTHER, seed=b"1")
    world.settle()
    world.send("ABC", AMOUNTS, SECRET, seed=b"2")
    world.settle()
    assert len(world["B"].engine.session(world.channel("BC")).outbox) == 1
    assert len(load_circuits(world["B"].store)) == 1


def test_a_lock_that_waits_for_a_peer_that_goes_away_comes_back_at_once() -> None:
    world = Line()
    waiting(world)
    world.disconnect(world["B"], world["C"])
    world.settle()
    assert [end.lock for end in world["A"].ended] == [1]


def test_a_lock_that_waits_too_long_is_given_up_unsigned() -> None:
    world = Line(options=RoutingOptions(limits=ForwardingLimits(unsigned_max=60)))
    waiting(world)
    world.pass_time(60)
    world.settle()
    assert world["A"].ended == []
    world.pass_time(1)
    world.settle()
    assert [end.lock for end in world["A"].ended] == [1]
    world["C"].mute = lambda message: False
    world["C"].secrets[digest_of(OTHER)] = OTHER
    world.connect()
    world.settle()
    world["C"].locks.reveal(world["C"].finals[0].channel, world["C"].finals[0].lock.id, OTHER)
    world.settle()
    paid(world)


@pytest.mark.parametrize("crash", [True, False])
def test_nothing_is_sent_on_for_a_lock_whose_own_channel_has_closed(crash: bool) -> None:
    world = Line()
    waiting(world)
    b = world["B"]
    session = b.engine.session(world.channel("AB"))
    world.disconnect(world["A"], b)
    b.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    b.engine.apply(session.channel.id, PhaseReached(Phase.SETTLED))
    if crash:
        b.step()
        world.crash(b)
    world.pass_time(1)
    b.step()
    assert len(b.engine.session(world.channel("BC")).outbox) == 0
    world["C"].mute = lambda message: False
    world.connect()
    world.settle()
    world.pass_time(100)
    world.settle()
    assert b.engine.session(world.channel("BC")).channel.newest.next_lock == 1
    assert [circuit.incoming_lock for circuit, _ in load_circuits(b.store)] == [0], "that one was sent on before"


def test_nothing_is_claimed_for_a_lock_whose_channel_was_paid_out() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET)
    world.settle()
    c = world["C"]
    session = c.engine.session(world.channel("BC"))
    c.engine.apply(session.channel.id, PhaseReached(Phase.CLOSED))
    c.engine.apply(session.channel.id, PhaseReached(Phase.SETTLED))
    c.step()
    c.secrets[digest_of(SECRET)] = SECRET
    world.crash(c)
    world.connect()
    world.settle()
    assert c.engine.session(world.channel("BC")).channel.secrets == ()


def test_a_peer_that_takes_a_secret_and_does_not_pay_is_served_no_more() -> None:
    world = Line()
    world.send("ABC", AMOUNTS, SECRET, lifetime=600)
    world.settle()
    world["A"].mute = lambda message: isinstance(message, Update)
    world["C"].locks.reveal(world["C"].finals[0].channel, 0, SECRET)
    world.settle()
    world.pass_time(613)  # too little to be claimed on chain
    world.settle()
    world["A"].mute = lambda message: False
    world.pass_time(60)
    world.connect()
    world.settle()
    assert len(world["B"].alarms) == 1
    built = world.send("ABC", AMOUNTS, OTHER)
    world.settle()
    found = world.failure("A", built)
    assert found is not None and (found[0], found[1].code) == (0, Code.CHANNEL_DISABLED)
    assert len(world["C"].finals) == 1


# --- crashes ----------------------------------------------------------------------------------------------------


class Story:
    """One payment from A to C over B; after each crash whoever asked asks again, as far as it can tell."""

    def __init__(self, opens: bool) -> None:
        self.world = Line()
        if opens:
            self.world["C"].secrets[digest_of(SECRET)] = SECRET
        self.opens = opens
        self.world.send("ABC", AMOUNTS, SECRET)

    def act(self) -> None:
        """C refuses what it cannot open."""
        payee = self.world["C"]
        if not self.opens and payee.session(self.world["B"]).locks.undecided():
            payee.locks.refuse(payee.finals[-1], Failure(Code.MPP_TIMEOUT))

    def moments(self) -> list[tuple[Member, str]]:
        self.act()
        return self.world.moments()

    def check(self) -> None:
        world = self.world
        for _ in range(3):
            world.connect()
            world.settle()
            self.act()
            world.settle()
            world.pass_time(30)
        if self.opens and world.wealth("C") != WEALTH["C"]:
            paid(world)
        else:
            unpaid(world)
        assert all(member.alarms == [] for member in world.members.values())


def length(opens: bool) -> int:
    story = Story(opens)
    steps = 0
    while possible := story.moments():
        story.world.do(*possible[0])
        steps += 1
    story.check()
    assert (story.world.wealth("C") != WEALTH["C"]) is opens
    return steps


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("victim", ["A", "B", "C"])
def test_a_crash_at_any_moment_leaves_the_payment_made_everywhere_or_nowhere(victim: str, opens: bool) -> None:
    for at in range(length(opens)):
        for kind in ("before", "after", "unsynced"):
            story = Story(opens)
            world = story.world
            for _ in range(at):
                world.do(*story.moments()[0])
            member, what = story.moments()[0]
            if kind == "unsynced":
                if member.name != victim or what != "round":
                    continue
                world.crash_in_commit(member, takes_effect=False)
            elif kind == "after":
                if member.name == victim and what == "round":
                    world.crash_in_commit(member, takes_effect=True)
                else:
                    world.do(member, what)
                    world.crash(world[victim])
            else:
                world.crash(world[victim])
            story.check()


@pytest.mark.parametrize("opens", [True, False])
def test_two_crashes_of_the_forwarder_are_as_good_as_one(opens: bool) -> None:
    steps = length(opens)
    for first in range(0, steps, 2):
        for second in range(1, 12, 2):
            story = Story(opens)
            world = story.world
            for at in range(first + second):
                if at == first:
                    world.crash(world["B"])
                    world.connect()
                possible = story.moments()
                if not possible:
                    break
                world.do(*possible[0])
            world.crash(world["B"])
            story.check()


def test_a_payer_that_loses_nothing_by_a_mute_forwarder() -> None:
    world = Line()
    world["C"].secrets[digest_of(SECRET)] = SECRET
    world["B"].mute = lambda message: isinstance(message, Reject)
    world.send("ABC", (100_000, 100_000), SECRET, lifetime=600)
    world.settle()
    assert world["A"].ended == []
    world.pass_time(700)
    world.settle()
    unpaid(world)
