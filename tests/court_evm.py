"""A game of noughts and crosses before both courts, and a channel that locks its stakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from simulation import court_bench
from simulation.court_bench import KEYS, TERMS, played
from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import Evm, EvmReverted, calldata
from simulation.evm_court import COURT_CALLS
from simulation.evm_court import TERMS as TERMS_TYPE
from simulation.evm_storage import court_slots, slots_in_use
from simulation.evm_twins import STRANGER, Twins
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import DepositCall, OpenCall, RegisterProofCall, SettleCall, SingleCall
from tallystick.settlement.simulated import registry


def runtime(code: bytes) -> bytes:
    """Return what deploys just this code: it copies what follows it."""
    return bytes.fromhex(f"61{len(code):04x}80600a5f395ff3") + code


class CourtWorld:
    """See above."""

    def __init__(self, *, expiry: int, **changes: Any) -> None:
        self.twins = Twins(time=1_000, court=True)
        assert self.twins.court is not None
        self.court = self.twins.court
        changes.setdefault("contract", self.twins.at)
        self.terms = msgspec.structs.replace(TERMS, expiry=expiry, **changes)
        self.instance = apps.instance_id(self.terms)
        self.stakes = apps.stake_condition(self.instance, 0), apps.stake_condition(self.instance, 1)

    def replaced(self, **changes: Any) -> apps.AppTerms:
        """Return the terms with these changes."""
        return msgspec.structs.replace(self.terms, **changes)

    def send(self, call: SingleCall) -> str:
        """Make a call on both chains; return the name of the rule that refused it, or nothing."""
        said = self.twins.send(
            call, STRANGER, None if isinstance(call, COURT_CALLS) else getattr(call, "channel", None)
        )
        if not isinstance(call, RegisterProofCall):
            self._compare()
        return said

    def _compare(self) -> None:
        record = registry.record_of(self.twins.state, self.instance)
        if record is None or record.until:
            self.twins.compare_court(self.instance)

    def signed(self, terms: apps.AppTerms, number: int, state: bytes) -> RegisterStateCall:
        """Return a state with both signatures."""
        both = court_bench.signed(0, number, state, terms), court_bench.signed(1, number, state, terms)
        return RegisterStateCall(terms, number, state, both)

    def agreed(self, *cells: int, at: int | None = None) -> RegisterStateCall:
        """Return the board after these moves, by both; `at`: and go to that time."""
        self.twins.time = self.twins.time if at is None else at
        return self.signed(self.terms, len(cells), played(*cells))

    def move(self, *cells: int) -> CourtMoveCall:
        """Return the last of these moves, on the state before it."""
        number, after = len(cells), played(*cells)
        signature = court_bench.signed((number - 1) % 2, number, after, self.terms)
        return CourtMoveCall(self.terms, played(*cells[:-1]), bytes(cells[-1:]), signature)

    def outcome(self, paid: tuple[int, int], terms: apps.AppTerms | None = None) -> RegisterProofCall:
        """Return an outcome by both."""
        terms = terms or self.terms
        digest = apps.digest_outcome(terms, apps.AppOutcome(apps.instance_id(terms), paid))
        proof = apps.OutcomeProof(terms, paid, (KEYS[0].sign(digest), KEYS[1].sign(digest)))
        return RegisterProofCall(apps.APP, apps.stake_condition(apps.instance_id(terms), 0), proof.encode())

    def settled(self, *locks: Lock) -> ChannelFixture:
        """Return a channel that waits for these locks of simplex 0 alone."""
        fixture = ChannelFixture(contract=self.twins.at)
        self.twins.know(fixture.terms)
        calls = (
            (OpenCall(fixture.terms, 600), 0),
            (DepositCall(fixture.id, 1, 400), 1),
            (fixture.close(fixture.proof(0, 1, 0, locks)), 1),
        )
        for call, side in calls:
            assert self.twins.send(call, fixture.address(side), fixture.id) == ""
        self.twins.time += PERIOD + 1
        assert self.twins.send(SettleCall(fixture.id), STRANGER, fixture.id) == ""
        return fixture

    def refused(self, name: str, terms: Sequence[Any], call: RegisterStateCall) -> str:
        """Send a state under terms that need not be any; return which rule refused it, or nothing."""
        types = (TERMS_TYPE, "uint64", "bytes", "bytes", "bytes")
        data = calldata(name, types, (tuple(terms), call.number, call.state, *call.signatures))
        try:
            self.twins.evm.send(STRANGER, self.court.at, data)
        except EvmReverted as error:
            return error.reason
        return ""

    def copied(self) -> Evm:
        """Return the chain of the contracts as the next block finds it."""
        slots = {self.twins.at: slots_in_use(self.twins.contract), self.court.at: court_slots(self.terms)}
        return self.twins.evm.settled(slots)
