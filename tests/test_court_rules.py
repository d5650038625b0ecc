"""The court on the simulated ledger takes what docs/apps.md says, sets the clock by it, and decides for ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from simulation.court_bench import (
    AT,
    EXPIRY,
    GAME,
    INSTANCE,
    PERIOD,
    TERMS,
    Bench,
    agreed,
    move,
    outcome,
    played,
    signed,
)
from tallystick.channels.apps.interface import AppTable
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import COURT_MOST, AppStands, RegisterStateCall
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.chain import Block, Header, ProofRegistered
from tallystick.settlement.contract import court
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.ethereum.abi import Deployment, decode_call, encode_call
from tallystick.settlement.ethereum.event_logs import decode_event, encode_event
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.following.checked import check_block
from tallystick.settlement.simulated import registry
from tallystick.settlement.simulated.branch import ADJUDICATOR


def test_a_registered_state_stands_for_a_period_and_then_decides_what_follows_from_silence() -> None:
    bench = Bench()
    event = bench.take(agreed(4))
    assert event == AppStands(INSTANCE, 1, played(4), b"", *agreed(4).signatures, EXPIRY, 1_000 + PERIOD, 0, 70, 1_000)
    for time in (1_000, 1_000 + PERIOD):
        assert bench.due(time, 0) is None and bench.due(time, 1) is None
    for time in (1_001 + PERIOD, EXPIRY, EXPIRY + 1, 10**9):
        assert (bench.due(time, 0), bench.due(time, 1)) == (0, 70)
    for late in (agreed(4, 0), move(4, 0), outcome((0, 0))):
        assert bench.refused(late, 1_001 + PERIOD) is Revert.WINDOW_OVER


def test_a_newer_state_replaces_an_older_one_and_the_moves_that_were_made_on_that() -> None:
    bench = Bench()
    bench.take(agreed(4))
    bench.take(move(4, 0))
    assert bench.refused(agreed(4)) is Revert.NOT_NEWER
    assert bench.refused(agreed()) is Revert.NOT_NEWER
    bench.take(agreed(4, 1), 1_500)
    record = registry.record_of(bench.state, INSTANCE)
    assert record == court.CourtRecord(EXPIRY, 1_500 + PERIOD, (50, 0), 2, 2, keccak(played(4, 1)))
    bench.take(move(4, 1, 0))
    assert bench.due(1_501 + PERIOD, 1) == 70


def test_a_move_is_run_by_the_rules_and_sets_the_clock_anew() -> None:
    bench = Bench()
    assert bench.refused(move(4)) is Revert.UNKNOWN_ENTRY
    bench.take(agreed())
    event = bench.take(move(4), 1_000 + PERIOD)
    assert (event.number, event.state, event.move) == (1, played(4), b"\4")
    assert (event.signature0, event.signature1) == (move(4).signature, b"") and not event.is_agreed
    assert event.until == 1_000 + 2 * PERIOD and (event.paid0, event.paid1) == (0, 70)
    assert bench.refused(move(4)) is Revert.NOT_NEWER
    assert bench.refused(move(4, 4)) is Revert.NOT_ALLOWED
    assert bench.refused(move(4, 0, by=0)) is Revert.BAD_SIGNATURE
    elsewhere = msgspec.structs.replace(move(4, 0), state=played(3))
    assert bench.refused(elsewhere) is Revert.NOT_NEWER
    bench.take(move(4, 0))
    assert bench.due(1_001 + 2 * PERIOD, 0) == 50


def test_a_final_state_stands_for_a_period_too_and_pays_its_outcome() -> None:
    bench = Bench()
    bench.take(agreed(0, 3, 1, 4))
    bench.take(move(0, 3, 1, 4, 2))
    assert bench.refused(move(0, 3, 1, 4, 2, 5)) is Revert.NOT_ALLOWED
    assert bench.due(1_000 + PERIOD, 1) is None and bench.due(1_001 + PERIOD, 1) == 70
    other = Bench()
    other.take(agreed(0, 3, 1, 4, 2))
    other.take(outcome((0, 0)), 1_000 + PERIOD)
    assert (other.due(1_000 + PERIOD, 0), other.due(1_000 + PERIOD, 1)) == (0, 0)


def test_an_outcome_that_both_signed_decides_both_stakes_at_once() -> None:
    for registered in (None, agreed(4)):
        for player in (0, 1):
            bench = Bench()
            if registered is not None:
                bench.take(registered)
            bench.take(outcome((20, 30), player), 1_100)
            assert (bench.due(1_100, 0), bench.due(1_100, 1)) == (20, 30)
            assert bench.refused(agreed(4, 0)) is Revert.WINDOW_OVER
            assert bench.refused(outcome((0, 0))) is Revert.WINDOW_OVER


def test_the_court_takes_an_instance_up_until_the_expiry_and_counts_on_beyond_it() -> None:
    bench = Bench()
    assert bench.refused(agreed(4), EXPIRY + 1) is Revert.EXPIRED
    assert bench.refused(outcome((1, 0)), EXPIRY + 1) is Revert.EXPIRED
    bench.take(agreed(4), EXPIRY)
    assert bench.due(EXPIRY + PERIOD, 1) is None
    assert bench.due(EXPIRY + 1, 1, expiry=EXPIRY - 1) == 0  # a lock that went back before stays back
    bench.take(move(4, 0), EXPIRY + PERIOD)
    assert bench.due(EXPIRY + PERIOD + 1, 0) is None and bench.due(EXPIRY + 2 * PERIOD + 1, 0) == 50


def test_the_court_decides_in_the_end_whatever_two_players_go_on_to_sign() -> None:
    """Else who stands between them, with locks in two channels, would never get its coins."""
    terms = msgspec.structs.replace(TERMS, period=apps.PERIOD_MOST)
    bench, state, last = Bench(), played(4), EXPIRY + COURT_MOST
    event, number = bench.take(agreed(terms=terms), EXPIRY), 0
    while event.until < last:
        number += 1
        both = (signed(0, number, state, terms), signed(1, number, state, terms))
        event = bench.take(RegisterStateCall(terms, number, state, both), event.until)
    assert event.until == last == EXPIRY + 30 * 86_400 and number == 4
    assert bench.refused(agreed(0, 3, 1, 4, 2, 5, terms=terms), last + 1) is Revert.WINDOW_OVER
    record = registry.record_of(bench.state, apps.instance_id(terms))
    assert record is not None and (record.until, record.paid) == (last, (0, 70))


def test_a_lock_that_expires_before_the_terms_is_not_held_by_them() -> None:
    """Who passes it on does not see the terms: they may have any expiry."""
    bench = Bench()
    bench.take(agreed(4))
    for decided in (False, True):
        assert bench.due(EXPIRY - 1, 1, expiry=EXPIRY - 1) is None and bench.due(EXPIRY, 1, expiry=EXPIRY - 1) == 0
        assert (bench.due(EXPIRY, 1), bench.due(EXPIRY, 1, expiry=EXPIRY + 1)) == ((30, 30) if decided else (70, 70))
        if not decided:
            bench.take(outcome((20, 30)))


@pytest.mark.parametrize("player", [0, 1])
def test_a_state_needs_both_signatures_over_that_very_state(player: int) -> None:
    bench, good = Bench(), agreed(4)
    forged = list(good.signatures)
    forged[player] = signed(player, 1, played(3))
    assert bench.refused(msgspec.structs.replace(good, signatures=tuple(forged))) is Revert.BAD_SIGNATURE
    assert bench.refused(msgspec.structs.replace(good, number=2)) is Revert.BAD_SIGNATURE
    other = msgspec.structs.replace(TERMS, nonce=4)
    assert bench.refused(msgspec.structs.replace(good, terms=other)) is Revert.BAD_SIGNATURE


def test_rules_that_are_unknown_are_refused_and_states_are_bounded() -> None:
    bench = Bench()
    unknown = msgspec.structs.replace(TERMS, app=keccak(b"chess"))
    assert bench.refused(agreed(4, terms=unknown)) is Revert.UNKNOWN_ENTRY
    state = bytes(apps.STATE_MAX + 1)
    large = RegisterStateCall(TERMS, 1, state, (signed(0, 1, state), signed(1, 1, state)))
    assert bench.refused(large) is Revert.BAD_PROOF
    bench.take(agreed(4))
    long = msgspec.structs.replace(move(4, 0), move=bytes(apps.MOVE_MAX + 1))
    assert bench.refused(long) is Revert.BAD_PROOF


class Odd(type(GAME)):  # type: ignore[misc]
    """Rules that say what no rules may say."""

    name = "odd"
    said: Any = None
    late = 0

    def forfeit(self, state: bytes, stakes: tuple[int, int]) -> Any:
        return self.said

    def due(self, state: bytes) -> int:
        return self.late


@pytest.mark.parametrize("said", [None, (51, 0), (0, 71), (-1, 0), (1,)])
def test_what_rules_make_of_a_state_is_refused_and_not_clamped(said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Odd()
    odd.said = said
    terms = msgspec.structs.replace(TERMS, app=odd.id)
    monkeypatch.setattr(registry, "APPS", AppTable(odd))
    assert Bench().refused(agreed(4, terms=terms)) is Revert.BAD_PROOF


def test_a_state_that_both_signed_and_no_rules_know_is_refused() -> None:
    state = b"x"
    senseless = RegisterStateCall(TERMS, 1, state, (signed(0, 1, state), signed(1, 1, state)))
    assert Bench().refused(senseless) is Revert.BAD_PROOF


@pytest.mark.parametrize(("due", "until"), [(0, 1_600), (1_000, 1_600), (2_000, 2_000), (9_000, EXPIRY)])
def test_nobody_is_late_before_the_rules_say_so_and_at_most_until_the_expiry(
    due: int, until: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Odd()
    odd.said, odd.late = (0, 0), due
    terms = msgspec.structs.replace(TERMS, app=odd.id)
    monkeypatch.setattr(registry, "APPS", AppTable(odd))
    assert Bench().take(agreed(4, terms=terms)).until == until


# --- how it travels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [agreed(4), move(4, 0)])
def test_calls_travel_as_ethereums_do_and_cost_what_the_app_costs(call: Any) -> None:
    assert decode_call(encode_call(call, AT), AT) == call
    with pytest.raises(InvalidInput, match="terms name"):
        encode_call(call, Deployment(1338, ADJUDICATOR))
    unknown = msgspec.structs.replace(call, terms=msgspec.structs.replace(TERMS, app=bytes(32)))
    assert gas_of(call) == gas_of(unknown) + GAME.gas
    assert gas_of(msgspec.structs.replace(call, state=bytes(1_000))) > gas_of(call)


@pytest.mark.parametrize("call", [agreed(4), move(4, 0)])
def test_terms_that_cannot_be_are_refused_by_the_ledger(call: Any) -> None:
    envelope = encode_call(call, AT)
    period = PERIOD.to_bytes(32, "big")
    assert envelope.data.count(period) == 1
    with pytest.raises(Reverted) as caught:
        decode_call(msgspec.structs.replace(envelope, data=envelope.data.replace(period, bytes(32))), AT)
    assert caught.value.code is Revert.BAD_TERMS


def test_an_outcome_that_a_chain_node_tells_is_one_that_both_signed() -> None:
    header, good = Header(3, b"h" * 32, b"p" * 32, 77), outcome((20, 0))
    told = ProofRegistered(good.condition, apps.APP, good.proof, 77)
    check_block(Block(header, (told,)))
    unsigned = good.proof[:-1] + bytes([good.proof[-1] ^ 1])
    for change in ({"proof": unsigned}, {"proof": b"x"}, {"condition": keccak(b"another stake")}):
        with pytest.raises(ChainError):
            check_block(Block(header, (msgspec.structs.replace(told, **change),)))


EVENT = AppStands(INSTANCE, 2, played(4, 0), b"\0", b"s" * 64, b"", 950, 900, 50, 0, 77)


def test_its_event_travels_as_ethereums_do_and_is_checked() -> None:
    assert decode_event(encode_event(EVENT), AT) == EVENT
    header = Header(3, b"h" * 32, b"p" * 32, 77)
    check_block(Block(header, (EVENT,)))
    for change in ({"instance": b"x"}, {"time": 78}, {"state": bytes(1_025)}, {"move": bytes(513)}, {"paid0": -1}):
        with pytest.raises(ChainError):
            check_block(Block(header, (msgspec.structs.replace(EVENT, **change),)))


@pytest.mark.parametrize("fault", [MemoryError, RecursionError])
def test_what_this_machine_cannot_do_is_no_verdict_of_the_rules(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    bench = Bench()
    bench.take(agreed(4))

    def fails(*_: object) -> None:
        raise fault

    for method, call in (("valid", move(4, 0)), ("forfeit", agreed(4, 1))):
        with monkeypatch.context() as patched:
            patched.setattr(type(GAME), method, fails)
            with pytest.raises(fault):
                bench.take(call)
    assert bench.take(agreed(4, 1)).number == 2
