"""Two players before the court of a ledger whose blocks come late and go away: one is honest, the other does anything.

The honest one does what `settlement.enforcement.apps` derives, block by block. The other signs and brings to court
whatever it likes, and decides what is in each block, but for this: what the honest one sends is in one of the next two
blocks, and after a reorganisation in the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from simulation.court_bench import GAME, INSTANCE, KEYS, STAKES, START, TERMS, signed
from tallystick.channels.apps.instance import OwnMove
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import Call, RegisterProofCall
from tallystick.settlement.contract.verdicts.app import AppVerdict
from tallystick.settlement.enforcement.apps import AppHeld, CourtPrices, app_duties
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.errors import Reverted
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.ethereum.transactions import TARIFF
from tallystick.settlement.following.courts import CourtEvent, InCourt, fold
from tallystick.settlement.simulated import registry
from tallystick.settlement.simulated.world import Changes, Layer

PRICES = CourtPrices(DutyPolicy(), TARIFF, 7)
COURT_CALLS = RegisterStateCall | CourtMoveCall | RegisterProofCall


def legal(state: bytes) -> list[int]:
    """The cells that may be taken."""
    return [] if GAME.turn(state) is None else [cell for cell in range(9) if not state[cell]]


def after(state: bytes, cell: int) -> bytes:
    """The state that follows."""
    mover = GAME.turn(state)
    assert mover is not None
    return GAME.valid(state, bytes([cell]), mover, INSTANCE)


class Blocks:
    """A ledger as far as the court goes, block by block."""

    def __init__(self) -> None:
        self.past: list[tuple[int, Changes, tuple[CourtEvent, ...]]] = [(1_000, {}, ())]
        self.now = 1_000

    @property
    def state(self) -> Layer:
        """After the newest block."""
        return Layer(self.past[-1][1])  # type: ignore[arg-type]

    @property
    def court(self) -> InCourt | None:
        """What was told on this branch."""
        return fold(event for *_, events in self.past for event in events)

    def mine(self, seconds: int, calls: Sequence[Call]) -> None:
        """Add a block with these calls, of which those that fail do nothing."""
        self.now += seconds
        state, told = self.state, list[CourtEvent]()
        for call in calls:
            trial = Layer(state)
            assert isinstance(call, COURT_CALLS)
            try:
                if isinstance(call, RegisterProofCall):
                    told += registry.register(trial, call, self.now)  # type: ignore[arg-type]
                else:
                    told += registry.run_court(trial, call, self.now, verify_signer)
            except Reverted:
                continue
            state.changes.update(trial.changes)
        self.past.append((self.now, {**self.past[-1][1], **state.changes}, tuple(told)))

    def reorganise(self, depth: int) -> None:
        """Take the newest blocks back, but never the first."""
        del self.past[max(1, len(self.past) - depth) :]

    def due(self, player: int, time: int) -> int | None:
        """What goes of a player's stake to the other, None while that is open."""
        lock = Lock(0, TERMS.stakes[player], TERMS.expiry, apps.APP, STAKES[player])
        return AppVerdict().due(lock, time, registry.kept(self.state, lock.puzzle))


class Table:
    """The game off chain, as the honest player sees it; and what the other has in hand."""

    def __init__(self, honest: int) -> None:
        self.honest = honest
        self.held = self._agreed(0, START, AppHeld(terms=TERMS, player=honest))
        self.other_has: list[RegisterStateCall] = [self._registers(0, START)]
        """States under which the other holds both signatures."""
        self.signed: dict[int, bytes] = {0: START}
        """What the honest player signed, by number."""

    @property
    def newest(self) -> tuple[int, bytes]:
        """Number and bytes of the newest state that the honest player signed."""
        if self.held.move is not None:
            return self.held.move.number, self.held.move.after
        assert self.held.agreed is not None
        return self.held.agreed.state.number, self.held.state

    def _registers(self, number: int, state: bytes) -> RegisterStateCall:
        return RegisterStateCall(TERMS, number, state, (signed(0, number, state), signed(1, number, state)))

    def _agreed(self, number: int, state: bytes, held: AppHeld) -> AppHeld:
        signatures = (signed(0, number, state), signed(1, number, state))
        statement = apps.SignedState(apps.AppState(INSTANCE, number, keccak(state)), signatures)
        assert statement.holds(TERMS)
        return replace(held, agreed=statement, state=state, move=None)

    def _sign(self, number: int, state: bytes) -> None:
        assert self.signed.setdefault(number, state) == state, "two statements with one number"
        self.other_has.append(self._registers(number, state))

    def move(self, cell: int) -> None:
        """The honest player moves on its newest state: it signs, and sends."""
        number, before = self.newest
        assert self.held.move is None and GAME.turn(before) == self.honest
        follows = after(before, cell)
        self._sign(number + 1, follows)
        move = OwnMove(number + 1, before, bytes([cell]), follows, signed(self.honest, number + 1, follows))
        self.held = replace(self.held, move=move)

    def acknowledged(self) -> None:
        """The other signs that move, and sends that."""
        if self.held.move is not None:
            self.held = self._agreed(self.held.move.number, self.held.move.after, self.held)

    def take(self, number: int, state: bytes) -> None:
        """The other has moved, on what the honest player holds, and so acknowledged that."""
        self._sign(number, state)
        self.held = self._agreed(number, state, self.held)

    def outcome(self, paid: tuple[int, int]) -> RegisterProofCall:
        """What both sign in a final state."""
        digest = apps.digest_outcome(TERMS, apps.AppOutcome(INSTANCE, paid))
        proof = apps.OutcomeProof(TERMS, paid, (KEYS[0].sign(digest), KEYS[1].sign(digest)))
        self.held = replace(self.held, outcome=proof)
        return RegisterProofCall(apps.APP, STAKES[0], proof.encode())

    def look(self, court: InCourt | None, now: int) -> list[Call]:
        """Learn what is in court, move there if it is our turn, and return what must be done."""
        if court is not None and self.held.outcome is None and not court.is_decided(now):
            self._follow(court)
        return [obligation.call for obligation in app_duties(self.held, court, now, PRICES)]

    def _follow(self, court: InCourt) -> None:
        """Take moves of the other that are on our newest state as if they had come off chain; answer what stands."""
        for stands in court.line:
            number, state = self.newest
            follows = stands.number == number + 1 and GAME.turn(state) == 1 - self.honest
            if follows and stands.move and stands.state == after(state, stands.move[0]):
                self.take(stands.number, stands.state)
        number, state = self.newest
        stood = court.stands
        if stood is not None and self.held.move is None and (stood.number, stood.state) == (number, state):
            cells = legal(state) if GAME.turn(state) == self.honest else []
            if cells:
                self.move(cells[0])
