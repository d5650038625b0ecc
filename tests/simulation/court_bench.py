"""The court of a simulated ledger by itself, and two players who sign what is brought to it."""

from __future__ import annotations

from typing import Any

import pytest

from tallystick.channels.apps.table import APPS
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.settlement.chain import RegisterProofCall
from tallystick.settlement.contract.verdicts.app import AppVerdict
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.simulated import registry
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.world import Layer

KEYS = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
GAME = APPS.named("tictactoe")
START = GAME.init((50, 70))
EXPIRY, PERIOD = 5_000, 600
AT = Deployment(1337, ADJUDICATOR)
TERMS = apps.AppTerms(
    *AT,
    GAME.id,
    keccak(START),
    (KEYS[0].address, KEYS[1].address),
    (50, 70),
    (NATIVE, NATIVE),
    EXPIRY,
    PERIOD,
    3,
)
INSTANCE = apps.instance_id(TERMS)
STAKES = apps.stake_condition(INSTANCE, 0), apps.stake_condition(INSTANCE, 1)


def played(*cells: int) -> bytes:
    """The board after these moves, which need not be allowed."""
    board = bytearray(START)
    for index, cell in enumerate(cells):
        board[cell] = 1 + index % 2
    return bytes(board)


def signed(player: int, number: int, state: bytes, terms: apps.AppTerms = TERMS) -> bytes:
    statement = apps.AppState(apps.instance_id(terms), number, keccak(state))
    return KEYS[player].sign(apps.digest_state(terms, statement))


def agreed(*cells: int, terms: apps.AppTerms = TERMS) -> RegisterStateCall:
    """The state after these moves, by both."""
    state, number = played(*cells), len(cells)
    return RegisterStateCall(terms, number, state, (signed(0, number, state, terms), signed(1, number, state, terms)))


def move(*cells: int, by: int | None = None) -> CourtMoveCall:
    """The last of these moves, on the state before it."""
    number, after = len(cells), played(*cells)
    mover = (number - 1) % 2 if by is None else by
    return CourtMoveCall(TERMS, played(*cells[:-1]), bytes(cells[-1:]), signed(mover, number, after))


def outcome(paid: tuple[int, int], player: int = 0) -> RegisterProofCall:
    digest = apps.digest_outcome(TERMS, apps.AppOutcome(INSTANCE, paid))
    signatures = KEYS[0].sign(digest), KEYS[1].sign(digest)
    return RegisterProofCall(apps.APP, STAKES[player], apps.OutcomeProof(TERMS, paid, signatures).encode())


class Bench:
    """A ledger's court."""

    def __init__(self) -> None:
        self.state = Layer({})
        self.time = 1_000

    def take(self, call: RegisterStateCall | CourtMoveCall | RegisterProofCall, at: int | None = None) -> Any:
        self.time = self.time if at is None else at
        trial = Layer(self.state)
        if isinstance(call, RegisterProofCall):
            (event,) = registry.register(trial, call, self.time)
        else:
            (event,) = registry.run_court(trial, call, self.time, verify_signer)
        self.state.changes.update(trial.changes)
        return event

    def refused(self, call: RegisterStateCall | CourtMoveCall | RegisterProofCall, at: int | None = None) -> Revert:
        before = dict(self.state.changes)
        with pytest.raises(Reverted) as caught:
            self.take(call, at)
        assert self.state.changes == before
        return caught.value.code

    def due(self, time: int, player: int = 0, expiry: int = EXPIRY) -> int | None:
        lock = Lock(0, TERMS.stakes[player], expiry, apps.APP, STAKES[player])
        return AppVerdict().due(lock, time, registry.kept(self.state, lock.puzzle))
