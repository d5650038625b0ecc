"""A forwarder under every interleaving of payments both ways, losses, crashes, secrets on chain and time.

Whatever happens, money is conserved, the forwarder never loses, every payment ends, and who paid holds the proof. The
machine plays the chain: a clock and a registry of secrets, to which honest nodes go shortly before a lock expires.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.line import Line
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.messages import Ack
from tallystick.router.codes import Code
from tallystick.router.forwarding.circuits import forwards_after, load_circuits
from tallystick.router.forwarding.forwarder import ForwardOutcome
from tallystick.router.onion.failures import Failure

SECRETS = [bytes([n]) * 32 for n in (1, 2, 3)]
BY_CONDITION = {digest_of(secret): secret for secret in SECRETS}
NAMES = st.sampled_from("ABC")
ROUTES = st.sampled_from(["ABC", "CBA"])
START = {"A": 1_000_000, "B": 2_000_000, "C": 1_000_000}


class Forwarding(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.line = Line()
        self.seed = 0
        for name in "AC":  # these are opened as soon as they arrive, the others when the machine says so
            self.line[name].secrets = {digest_of(secret): secret for secret in SECRETS[:2]}

    @rule(route=ROUTES, amount=st.sampled_from([1_000, 70_000, 400_000]), which=st.integers(0, 2), data=st.data())
    def send(self, route: str, amount: int, which: int, data: st.DataObject) -> None:
        lifetime = data.draw(st.sampled_from([1_200, 600, 310]))
        fee = data.draw(st.sampled_from([amount // 1_000, amount // 1_000, amount // 1_000 + 5, 0]))
        self.seed += 1
        try:
            self.line.send(
                route, (amount + fee, amount), SECRETS[which], lifetime=lifetime, seed=self.seed.to_bytes(4, "big")
            )
        except InvalidInput:
            return

    @rule(name=st.sampled_from("AC"), data=st.data(), opens=st.booleans())
    def decide(self, name: str, data: st.DataObject, opens: bool) -> None:
        payee = self.line[name]
        (session,) = payee.engine.sessions.values()
        waiting = {added.lock.id for added in session.locks.undecided_locks()}
        finals = [final for final in payee.finals if final.lock.id in waiting]
        if not finals:
            return
        final = data.draw(st.sampled_from(finals))
        if opens:
            payee.locks.reveal(final.channel, final.lock.id, BY_CONDITION[final.lock.condition])
        else:
            payee.locks.refuse(final, Failure(Code.MPP_TIMEOUT))

    @rule(picks=st.lists(st.integers(0, 5), max_size=25))
    def work(self, picks: list[int]) -> None:
        for pick in picks:
            possible = self.line.moments()
            if possible:
                self.line.do(*possible[pick % len(possible)])

    @rule()
    def settle(self) -> None:
        self.line.settle()

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        self.line.crash(self.line[name])

    @rule(name=NAMES, takes_effect=st.booleans())
    def crash_in_commit(self, name: str, takes_effect: bool) -> None:
        if self.line[name].has_work():
            self.line.crash_in_commit(self.line[name], takes_effect=takes_effect)

    @rule(which=st.integers(0, 1))
    def disconnect(self, which: int) -> None:
        self.line.disconnect(*self.line.links[which])

    @rule()
    def connect(self) -> None:
        self.line.connect()

    @rule(name=st.sampled_from("AC"), silent=st.booleans())
    def withhold(self, name: str, silent: bool) -> None:
        """A neighbour of the forwarder holds its acknowledgements back, or goes on."""
        self.line[name].mute = (lambda message: isinstance(message, Ack)) if silent else (lambda message: False)

    @rule(seconds=st.sampled_from([5, 30, 30, 30]), times=st.integers(1, 12))
    def time_passes(self, seconds: int, times: int) -> None:
        for _ in range(times):
            self.line.claim()
            self.line.pass_time(seconds)

    @precondition(lambda self: any(final for member in self.line.members.values() for final in member.finals))
    @rule(which=st.integers(0, 2), name=st.sampled_from("AC"))
    def register(self, which: int, name: str) -> None:
        """A payee that got a lock goes to the chain at once."""
        if any(final.lock.condition == digest_of(SECRETS[which]) for final in self.line[name].finals):
            self.line.register(SECRETS[which])

    @invariant()
    def look(self) -> None:
        if not hasattr(self, "line"):
            return
        assert self.line.faults == []
        assert all(member.alarms == [] for member in self.line.members.values())

    def teardown(self) -> None:
        if not hasattr(self, "line"):
            return
        line = self.line
        for member in line.members.values():
            member.mute = lambda message: False
        for _ in range(60):
            line.connect()
            line.settle()
            if not line.pending():
                break
            line.claim()
            line.pass_time(30)
        self.look()
        self.check()

    def check(self) -> None:
        line = self.line
        assert line.pending() == [] and load_circuits(line["B"].store) == []
        wealth = {name: line.wealth(name) for name in "ABC"}
        assert sum(wealth.values()) == sum(START.values())
        forwards = forwards_after(line["B"].store, 0, 10_000)
        paid = [forward.circuit for forward in forwards if forward.outcome is ForwardOutcome.PAID]
        assert all(forward.outcome is not ForwardOutcome.LOST for forward in forwards)
        assert wealth["B"] == START["B"] + sum(circuit.fee for circuit in paid)
        from_a = [circuit for circuit in paid if circuit.incoming == line.channel("AB")]
        from_c = [circuit for circuit in paid if circuit.incoming == line.channel("BC")]
        spent = sum(circuit.amount_in for circuit in from_a) - sum(circuit.amount_out for circuit in from_c)
        assert wealth["A"] == START["A"] - spent
        assert not from_a or line["A"].receipts, "who paid holds the proof"
        assert not from_c or line["C"].receipts


Forwarding.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestForwarding = Forwarding.TestCase
