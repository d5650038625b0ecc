"""A hub between two players who collude: they sign what they like, in any order, and the hub never loses a unit.

The machine plays both players, the links, the hub's crashes and the court. In the end every channel that holds a stake
is redeemed on chain, by the states that suit the players best.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulation.line_stakes import StakesLine
from simulation.line_virtual import VirtualLine
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.messages import Ack, Reveal, Update
from tallystick.channels.protocol.objects import Lock
from tallystick.channels.protocol.operations import Cancel, Unlock
from tallystick.channels.session.inputs import PayLock, RejectLock
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.forwarding.stakes import StakeLimits

STAKES = (50_000, 70_000)
HAD = 2_000_000
PLAYERS = st.sampled_from("AC")
PAID = st.tuples(st.sampled_from([0, 20_000, 50_000]), st.sampled_from([0, 30_000, 70_000]))
CHANNELS = {"A": "AB", "C": "BC"}
MUTES = {
    "nothing": lambda message: False,
    "acks": lambda message: isinstance(message, Ack),
    "ends": lambda message: (
        isinstance(message, Update) and any(isinstance(each, Unlock | Cancel) for each in message.operations)
    ),
    "proofs": lambda message: isinstance(message, Reveal),
}


class Collusion(RuleBasedStateMachine):
    court: type[StakesLine] | type[VirtualLine] = StakesLine

    @initialize(arrived=st.booleans())
    def begin(self, arrived: bool) -> None:
        self.line: Any = self.court(options=RoutingOptions(stakes=StakeLimits(percent=50)))
        self.terms = self.line.terms(STAKES)
        for player in (0, 1):
            self.line.lock(self.terms, player)
        if arrived:
            self.line.settle()

    @rule(name=PLAYERS, paid=PAID)
    def show(self, name: str, paid: tuple[int, int]) -> None:
        with contextlib.suppress(TallystickError):
            self.line[name].channels.reveal(self.line.channel(CHANNELS[name]), 0, self.line.outcome(self.terms, paid))

    @rule(name=PLAYERS, paid=PAID)
    def unlock(self, name: str, paid: tuple[int, int]) -> None:
        with contextlib.suppress(TallystickError):
            proof = self.line.outcome(self.terms, paid)
            self.line[name].engine.apply(self.line.channel(CHANNELS[name]), PayLock(0, proof))

    @rule(name=PLAYERS)
    def give_back(self, name: str) -> None:
        with contextlib.suppress(TallystickError):
            self.line[name].engine.apply(self.line.channel(CHANNELS[name]), RejectLock(0, b"no"))

    @rule(paid=PAID, signed=st.booleans(), takes=st.sampled_from([0, 600, 6_000]))
    def go_to_court(self, paid: tuple[int, int], signed: bool, takes: int) -> None:
        proof = self.line.outcome(self.terms, paid) if signed else b""
        self.line.judge(self.terms, paid, proof, self.line.time + (0 if signed else takes))

    @rule(name=PLAYERS, what=st.sampled_from(sorted(MUTES)))
    def mute(self, name: str, what: str) -> None:
        self.line[name].mute = MUTES[what]

    @rule(picks=st.lists(st.integers(0, 5), max_size=25))
    def work(self, picks: list[int]) -> None:
        for pick in picks:
            possible = self.line.moments()
            if possible:
                self.line.do(*possible[pick % len(possible)])

    @rule()
    def settle(self) -> None:
        self.line.settle()

    @rule(takes_effect=st.booleans())
    def crash(self, takes_effect: bool) -> None:
        if self.line["B"].has_work():
            self.line.crash_in_commit(self.line["B"], takes_effect=takes_effect)
        else:
            self.line.crash(self.line["B"])

    @rule()
    def connect(self) -> None:
        self.line.connect()

    @rule(seconds=st.sampled_from([15, 600, 3_700]))
    def time_passes(self, seconds: int) -> None:
        self.line.pass_time(seconds)

    @invariant()
    def look(self) -> None:
        if hasattr(self, "line"):
            assert all(member.alarms == [] for member in self.line.members.values())

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        self.line.pass_time(20_000)
        assert self.owned() >= HAD, "the hub lost"

    def owned(self) -> int:
        """Return what the hub gets, by its own newest incoming states, and the worst outgoing ones it has signed."""
        line, total = self.line, 0
        for session in line["B"].engine.sessions.values():
            channel = session.channel
            states = [state.simplex for state in (channel.ours, *channel.flight)]
            gone = [each.proof.transferred + sum(self.due(lock) for lock in each.locks) for each in states]
            got = channel.theirs.simplex
            total += channel.funding(channel.side) - max(gone)
            total += got.proof.transferred + sum(self.due(lock) for lock in got.locks)
        return total

    def due(self, lock: Lock) -> int:
        due = self.line.on_chain(lock)
        assert due is not None
        return due


class CollusionInVirtualChannel(Collusion):
    """Here the court goes by balances, of which newer ones may follow, and by outcomes."""

    court = VirtualLine


OFTEN = settings(max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
Collusion.TestCase.settings = CollusionInVirtualChannel.TestCase.settings = OFTEN
TestCollusion = Collusion.TestCase
TestCollusionInVirtualChannel = CollusionInVirtualChannel.TestCase
