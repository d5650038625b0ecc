"""A virtual channel before the court of a ledger whose blocks come late and go away: one player is honest.

The honest one does what `settlement.enforcement.virtual` derives, block by block. The other brings to court whatever
it holds, and decides what is in each block, but for this: what the honest one sends is in one of the next two blocks,
and after a reorganisation in the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from tallystick.channels.protocol import virtual
from tallystick.channels.protocol.eip712 import digest_proof, domain_separator
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, BalanceProof, Lock, SignedProof
from tallystick.channels.protocol.virtual import VIRTUAL, BalancesProof, EndingProof, VirtualTerms, conditions_of
from tallystick.settlement.chain import Call, ProofRegistered, RegisterProofCall
from tallystick.settlement.contract.verdicts.virtual import VirtualVerdict
from tallystick.settlement.enforcement.apps import CourtPrices
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.virtual import VirtualHeld, virtual_duties
from tallystick.settlement.errors import Reverted
from tallystick.settlement.ethereum.transactions import TARIFF
from tallystick.settlement.following.virtual import VirtualInCourt, fold_virtual
from tallystick.settlement.simulated import registry
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.world import Changes, Layer

KEYS = tuple(sorted((PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)), key=lambda key: key.address))
EXPIRY, PERIOD = 5_000, 600
STAKES = (50, 70)
TERMS = VirtualTerms(1337, ADJUDICATOR, (KEYS[0].address, KEYS[1].address), NATIVE, STAKES, EXPIRY, PERIOD, 3)
CHANNEL = virtual.virtual_id(TERMS)
CONDITIONS = conditions_of(CHANNEL)
DOMAIN = domain_separator(TERMS.chain_id, TERMS.contract)
PRICES = CourtPrices(DutyPolicy(), TARIFF, 7)


def balance(side: int, seq: int, given: int, **other: Any) -> SignedProof:
    """A numbered total of one side, by both."""
    proof = replace(BalanceProof(CHANNEL, side, seq, given, seen=seq - 1), **other)
    digest = digest_proof(DOMAIN, proof)
    return SignedProof(proof, KEYS[side].sign(digest), KEYS[1 - side].sign(digest))


def brings(*proofs: SignedProof, terms: VirtualTerms = TERMS, condition: bytes = CONDITIONS[0]) -> RegisterProofCall:
    """What brings these balances to court."""
    by_side = {each.proof.sender: each for each in proofs}
    proof = BalancesProof(terms, (by_side.get(0), by_side.get(1)))
    return RegisterProofCall(VIRTUAL, condition, proof.encode())


def outcome(*paid: int, condition: bytes = CONDITIONS[0], signers: Sequence[PrivateKey] = KEYS) -> RegisterProofCall:
    """What brings an outcome to court."""
    return RegisterProofCall(VIRTUAL, condition, ended(*paid, signers=signers).encode())


def ended(*paid: int, signers: Sequence[PrivateKey] = KEYS) -> EndingProof:
    """An outcome, by both."""
    first, second, third, fourth = paid
    amounts = (first, second, third, fourth)
    digest = virtual.digest_outcome(TERMS, amounts)
    return EndingProof(TERMS, amounts, (signers[0].sign(digest), signers[1].sign(digest)))


class VirtualBlocks:
    """A ledger as far as the court goes, block by block."""

    def __init__(self) -> None:
        self.past: list[tuple[int, Changes, tuple[ProofRegistered, ...]]] = [(1_000, {}, ())]
        self.now = 1_000

    @property
    def state(self) -> Layer:
        """After the newest block."""
        return Layer(self.past[-1][1])  # type: ignore[arg-type]

    @property
    def court(self) -> VirtualInCourt | None:
        """What was told on this branch."""
        return fold_virtual(event for *_, events in self.past for event in events)

    def take(self, call: RegisterProofCall, at: int | None = None) -> ProofRegistered:
        """Add a block with one call; raise Reverted."""
        time = self.now if at is None else at
        state = self.state
        (event,) = registry.register(state, call, time)
        assert isinstance(event, ProofRegistered)
        self.now = time
        self.past.append((time, {**self.past[-1][1], **state.changes}, (event,)))
        return event

    def mine(self, seconds: int, calls: Sequence[Call]) -> None:
        """Add a block with these calls, of which those that fail do nothing."""
        self.now += seconds
        state, told = self.state, list[ProofRegistered]()
        for call in calls:
            trial = Layer(state)
            assert isinstance(call, RegisterProofCall)
            try:
                told += registry.register(trial, call, self.now)  # type: ignore[arg-type]
            except Reverted:
                continue
            state.changes.update(trial.changes)
        self.past.append((self.now, {**self.past[-1][1], **state.changes}, tuple(told)))

    def reorganise(self, depth: int) -> None:
        """Take the newest blocks back, but never the first."""
        del self.past[max(1, len(self.past) - depth) :]

    def due(self, index: int, time: int, *, expiry: int = EXPIRY, amount: int = 10**6) -> int | None:
        """What goes over of a lock of one of the four conditions, None while that is open."""
        lock = Lock(0, STAKES[index] if index < 2 else amount, expiry, VIRTUAL, CONDITIONS[index])
        return VirtualVerdict().due(lock, time, registry.kept(self.state, lock.puzzle))


class VirtualTable:
    """The channel off chain, as the honest player sees it; and what the other has in hand."""

    def __init__(self, honest: int) -> None:
        self.honest = honest
        self.held = VirtualHeld(terms=TERMS, side=honest)
        self.other_has: list[RegisterProofCall] = []
        """What the other may bring to court."""
        self.signed = (0, 0)
        """The newest number and total that the honest player signed of its own."""
        self.got = (0, 0)
        """Of the other's, that it countersigned."""

    @property
    def balance(self) -> int:
        """What is the honest player's by all that it signed."""
        return STAKES[self.honest] - self.signed[1] + self.got[1]

    def pay(self, amount: int, *, acknowledged: bool) -> None:
        """The honest player pays; the other may keep its countersignature to itself."""
        self.signed = self.signed[0] + 1, self.signed[1] + amount
        proof = balance(self.honest, *self.signed)
        self.other_has.append(brings(proof))
        if acknowledged:
            self._hold(self.honest, proof)

    def receive(self, amount: int) -> None:
        """The other pays, and the honest player countersigns."""
        self.got = self.got[0] + 1, self.got[1] + amount
        proof = balance(1 - self.honest, *self.got)
        self.other_has.append(brings(proof))
        self._hold(1 - self.honest, proof)

    def end(self, outcome: EndingProof) -> None:
        """Both sign how it ended; nothing is paid from then on."""
        self.held = replace(self.held, outcome=outcome)
        self.other_has.append(RegisterProofCall(VIRTUAL, CONDITIONS[0], outcome.encode()))

    def look(self, court: VirtualInCourt | None, now: int) -> list[Call]:
        """What the honest player wants to have in the next block."""
        return [duty.call for duty in virtual_duties(self.held, court, now, PRICES)]

    def _hold(self, side: int, proof: SignedProof) -> None:
        proofs = (proof, self.held.proofs[1]) if side == 0 else (self.held.proofs[0], proof)
        self.held = replace(self.held, proofs=proofs)
