"""Helpers that are processes change no bit of a block: whether they answer, die, lie or stand still."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from msgspec.structs import replace
from test_execution_blocks import ACCOUNTS, CALLS, FIXTURE, RULES, assert_same, by, one_by_one, signed, world

from tallystick.settlement.contract.signed import parties_of
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.transactions import sign_call, sign_envelope
from tallystick.settlement.execution import prepared, processes
from tallystick.settlement.execution.helper import FRAME
from tallystick.settlement.execution.prepared import Preparation
from tallystick.settlement.execution.processes import Helper, ProcessCrew, open_processes
from tallystick.settlement.execution.questions import name_of, read_answer, write_answer, write_question
from tallystick.settlement.simulated.world import Layer

AT = Deployment(RULES.chain_id, RULES.contract)
MANY = [(number % 3, what, 0, None) for number, what in enumerate([11, 14, 0, 5, 7, 16, 3, 2, 13, 10, 8, 15] * 5)]


@pytest.fixture(name="crew", scope="module")
def two_processes() -> Iterator[ProcessCrew]:
    with open_processes(2) as crew:
        crew.wait_ready(60)
        yield crew


def wait_for(crew: ProcessCrew) -> None:
    """Let the helpers do what they have, so that it is theirs that is taken up."""
    for helper in crew.helpers:
        while helper.asked and not helper.ended:
            helper.wait(60)


class Patient:
    """A crew whose owner waits for all that helpers can do."""

    def __init__(self, crew: ProcessCrew) -> None:
        self.crew = crew
        self.own: list[int] = []

    def share(self, preparation: Preparation, bundles: Sequence[Sequence[bytes]]) -> object:
        shared = self.crew.share(preparation, bundles)
        make, exchange = shared._make_one, shared._exchange

        def make_if_need_be() -> None:
            wait_for(self.crew)
            if not any(shared._results):
                self.own.append(len(bundles))
                make()

        def exchange_and_wait() -> None:
            exchange()
            wait_for(self.crew)

        shared._make_one, shared._exchange = make_if_need_be, exchange_and_wait  # type: ignore[method-assign]
        return shared


def test_blocks_are_what_they_are_one_by_one(crew: ProcessCrew) -> None:
    choose = random.Random(7)
    for opened in (False, True):
        for _ in range(6):
            actions = [
                (choose.randrange(3), choose.randrange(len(CALLS)), choose.choice((0, 0, 0, 0, 1, -1)),
                 choose.choice((None, None, None, None, 40, -1)))
                for _ in range(40)
            ]  # fmt: skip
            patient = Patient(crew)
            assert_same(world(opened=opened), signed(actions), patient)  # type: ignore[arg-type]
            assert patient.own == [], "helpers have made all of it"
            assert_same(world(opened=opened), signed(actions), crew)


def test_what_a_helper_says_of_a_bundle_is_what_the_owner_would_have_found() -> None:
    state = Layer(world(opened=True))
    preparation = Preparation(AT, lambda id: parties_of(state.channel(id)))
    for raws in (signed([(who, what, 0, None)]) for who in range(3) for what in range(len(CALLS))):
        question = write_question(AT, preparation.find, raws)
        assert question is not None
        own, found = preparation.prepare(raws), read_answer(write_answer(question), raws, preparation.prepare)
        assert [(one.transaction, one.reading.gas, one.reading.members) for one in found.transactions] == [
            (one.transaction, one.reading.gas, one.reading.members) for one in own.transactions
        ]
        assert {asked: str(why) for asked, why in found.checked.items()} == {
            asked: str(why) for asked, why in own.checked.items()
        }


def test_signatures_in_calls_are_checked_by_helpers_those_in_batches_too() -> None:
    state = Layer(world(opened=True))
    for what, count in ((2, 2), (3, 2), (5, 4), (6, 2), (7, 3), (8, 3), (16, 4), (11, 0), (0, 0)):
        raws = signed([(0, what, 0, None)])
        question = write_question(AT, lambda id: parties_of(state.channel(id)), raws)
        assert question is not None
        found = read_answer(write_answer(question), raws, lambda raws: pytest.fail("left to the owner"))
        assert len(found.checked) == count, CALLS[what]


def test_what_cannot_be_written_is_left_to_the_owner_alone() -> None:
    wide = b"\xa9\x05\x9c\xbb" + bytes(12) + ACCOUNTS[1].address + b"\xff" * 32
    decoded = prepared.decode_transaction(signed([(0, 14, 0, None)])[0], AT.chain_id)
    envelope = replace(decoded.envelope, data=wide)
    raws = [*signed([(1, 11, 0, None)]), sign_envelope(ACCOUNTS[0], AT.chain_id, envelope, 0, 1, 1, 60_000)]
    question = write_question(AT, lambda id: None, raws)
    assert question is not None
    preparation = Preparation(AT, lambda id: None)
    left: list[bytes] = []

    def prepare(raws: Sequence[bytes]) -> prepared.Bundle:
        left.extend(raws)
        return preparation.prepare(raws)

    found = read_answer(write_answer(question), raws, prepare)
    assert found == preparation.prepare(raws) and left == raws[1:]
    assert write_question(Deployment(2**64, AT.contract), lambda id: None, raws) is None


def test_a_call_that_holds_what_no_call_may_ends_no_helper(crew: ProcessCrew) -> None:
    close = FIXTURE.close(FIXTURE.proof(0, 1, 5), None)
    assert close.proof0 is not None
    odd = replace(close, proof0=replace(close.proof0, proof=replace(close.proof0.proof, sender=5)))
    raws = [sign_call(FIXTURE.keys[0], AT.chain_id, AT.contract, odd, nonce, 1) for nonce in range(20)]
    block = assert_same(world(opened=True), raws, Patient(crew))  # type: ignore[arg-type]
    assert len(block.record.entries) == 20 and not any(entry.execution.success for entry in block.record.entries)
    assert not any(helper.ended for helper in crew.helpers)


@pytest.mark.parametrize("when", [signal.SIGKILL, signal.SIGSTOP])
def test_a_helper_that_is_killed_or_stands_still_costs_nothing_but_time(when: signal.Signals) -> None:
    raws = signed(MANY)
    found = world(opened=False)
    with open_processes(1) as crew:
        crew.wait_ready(60)
        victims = [helper.process for helper in crew.helpers]
        shared = crew.share(Preparation(AT, lambda id: None), prepared.bundled(raws))
        taken = iter(shared)
        next(taken)
        for victim in victims:
            victim.send_signal(when)
        whole = [next(taken, None) for _ in range(100)]
        assert sum(len(bundle.transactions) for bundle in whole if bundle) + 4 >= len(raws)
        assert_same(found, raws, crew)
        if when == signal.SIGKILL:
            for victim in victims:
                victim.wait()
            assert_same(found, raws, crew)
            assert not {helper.process.pid for helper in crew.helpers} & {victim.pid for victim in victims}
            crew.wait_ready(60)
            assert not any(helper.ended for helper in crew.helpers), "others have taken their place"
        else:
            for victim in victims:
                victim.send_signal(signal.SIGCONT)
    assert all(helper.process.returncode is not None for helper in crew.helpers)


def test_helpers_that_always_die_are_replaced_some_times_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "REPLACED_MAX", 2)
    raws, found = signed(MANY), world(opened=False)
    with open_processes(1) as crew:
        crew.wait_ready(60)
        seen = set()
        for _ in range(5):
            seen.add(crew.helpers[0].process.pid)
            crew.helpers[0].process.kill()
            crew.helpers[0].process.wait()
            assert_same(found, raws, crew)
        assert len(seen) == 3 and crew.helpers[0].ended


class Liar(Helper):
    """Answers at once, what `say` makes of the question."""

    say: Callable[[bytes], bytes]

    def exchange(self) -> None:
        if self._sending and not self.ended:
            while self._sending:
                (size,) = FRAME.unpack_from(self._sending)
                self._received += self.say(bytes(self._sending[FRAME.size : FRAME.size + size]))
                del self._sending[: FRAME.size + size]
        super().exchange()


def framed(name: bytes, answer: bytes) -> bytes:
    return FRAME.pack(len(name + answer)) + name + answer


OTHER = write_question(AT, lambda id: None, signed([(2, 11, 0, None)])) or b""


def answered(question: bytes) -> bytes:
    return framed(name_of(question), write_answer(question))


def turned(question: bytes) -> bytes:
    """The same transactions, in another order: as many, and all valid."""
    asked = msgspec.msgpack.decode(question)
    return msgspec.msgpack.encode([*asked[:-1], asked[-1][::-1]])


LIES: dict[str, Callable[[bytes], bytes]] = {
    "the answer to another question": lambda question: answered(turned(question)),
    "about another number of them": lambda question: framed(name_of(question), write_answer(OTHER)),
    "no answer": lambda question: framed(name_of(question), b"\xff\x00"),
    "nothing": lambda question: framed(name_of(question), b""),
    "without a name": lambda question: FRAME.pack(3) + b"abc",
    "endless": lambda question: FRAME.pack(2**32 - 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_none_to_the_question_is_never_taken(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liar, "say", staticmethod(LIES[lie]), raising=False)
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **kinds: start(["cat"], **kinds))  # a quicker start
    monkeypatch.setattr(processes, "Helper", Liar)
    raws, found = signed(MANY), world(opened=True)
    with open_processes(1) as crew:
        assert_same(found, raws, crew)
        first = crew.helpers[0]
        assert first.ended == (lie != "nothing")
        assert_same(found, raws, crew)


def test_an_owner_that_gives_up_in_the_midst_is_followed_by_the_next(crew: ProcessCrew) -> None:
    raws = signed(MANY)
    for number in range(5):
        taken = iter(crew.share(Preparation(AT, lambda id: None), prepared.bundled(raws)))
        for _ in range(number):
            next(taken)
        taken.close()  # type: ignore[attr-defined]
    assert_same(world(opened=False), raws, crew)
    wait_for(crew)
    assert not any(helper.ended for helper in crew.helpers)


def test_few_transactions_are_not_worth_a_helper(crew: ProcessCrew) -> None:
    wait_for(crew)
    by(crew, world(opened=False), signed(MANY[: processes.SHARED_MIN - 1]))
    assert not any(helper.asked for helper in crew.helpers)


def test_large_transactions_come_in_bundles_of_their_own(crew: ProcessCrew) -> None:
    raws = [bytes([2]) * 131_072 for _ in range(20)]
    assert [len(bundle) for bundle in prepared.bundled(raws)] == [1] * 20
    block = assert_same(world(opened=False), raws, crew)
    assert len(block.refused) == 20
    assert not one_by_one(world(opened=False), raws)[0].entries


_OWNER = """
import sys
from tallystick.settlement.execution.processes import open_processes
with open_processes(1) as crew:
    crew.wait_ready(60)
    print(*(helper.process.pid for helper in crew.helpers), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["told", "killed"])
def test_no_helper_outlives_its_owner(end: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdin is not None
    helpers = [os.pidfd_open(int(pid)) for pid in owner.stdout.readline().split()]
    assert len(helpers) == 1
    if end == "killed":
        owner.kill()
    else:
        owner.stdin.write(b"\n")
        owner.stdin.flush()
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    for helper in helpers:
        assert select.select([helper], [], [], 60)[0], "it has ended"
        os.close(helper)


def test_a_helper_outlives_what_the_terminal_tells_its_owner(crew: ProcessCrew) -> None:
    for helper in crew.helpers:
        assert os.getpgid(helper.process.pid) != os.getpgid(0)
        helper.process.send_signal(signal.SIGINT)
    raws = signed(MANY)
    assert_same(world(opened=False), raws, crew)
    wait_for(crew)
    assert not any(helper.ended for helper in crew.helpers)
