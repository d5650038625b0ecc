"""What calls of the court cost on a node, and redeems of stakes in apps that it decided, for `tally bench gas`.

The app is noughts and crosses: what the rules of others take comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.apps.table import APPS
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.apps import (
    APP,
    AppOutcome,
    AppState,
    AppTerms,
    OutcomeProof,
    digest_outcome,
    digest_state,
    instance_id,
    stake_condition,
)
from tallystick.channels.protocol.eip712 import channel_id, locks_root
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Lock
from tallystick.sdk.bench.gas_meter import CLOSE_KEY, FAR, PERIOD, Meter
from tallystick.settlement.chain import CloseCall, RedeemCall, RegisterProofCall, SettleCall
from tallystick.settlement.ethereum.evm.abi import HeldLocks
from tallystick.settlement.ethereum.evm.court import CourtCall, encode_court_call

STAKES = (50, 70)


class CourtGas(msgspec.Struct, frozen=True):
    """Gas of each call about an app."""

    register_state: int
    """The first of an instance."""
    move_in_court: int
    register_outcome: int
    """Of an instance that the court did not know."""
    redeem_stakes: dict[str, int]
    """By the number of locks, each of an instance of its own that was decided."""


async def measure_court(meter: Meter, counts: Sequence[int]) -> CourtGas:
    """Return the gas of each call, in the native coin; redeems are of so many stakes."""
    game = APPS.named("tictactoe")
    start = game.init(STAKES)
    terms = _terms(meter, game.id, start, 0)
    first = _signed(meter, terms, 0, start)
    registered = await _call(meter, RegisterStateCall(terms, 0, start, first))
    after = game.valid(start, b"\4", 0, instance_id(terms))
    moved = await _call(meter, CourtMoveCall(terms, start, b"\4", _signed(meter, terms, 1, after)[0]))
    decided, redeems, number = 0, dict[str, int](), 1
    opened = await meter.opened(len(counts))
    locks = dict[int, tuple[Lock, ...]]()
    for count, channel in zip(counts, opened, strict=True):
        of = [_terms(meter, game.id, start, number + at) for at in range(count)]
        number += count
        for each in of:
            decided = await _call(meter, _outcome(meter, each))
        conditions = [stake_condition(instance_id(each), 0) for each in of]
        locks[count] = tuple(Lock(at, STAKES[0], FAR, APP, each) for at, each in enumerate(conditions))
        proof = meter.proof(channel, 0, 1_000, 10**12, locks[count])
        await meter.call(meter.keys[0], channel, CloseCall(channel_id(channel), proof, None, CLOSE_KEY))
    await meter.node.pass_time(meter.third, PERIOD + 1)
    for count, channel in zip(counts, opened, strict=True):
        held = HeldLocks(sum(lock.amount for lock in locks[count]), locks_root(locks[count]))
        await meter.call(meter.third, channel, SettleCall(channel_id(channel)), held)
        redeem = RedeemCall(channel_id(channel), 0, locks[count])
        redeems[str(count)] = await meter.call(meter.third, channel, redeem, held)
    return CourtGas(registered, moved, decided, redeems)


def _terms(meter: Meter, app: bytes, start: bytes, nonce: int) -> AppTerms:
    players = (meter.keys[0].address, meter.keys[1].address)
    return AppTerms(*meter.at, app, keccak(start), players, STAKES, (NATIVE, NATIVE), FAR, PERIOD, nonce)


def _signed(meter: Meter, terms: AppTerms, number: int, state: bytes) -> tuple[bytes, bytes]:
    digest = digest_state(terms, AppState(instance_id(terms), number, keccak(state)))
    return meter.keys[0].sign(digest), meter.keys[1].sign(digest)


def _outcome(meter: Meter, terms: AppTerms) -> RegisterProofCall:
    digest = digest_outcome(terms, AppOutcome(instance_id(terms), (STAKES[0], 0)))
    proof = OutcomeProof(terms, (STAKES[0], 0), (meter.keys[0].sign(digest), meter.keys[1].sign(digest)))
    return RegisterProofCall(APP, stake_condition(instance_id(terms), 0), proof.encode())


async def _call(meter: Meter, call: CourtCall) -> int:
    return await meter.node.send(meter.third, encode_court_call(call, meter.at, meter.court))
