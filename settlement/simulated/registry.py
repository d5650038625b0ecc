"""What the ledger keeps of puzzles and of apps in court: the numbers by which verdicts decide locks."""

from __future__ import annotations

from functools import partial

from tallystick.channels.apps.table import APPS
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.apps import InstanceId, instance_id, stake_condition
from tallystick.channels.protocol.objects import Puzzle
from tallystick.settlement.chain import RegistryCall, RegistryEvent
from tallystick.settlement.contract import court, verdicts
from tallystick.settlement.contract.adjudicator import Verify
from tallystick.settlement.contract.court import CourtCall, CourtRecord, pack, unpack
from tallystick.settlement.contract.verdicts import verdict_for
from tallystick.settlement.contract.verdicts.app import AppVerdict
from tallystick.settlement.contract.verdicts.rules import KEPT_BITS, Verdict
from tallystick.settlement.simulated.world import Layer, court_key

_STAKES = AppVerdict()
_LOW = (1 << KEPT_BITS) - 1


def register(state: Layer, call: RegistryCall, time: int) -> tuple[RegistryEvent, ...]:
    """Carry out a call that makes a proof public; raise Reverted."""
    verdict = verdict_for(call)
    done = verdict.register(call, partial(_kept_by, state, verdict), time)
    for condition, number in ((done.condition, done.kept), *done.others):
        _keep(state, verdict, condition, number)
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


def _keep(state: Layer, verdict: Verdict, condition: bytes, number: int) -> None:
    slot = verdict.slot(condition)
    state.put(slot, number & _LOW)
    if verdict.wide:
        state.put(_above(slot), number >> KEPT_BITS)


def _above(slot: bytes) -> bytes:
    return slot + b"+"


# --- the court ---------------------------------------------------------------------------------------------------


def run_court(state: Layer, call: CourtCall, time: int, verify: Verify) -> tuple[AppStands, ...]:
    """Carry out a call about an app's instance; raise Reverted."""
    instance = instance_id(call.terms)
    record, event = court.apply(record_of(state, instance), call, time, APPS.find, verify)
    for player, condition in enumerate(_stakes(instance)):
        _keep(state, _STAKES, condition, pack(record, player))
    high, low = divmod(int.from_bytes(record.state, "big"), AMOUNT_MAX + 1)
    state.put(court_key(instance, b"n"), record.agreed << 64 | record.number)
    state.put(court_key(instance, b"h"), high)
    state.put(court_key(instance, b"l"), low)
    return (event,)


def record_of(state: Layer, instance: InstanceId) -> CourtRecord | None:
    """Return what the court keeps of an instance, None if it never heard of it."""
    first, second = (unpack(_kept_by(state, _STAKES, condition)) for condition in _stakes(instance))
    expiry, until, _ = first
    if not expiry:
        return None
    numbers = state.number(court_key(instance, b"n"))
    stands = state.number(court_key(instance, b"h")) << KEPT_BITS | state.number(court_key(instance, b"l"))
    paid = (first[2], second[2])
    return CourtRecord(expiry, until, paid, numbers >> 64, numbers & UINT64_MAX, stands.to_bytes(32, "big"))


def _stakes(instance: InstanceId) -> tuple[bytes, bytes]:
    return stake_condition(instance, 0), stake_condition(instance, 1)
