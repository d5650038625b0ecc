"""What the ledger keeps of puzzles: the numbers by which verdicts decide locks."""

from __future__ import annotations

from functools import partial

from tallystick.channels.protocol.objects import Puzzle
from tallystick.settlement.chain import RegistryCall, RegistryEvent
from tallystick.settlement.contract import verdicts
from tallystick.settlement.contract.verdicts import verdict_for
from tallystick.settlement.contract.verdicts.rules import KEPT_BITS, Verdict
from tallystick.settlement.simulated.world import Layer

_LOW = (1 << KEPT_BITS) - 1


def register(state: Layer, call: RegistryCall, time: int) -> tuple[RegistryEvent, ...]:
    """Carry out a call that makes a proof public; raise Reverted."""
    verdict = verdict_for(call)
    done = verdict.register(call, partial(_kept_by, state, verdict), time)
    slot = verdict.slot(done.condition)
    state.put(slot, done.kept & _LOW)
    if verdict.wide:
        state.put(_above(slot), done.kept >> KEPT_BITS)
    return (done.event,)


def kept(state: Layer, puzzle: Puzzle) -> int:
    """Return what is kept of a puzzle, 0 if nothing is, or its kind is unknown."""
    kind, condition = puzzle
    verdict = verdicts.VERDICTS.find(kind)
    return _kept_by(state, verdict, condition) if verdict is not None else 0


def _kept_by(state: Layer, verdict: Verdict, condition: bytes) -> int:
    slot = verdict.slot(condition)
    low = state.number(slot)
    return low | state.number(_above(slot)) << KEPT_BITS if verdict.wide else low


def _above(slot: bytes) -> bytes:
    return slot + b"+"
