"""An operator and a watcher on both chains: the honest one is left alone, the watcher convicts each crooked one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from simulation.rollup_house import CHEATS, Posted, RollupHouse
from simulation.rollup_twins import ANSWER_TIME, BOND, FEE, OPERATOR, WATCHER, WINDOW, Twins
from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.execution import run_step
from tallystick.settlement.rollup.operator import RollupOperator, SignedStep
from tallystick.settlement.rollup.rules import StepContext, WrongStep
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import EntryKind, NextEntry, QueueEntry, RollupClose, RollupOpen, Step
from tallystick.settlement.rollup.watcher import CallSilence, ConvictBatch, DemandSignatures, RollupDuty, RollupWatcher

SEEDS = st.integers(0, 2**32)


class Watched:
    """Both chains, an operator and a watcher who sees all that the chains tell."""

    def __init__(self, seed: int) -> None:
        self.house = RollupHouse(seed)
        self.twins = Twins(self.house)
        place = self.twins.places["ledger"]
        self.house.place = place
        self.operator, self.watcher = RollupOperator(place, 12), RollupWatcher(place)
        assert self.twins.do(OPERATOR, "bond", value=BOND) is None
        for user in range(3):
            self.deposit(user, self.house.random.randint(1, 10**6))

    def deposit(self, user: int, amount: int) -> None:
        """Let a user deposit."""
        owner = self.house.keys[user].address
        entry = QueueEntry(EntryKind.DEPOSIT, user, owner, amount0=amount)
        assert self.twins.order(owner, "deposit", entry, owner, value=amount) is None
        self.operator.on_entry(entry)
        self.watcher.on_entry(entry)

    def submit_random(self, count: int) -> None:
        """Let users submit steps; some make no sense."""
        house, state = self.house, self.operator.state
        entries = StepContext(house.place, house.time, len(house.queue))
        while state.head < len(house.queue):
            state, _ = run_step(state, NextEntry(), entries, house.entry)
        for _ in range(count):
            step = house.random_step(state)
            context = StepContext(house.place, house.time, len(house.queue))
            try:
                ahead, statements = run_step(state, step, context, house.entry)
                self.operator.submit(SignedStep(step, tuple(house.sign(each) for each in statements)), time=house.time)
            except WrongStep:
                continue
            state = ahead
            if isinstance(step, RollupOpen):
                house.channels.append(step.channel)

    def post(self, batch: Batch, number: int) -> Sequence[RollupDuty]:
        """Post a batch, and return what the watcher wants done."""
        assert self.twins.post(batch) is None
        return self.watcher.on_batch(number, batch)


@settings(deadline=None, max_examples=8)
@given(SEEDS)
def test_an_honest_operator_is_left_alone_and_answers_each_demand(seed: int) -> None:
    world = Watched(seed)
    twins, house = world.twins, world.house
    for number in range(3):
        if number:
            world.deposit(house.random.randrange(3), 9)
        world.submit_random(8)
        made = world.operator.next_batch(house.time)
        assert made is not None and made.number == number
        assert world.post(made.batch, number) == []
        assert world.watcher.on_signatures(number, made.signatures) == []
        for duty in world.watcher.on_signatures(number, ()):
            assert isinstance(duty, DemandSignatures)
            assert twins.do(WATCHER, "demand", duty.number, duty.position, value=FEE) is None
            world.watcher.on_demanded(duty.number, duty.position, house.time + ANSWER_TIME)
            shown = world.operator.on_demand(duty.number, duty.position)
            signed = twins.statements(shown.proof, made.batch)
            assert shown.signatures == tuple(house.sign(each) for each in signed["ledger"])
            assert twins.do(OPERATOR, "answer", number, list(shown.proof.words), statements=signed) is None
            world.watcher.on_shown(duty.number, duty.position)
        assert world.watcher.on_signatures(number, made.signatures) == []
    twins.set_time(house.time + WINDOW + 1)
    assert world.watcher.on_time(house.time) == []
    assert twins.do(OPERATOR, "unbond") == "wrong-status", "all is final, but not everybody has left"
    twins.check_equal()


@pytest.mark.parametrize("kind", CHEATS)
@settings(deadline=None, max_examples=3)
@given(SEEDS)
def test_each_kind_of_crooked_operator_is_convicted_by_the_watcher(kind: str, seed: int) -> None:
    world = Watched(seed)
    twins, house = world.twins, world.house
    world.submit_random(8)
    first = world.operator.next_batch(house.time)
    assert first is not None and world.post(first.batch, 0) == []
    world.deposit(0, 7)
    world.deposit(1, 8)
    world.submit_random(8)
    before = world.operator.state
    made = world.operator.next_batch(house.time)
    assert made is not None
    posted, kept, bad = Posted(made.batch, made.signatures, before, world.operator.state), list(house.queue), None
    for at in sorted(range(made.batch.count), key=lambda _: house.random.random()):
        if (bad := CHEATS[kind](house, posted, at)) is not None:
            break
    house.queue = kept
    if bad is None:
        return
    if bad.queue_end > len(kept):
        world.deposit(0, 5)
    (duty,) = world.post(bad, 1)
    assert isinstance(duty, ConvictBatch)
    assert twins.do(WATCHER, "convict", duty.number, list(duty.proof.words)) is None
    world.watcher.on_convicted(1)
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    assert world.post(made.batch, 1) == [], "the right one takes its place"
    twins.check_equal()


def test_a_step_that_nobody_signed_ends_its_batch_and_those_after_it() -> None:
    world = Watched(3)
    twins, house = world.twins, world.house
    world.submit_random(40)
    made = world.operator.next_batch(house.time)
    assert made is not None and world.post(made.batch, 0) == []
    world.submit_random(5)
    later = world.operator.next_batch(house.time)
    assert later is not None and world.post(later.batch, 1) == []
    forged = tuple(tuple(bytes(64) for _ in each) for each in made.signatures)
    duties = world.watcher.on_signatures(0, forged)
    assert len(duties) == sum(map(bool, made.signatures)) > 0
    duty = duties[0]
    assert isinstance(duty, DemandSignatures)
    assert twins.do(WATCHER, "demand", 0, duty.position, value=FEE) is None
    world.watcher.on_demanded(0, duty.position, house.time + ANSWER_TIME)
    assert len(world.watcher.on_signatures(0, forged)) == len(duties) - 1, "what was demanded is not demanded again"
    twins.set_time(house.time + ANSWER_TIME)
    assert world.watcher.on_time(house.time) == []
    twins.set_time(house.time + 1)
    assert world.watcher.on_time(house.time) == [CallSilence(0, duty.position)]
    assert twins.do(WATCHER, "silence", 0, duty.position) is None
    world.watcher.on_convicted(0)
    assert world.watcher.on_time(house.time) == []
    twins.check_equal()
    assert twins.do(OPERATOR, "bond", value=BOND) is None
    assert world.post(made.batch, 0) == []


def test_the_operator_takes_only_what_is_right_and_signed_and_drops_what_came_too_late() -> None:
    world = Watched(1)
    house = world.house
    world.submit_random(9)
    assert (made := world.operator.next_batch(house.time)) is not None
    index = next(each for each in house.channels if _is_open(world.operator.state, each))
    channel = world.operator.state.channels.get(index)
    assert channel is not None
    step = RollupClose(index, channel.total, house.time)
    context = StepContext(house.place, house.time, len(house.queue))
    _, statements = run_step(world.operator.state, step, context, house.entry)
    good = tuple(house.sign(each) for each in statements)
    with pytest.raises(InvalidSignature, match="not that of"):
        world.operator.submit(SignedStep(step, good[::-1]), time=house.time)
    with pytest.raises(InvalidSignature, match="needs 2"):
        world.operator.submit(SignedStep(step, good[:1]), time=house.time)
    with pytest.raises(WrongStep, match="valid until"):
        world.operator.submit(SignedStep(step, good), time=house.time + 1)
    with pytest.raises(WrongStep, match="chain alone"):
        world.operator.submit(SignedStep(NextEntry(), ()), time=house.time)
    world.operator.submit(SignedStep(step, good), time=house.time)
    assert world.operator.next_batch(house.time + 1) is None, "it expired meanwhile"
    assert world.operator.state.root == made.batch.root


def _is_open(state: RollupState, index: int) -> bool:
    channel = state.channels.get(index)
    return channel is not None and channel.standing == 1


def test_a_step_with_a_number_that_no_word_holds_is_not_taken_and_takes_no_other_with_it() -> None:
    watched = Watched(3)
    house, operator = watched.house, watched.operator
    opened = _signed(watched, RollupOpen(7, 0, 1, 1, 0))
    operator.submit(opened, time=house.time)
    for large in (RollupClose(7, 1, 2**40), RollupOpen(2**32 + 9, 1, 0, 0, 0)):
        with pytest.raises(InvalidInput, match="in a rollup"):
            operator.submit(_signed(watched, large), time=house.time)
    made = operator.next_batch(house.time)
    assert made is not None and made.signatures[-1] == opened.signatures


def test_signatures_of_a_batch_that_is_wrong_ask_for_nothing_more() -> None:
    watched = Watched(4)
    batch = watched.house.honest(12).batch
    wrong = replace(batch, data=batch.data[:64] + bytes(32) + batch.data[96:])
    duties = watched.post(wrong, 0)
    assert [type(each) for each in duties] == [ConvictBatch]
    assert watched.watcher.on_signatures(0, ()) == []
    assert watched.watcher.on_signatures(1, ()) == [], "what stands on it, too"
    watched.watcher.on_convicted(0)
    assert watched.watcher.on_batch(0, batch) == []
    assert watched.watcher.on_signatures(0, ()), "the right one that took its place is asked about"


def _signed(watched: Watched, step: Step) -> SignedStep:
    """Return a step that follows all deposits, and an opened channel 7, signed by whoever must."""
    house = watched.house
    state, context = watched.operator.state, StepContext(house.place, house.time, len(house.queue))
    while state.head < len(house.queue):
        state, _ = run_step(state, NextEntry(), context, house.entry)
    if not isinstance(step, RollupOpen):
        state, _ = run_step(state, RollupOpen(7, 0, 1, 1, 0), context, house.entry)
    _, statements = run_step(state, step, context, house.entry)
    return SignedStep(step, tuple(house.sign(each) for each in statements))
