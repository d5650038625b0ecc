"""The contract's bytecode under attack, as a state machine: coins are conserved, and the honest lose nothing.

Anna (side 0) is honest: she keeps her newest proofs, and answers every close in time. Mallory (side 1) closes with any
pair of what was ever signed, refuses coins or burns their gas, and calls what and when he likes; strangers deposit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import EvmReverted, calldata
from simulation.evm_adjudicator import Channel
from simulation.evm_world import BURNS_GAS, CALLS_BACK, ELSEWHERE, FAR, REFUSES, STRANGER, TOWER, EvmWorld
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock, SignedProof
from tallystick.settlement.chain import Call, DepositCall, RedeemCall, RegisterSecretCall, SettleCall

ANNA, MALLORY = 0, 1
OPEN, CLOSED, SETTLED, GONE = range(4)


@dataclass
class Simplex:
    """One direction of a channel: what its writer signed, and what the other countersigned."""

    transferred: int = 0
    locks: tuple[Lock, ...] = ()
    acked: int = 0
    proofs: list[SignedProof | None] = field(default_factory=lambda: [None])
    states: list[tuple[int, tuple[Lock, ...]]] = field(default_factory=lambda: [(0, ())])

    @property
    def locked(self) -> int:
        return sum(lock.amount for lock in self.locks)


class Dispute(RuleBasedStateMachine):
    """One channel from its opening to its last coin."""

    @initialize(tokens=st.booleans(), first=st.integers(0, 500), second=st.integers(0, 500))
    def begin(self, tokens: bool, first: int, second: int) -> None:
        self.world = EvmWorld(token="ordinary" if tokens else None)
        self.channel: ChannelFixture = self.world.open(first, second)
        self.deposits = [first, second]
        self.withdrawn = [0, 0]
        self.sides = (Simplex(), Simplex())
        self.secrets: dict[bytes, int] = {}
        self.cheated = False
        self.has_code = False
        self.anna = self.worth(ANNA)

    # --- what both sign -----------------------------------------------------------------------------------------

    def due(self, side: int) -> int:
        """What a side owns by the newest statements, its own pending locks included."""
        other, own = self.sides[1 - side], self.sides[side]
        return self.deposits[side] - self.withdrawn[side] + other.transferred - own.transferred

    def free(self, side: int) -> int:
        return self.due(side) - self.sides[side].locked

    def sign(self, side: int) -> None:
        simplex = self.sides[side]
        seq = len(simplex.proofs)
        simplex.proofs.append(self.channel.proof(side, seq, simplex.transferred, simplex.locks, simplex.acked))
        simplex.states.append((simplex.transferred, simplex.locks))

    @precondition(lambda self: self.status == OPEN)
    @rule(side=st.integers(0, 1), amount=st.integers(1, 200), acked=st.booleans())
    def pay(self, side: int, amount: int, acked: bool) -> None:
        amount = min(amount, self.free(side))
        if amount > 0:
            self.sides[side].transferred += amount
            self.sign(side)
            self.acknowledge(side, acked)

    @precondition(lambda self: self.status == OPEN)
    @rule(side=st.integers(0, 1), amount=st.integers(1, 100), late=st.integers(-50, 3_000), acked=st.booleans())
    def lock(self, side: int, amount: int, late: int, acked: bool) -> None:
        amount, simplex = min(amount, self.free(side)), self.sides[side]
        if amount > 0 and len(simplex.locks) < 4:
            id = len(simplex.proofs)
            secret = keccak(bytes([side, id]))
            expiry = self.world.evm.time + PERIOD + late
            simplex.locks += (Lock(id, amount, expiry, 0, digest_of(secret)),)
            self.sign(side)
            self.acknowledge(side, acked)

    @precondition(lambda self: self.status == OPEN)
    @rule(side=st.integers(0, 1), paid=st.booleans(), acked=st.booleans())
    def decide(self, side: int, paid: bool, acked: bool) -> None:
        simplex = self.sides[side]
        if simplex.locks:
            simplex.transferred += simplex.locks[0].amount if paid else 0
            simplex.locks = simplex.locks[1:]
            self.sign(side)
            self.acknowledge(side, acked)

    def acknowledge(self, side: int, acked: bool) -> None:
        if acked:
            self.sides[side].acked = len(self.sides[side].proofs) - 1

    # --- on chain -----------------------------------------------------------------------------------------------

    @property
    def view(self) -> Channel:
        view = self.world.contract.view(self.channel.id)
        assert view is not None
        return view

    @property
    def status(self) -> int:
        return self.view.status

    def attempt(self, call: Call, by: Address = STRANGER) -> bool:
        try:
            if self.has_code and by == self.world.parties[MALLORY]:
                self.world.act(by, self.world.contract.encode(call)[0])
            else:
                self.world.send(call, by)
        except EvmReverted:
            return False
        return True

    @rule(side=st.integers(0, 1), amount=st.integers(0, 50))
    def deposit(self, side: int, amount: int) -> None:
        if self.attempt(DepositCall(self.channel.id, side, amount, self.world.asset)):
            self.deposits[side] += amount

    @rule(side=st.integers(0, 1), amount=st.integers(1, 100))
    def withdraw(self, side: int, amount: int) -> None:
        amount = min(amount, self.free(side))
        total = self.withdrawn[side] + amount
        if amount > 0 and self.attempt(self.channel.withdrawal(side, total, FAR)):
            self.withdrawn[side] = total

    @precondition(lambda self: self.status == OPEN and not any(simplex.locks for simplex in self.sides))
    @rule(late=st.integers(0, 50), side=st.integers(0, 1))
    def agree(self, late: int, side: int) -> None:
        """They sign a close; somebody deposits more before it is mined, and gets it back with it."""
        offer = self.channel.cooperative_close(self.due(0), self.due(1), FAR)
        self.deposit(side, late)
        self.world.send(offer)

    @rule(closer=st.integers(0, 1), first=st.integers(0, 50), second=st.integers(0, 50))
    def close(self, closer: int, first: int, second: int) -> None:
        """Mallory closes with any pair; Anna with her newest: of her own, the newest that was acknowledged."""
        own, other = self.sides[closer], self.sides[1 - closer]
        pair = (
            [len(other.proofs) - 1, own.acked]
            if closer == ANNA
            else [first % len(other.proofs), second % len(own.proofs)]
        )
        proofs = [own.proofs[pair[1]], other.proofs[pair[0]]]
        call = self.channel.close(*(proofs if closer == 0 else proofs[::-1]))
        if self.attempt(call, self.world.parties[closer]):
            self.cheated = closer == MALLORY and pair[0] < len(other.proofs) - 1

    @rule(side=st.integers(0, 1), number=st.integers(1, 50), voucher=st.booleans())
    def challenge(self, side: int, number: int, voucher: bool) -> None:
        proof = self.sides[side].proofs[number % len(self.sides[side].proofs)]
        if proof is not None:
            victim = 1 - (self.view.closer or 0)
            tower = TOWER if voucher and victim == ANNA else None  # Anna has a tower, Mallory none
            self.attempt(self.channel.challenge(proof, tower=tower, victim=victim))

    @rule(seconds=st.sampled_from([1, PERIOD // 2, PERIOD, PERIOD + 1]))
    def wait(self, seconds: int) -> None:
        """Anna answers a close while she can."""
        if self.status == CLOSED:
            self.answer()
        self.world.evm.time += seconds

    def answer(self) -> None:
        for simplex in self.sides:
            newest = simplex.proofs[-1]
            if newest is not None:
                self.attempt(self.channel.challenge(newest), self.world.parties[ANNA])

    @precondition(lambda self: self.status != CLOSED)
    @rule(side=st.integers(0, 1), number=st.integers(0, 3))
    def reveal(self, side: int, number: int) -> None:
        locks = self.sides[side].locks
        if number < len(locks):
            secret = keccak(bytes([side, locks[number].id]))
            if self.attempt(RegisterSecretCall(secret)):
                self.secrets[digest_of(secret)] = self.world.evm.time

    @rule()
    def settle(self) -> None:
        if self.status == CLOSED and self.world.evm.time > (self.view.deadline or 0):
            self.answered()
        self.attempt(SettleCall(self.channel.id))

    def answered(self) -> None:
        """By the end of the window, the newest proofs stand."""
        assert self.view.seqs == tuple(len(simplex.proofs) - 1 for simplex in self.sides)

    @rule(side=st.integers(0, 1), number=st.integers(0, 50))
    def redeem(self, side: int, number: int) -> None:
        states = self.sides[side].states
        self.attempt(RedeemCall(self.channel.id, side, states[-1 - number % len(states)][1]))

    @rule(mode=st.sampled_from([0, REFUSES, CALLS_BACK, BURNS_GAS]))
    def misbehave(self, mode: int) -> None:
        """Mallory's account gets code, or other orders."""
        self.has_code = True
        self.world.misbehave(self.world.parties[MALLORY], mode)
        data, _ = self.world.contract.encode(SettleCall(self.channel.id))
        self.world.call_back(self.world.parties[MALLORY], self.world.at, data)

    # --- what must hold -----------------------------------------------------------------------------------------

    def worth(self, side: int) -> int:
        party = self.world.parties[side]
        return self.world.balance(party) + self.world.owed(party)

    @invariant()
    def coins_are_conserved(self) -> None:
        view = self.view
        held = sum(view.pots) if view.status in (SETTLED, GONE) else sum(view.deposits) - sum(view.withdrawn)
        owed = sum(self.world.owed(account) for account in (*self.world.parties, TOWER))
        assert self.world.balance(self.world.at) == held + owed

    @invariant()
    def the_honest_are_never_convicted(self) -> None:
        view = self.view
        if view.convicted:
            assert view.closer == MALLORY and self.cheated

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        if self.status == OPEN:
            self.close(ANNA, 0, 0)
        if self.status == CLOSED:
            self.wait(PERIOD + 1)
            self.settle()
        own, incoming = self.sides[ANNA].locks, self.sides[MALLORY].locks
        self.world.evm.time += 100_000
        for side, locks in ((ANNA, own), (MALLORY, incoming)):
            while self.status == SETTLED and self.view.pots[side]:
                rest = [states for _, states in self.sides[side].states] + [self.waiting(locks)]
                assert any(self.attempt(RedeemCall(self.channel.id, side, locks)) for locks in reversed(rest))
        assert self.status == GONE
        for account in (*self.world.parties, TOWER):
            if self.world.owed(account):
                data = calldata("claim", ("address", "address"), (self.world.asset, ELSEWHERE))
                self.world.act(account, data)
        assert self.world.balance(self.world.at) == 0

        def paid(lock: Lock) -> bool:
            return 0 < self.secrets.get(lock.condition, 0) <= lock.expiry

        expected = self.due(ANNA)
        expected -= sum(lock.amount for lock in own if paid(lock))
        expected += sum(lock.amount for lock in incoming if paid(lock))
        got = self.worth(ANNA) - self.anna - self.withdrawn[ANNA]
        assert got >= expected if self.cheated else got == expected

    def waiting(self, locks: tuple[Lock, ...]) -> tuple[Lock, ...]:
        """Those that no redeem has decided, as far as there was one."""
        return tuple(lock for lock in locks if lock.condition not in self.secrets)


TestDispute = Dispute.TestCase
EXAMPLES = int(os.environ.get("TALLY_MACHINE_EXAMPLES", "25"))
TestDispute.settings = settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None)
