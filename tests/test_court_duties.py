"""What a player must do in court follows from what it holds and what is there, whatever the other did before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from simulation.court_bench import EXPIRY, INSTANCE, PERIOD, STAKES, TERMS, Bench, agreed, move, outcome, played
from tallystick.channels.apps.instance import OwnMove
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.app_court import AppStands, CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, Lock
from tallystick.channels.session.chaintime import ChainTime, StakeInCourt
from tallystick.channels.storage.tables import decode_column
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import Block, Header, RegisterProofCall, RegistryEvent
from tallystick.settlement.enforcement.apps import AppHeld, CourtPrices, app_duties, brings
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.ethereum.transactions import TARIFF
from tallystick.settlement.following.courts import InCourt, fold
from tallystick.settlement.following.index import ChainIndex
from tallystick.settlement.following.sqlite import INDEX_SCHEMA
from tallystick.settlement.sending.obligations import Duty

PRICES = CourtPrices(DutyPolicy(), TARIFF, 7)
NOW = 1_000


def holds(*cells: int, player: int = 0, **more: object) -> AppHeld:
    """What a player holds after these moves, that both signed."""
    call = agreed(*cells)
    statement = apps.SignedState(apps.AppState(INSTANCE, call.number, keccak(call.state)), call.signatures)
    return AppHeld(terms=TERMS, player=player, agreed=statement, state=call.state, **more)  # type: ignore[arg-type]


def own(*cells: int) -> OwnMove:
    """The last of these moves, signed by whose it is."""
    call = move(*cells)
    return OwnMove(len(cells), call.state, call.move, played(*cells), call.signature)


def in_court(*calls: RegisterStateCall | CourtMoveCall | RegisterProofCall, at: int = NOW) -> InCourt:
    bench = Bench()
    found = fold([bench.take(call, at) for call in calls])
    assert found is not None
    return found


def due(held: AppHeld, court: InCourt | None, now: int = NOW) -> list[object]:
    return [obligation.call for obligation in app_duties(held, court, now, PRICES)]


def test_nothing_is_due_while_nobody_disputes() -> None:
    assert due(holds(4), None) == [] and due(AppHeld(terms=TERMS, player=0), None) == []


def test_an_owner_who_wants_a_dispute_registers_the_newest_state_and_then_its_own_move() -> None:
    held = holds(4, 0, player=0, move=own(4, 0, 8), disputed=True)
    assert due(held, None) == [agreed(4, 0)]
    assert due(held, in_court(agreed(4, 0))) == [move(4, 0, 8)]
    assert due(held, in_court(agreed(4, 0), move(4, 0, 8))) == []
    assert due(held, None, EXPIRY + 1) == []


def test_an_older_state_and_what_was_moved_on_it_are_answered_by_the_newer_one() -> None:
    held = holds(4, 0)
    for older in ((agreed(4),), (agreed(),), (agreed(4), move(4, 8)), (agreed(4), move(4, 8), move(4, 8, 1))):
        assert due(held, in_court(*older)) == [agreed(4, 0)]


def test_what_led_through_our_newest_state_is_let_stand() -> None:
    """Else who answers would undo the moves that were made on what it registers."""
    held = holds(4, 0, player=1)
    for line in ((agreed(4, 0),), (agreed(4), move(4, 0)), (agreed(4), move(4, 0), move(4, 0, 8)), (agreed(4, 0, 8),)):
        assert due(held, in_court(*line)) == []
    moved = msgspec.structs.replace(held, move=own(4, 0, 8, 1))
    assert due(moved, in_court(agreed(4), move(4, 0), move(4, 0, 8))) == [move(4, 0, 8, 1)]


def test_a_move_is_made_only_on_what_it_was_signed_for() -> None:
    held = holds(4, player=1, move=own(4, 0))
    assert due(held, in_court(agreed(4), move(4, 8))) == []
    assert due(held, in_court(agreed(3))) == []
    assert due(held, in_court(agreed())) == [agreed(4)]


def test_an_outcome_that_both_signed_ends_a_dispute_and_nothing_is_due_once_it_is_decided() -> None:
    proof = apps.OutcomeProof.decode(outcome((20, 0)).proof)
    held = holds(4, disputed=True, outcome=proof)
    assert due(held, None) == []
    assert due(held, in_court(agreed(4))) == [outcome((20, 0))]
    assert due(held, in_court(agreed(4), outcome((20, 0)))) == []
    older = holds(4, 0, move=own(4, 0, 8))
    assert due(older, in_court(agreed(4)), NOW + PERIOD) == [agreed(4, 0)]
    assert due(older, in_court(agreed(4)), NOW + PERIOD + 1) == []


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (holds(4, player=0), True),  # the other stalls
        (holds(4, player=1), False),  # it is our turn, and we hold no move
        (holds(4, player=1, move=own(4, 0)), True),
        (holds(0, 3, 1, 4, 2, player=0), True),  # we have won
        (holds(0, 3, 1, 4, 2, player=1), False),
        (holds(0, 1, 2, 4, 3, 5, 7, 6, 8, player=0), False),  # a draw: all stakes go back in any case
    ],
)
def test_shortly_before_the_expiry_a_dispute_is_begun_if_it_brings_something(held: AppHeld, wanted: bool) -> None:
    assert brings(held) is wanted
    late = EXPIRY - DutyPolicy().secret_margin
    assert due(held, None, late) == [] and bool(due(held, None, late + 1)) is wanted
    assert bool(due(held, None, EXPIRY)) is wanted and due(held, None, EXPIRY + 1) == []


def test_what_is_due_has_a_name_a_deadline_and_a_budget_of_what_is_at_stake() -> None:
    rich = msgspec.structs.replace(
        holds(4), disputed=True, terms=msgspec.structs.replace(TERMS, stakes=(10**16, 10**16))
    )
    (first,) = app_duties(rich, None, NOW, PRICES)
    assert (first.duty, first.deadline, first.budget) == (Duty.REGISTER_STATE, EXPIRY, 10**16)
    (second,) = app_duties(holds(4, 0), in_court(agreed(4)), NOW, PRICES)
    assert second.deadline == NOW + PERIOD and second.id == f"register-state:{INSTANCE.hex()[:16]}:2"


# --- what is kept of it ------------------------------------------------------------------------------------------


def test_the_index_tells_what_is_in_court_of_each_stake_and_takes_blocks_back() -> None:
    disk = SimulatedDisk([INDEX_SCHEMA])
    store, bench = disk.open(), Bench()
    index = ChainIndex(Address(bytes(20)), store)
    told: list[RegistryEvent] = []
    for number, call in enumerate((agreed(4), move(4, 0), agreed(4, 0, 8), outcome((20, 30)))):
        told.append(bench.take(call, NOW + number))
        moments = index.add(Block(Header(number, bytes(32), bytes(32), NOW + number), (told[-1],)))
        at_once = [index.court(stake, number) for stake in STAKES]
        store.commit(moments)
        assert at_once == [index.court(stake, number) for stake in STAKES] == [fold(told)] * 2  # type: ignore[arg-type]
        again = ChainIndex(Address(bytes(20)), store, Header(number, bytes(32), bytes(32), NOW + number))
        assert again.court(STAKES[1], number) == fold(told)  # type: ignore[arg-type]
    puzzles = [(apps.APP, stake) for stake in STAKES]
    decided = {puzzles[0]: StakeInCourt(EXPIRY, NOW + 3, 20), puzzles[1]: StakeInCourt(EXPIRY, NOW + 3, 30)}
    assert index.stakes([*puzzles, (0, STAKES[0])], 3) == decided
    assert set(index.proofs(puzzles, 3)) == set(puzzles) and index.proofs(puzzles, 2) == {}
    store.commit(index.remove(3, NOW + 2))
    open_again = [StakeInCourt(EXPIRY, NOW + 3 + PERIOD, paid) for paid in (0, 70)]
    assert list(index.stakes(puzzles, 2).values()) == open_again
    store.commit(index.remove(2, NOW + 1))
    court = index.court(STAKES[0], 1)
    assert court is not None and [each.number for each in court.line] == [1, 2]
    assert index.court(STAKES[0], -1) is None


def test_a_stake_that_was_asked_for_in_vain_is_found_once_it_is_told_of_whenever_that_is_stored() -> None:
    """Each block asks for each stake of a node: while nobody told of one, nothing is read from disk for it."""
    store, bench = SimulatedDisk([INDEX_SCHEMA]).open(), Bench()
    index = ChainIndex(Address(bytes(20)), store)

    def block(number: int, *events: RegistryEvent) -> Block:
        return Block(Header(number, bytes(32), bytes(32), NOW + number), events)

    store.commit(index.add(block(0)))
    assert index.court(STAKES[0], 0) is None
    event = bench.take(agreed(4), NOW)
    later = index.add(block(1, event))
    assert index.court(STAKES[0], 1) == fold([event])  # type: ignore[list-item]  # the court's events alone are told here
    later += index.add(block(2))
    assert index.court(STAKES[0], 2) is None, "of one commit with the block before: not on disk yet"
    store.commit(later)
    assert index.court(STAKES[0], 2) == index.court(STAKES[1], 2) == fold([event])  # type: ignore[list-item]  # the court's events alone are told here
    assert index.court(STAKES[0], 0) is None
    store.commit(index.remove(2, NOW + 1))
    store.commit(index.remove(1, NOW))
    assert index.court(STAKES[0], 0) is None
    store.commit(index.add(block(1, event)))
    assert index.court(STAKES[0], 1) == fold([event])  # type: ignore[list-item]  # the court's events alone are told here


def test_a_stake_is_found_that_was_told_of_before_it_was_ever_asked_for_while_that_was_on_its_way_to_disk() -> None:
    store, bench = SimulatedDisk([INDEX_SCHEMA]).open(), Bench()
    index = ChainIndex(Address(bytes(20)), store)
    event = bench.take(agreed(4), NOW)
    moments = index.add(Block(Header(0, bytes(32), bytes(32), NOW), (event,)))
    moments += index.add(Block(Header(1, bytes(32), bytes(32), NOW + 1), ()))
    assert index.court(STAKES[0], 1) is None
    store.commit(moments)
    assert index.court(STAKES[0], 1) == fold([event])  # type: ignore[list-item]  # the court's events alone are told here


def test_of_a_stake_of_which_nobody_told_anything_the_disk_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SimulatedDisk([INDEX_SCHEMA]).open()
    index, reads = ChainIndex(Address(bytes(20)), store), list[object]()
    read = store.read
    monkeypatch.setattr(store, "read", lambda query: [reads.append(query), *read(query)][1:])
    for number in range(5):
        index.add(Block(Header(number, bytes(32), bytes(32), NOW), ()))
        assert index.court(STAKES[0], number) is None and len(reads) == 2


@pytest.mark.parametrize("moves", [0, 5, 15, 16, 70])
def test_however_many_states_two_players_brought_only_the_newest_line_is_read(
    moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who pays for many states makes each block of all who hold a stake longer."""
    store = SimulatedDisk([INDEX_SCHEMA]).open()
    index = ChainIndex(Address(bytes(20)), store)
    told, reads = list[RegistryEvent](), list[object]()
    for number in range(1, 301 + moves):
        second = b"b" * 64 if number <= 300 else b""
        told.append(AppStands(INSTANCE, number, b"s", b"", b"a" * 64, second, EXPIRY, NOW + PERIOD, 1, 2, NOW))
    for number in range(0, len(told), 50):
        header = Header(number, bytes(32), bytes(32), NOW)
        store.commit(index.add(Block(header, tuple(told[number : number + 50]))))
    again = ChainIndex(Address(bytes(20)), store, Header(len(told), bytes(32), bytes(32), NOW))

    def counting(codec: Any, column: bytes, name: str) -> Any:
        reads.append(column)
        return decode_column(codec, column, name)

    monkeypatch.setattr("tallystick.settlement.following.index.decode_column", counting)
    assert again.court(STAKES[0], len(told)) == fold(told)  # type: ignore[arg-type]
    assert len(reads) <= 16 + 5 * moves


STAKE = apps.stake_condition(INSTANCE, 0)


@pytest.mark.parametrize(
    ("stake", "back_from"),
    [
        (None, EXPIRY + 1),
        (StakeInCourt(EXPIRY + 1, EXPIRY + 600, 50), EXPIRY + 1),
        (StakeInCourt(EXPIRY, EXPIRY + 600, 0), EXPIRY + 600),
        (StakeInCourt(EXPIRY - 1, 1_600, 0), 1_600),
        (StakeInCourt(EXPIRY, EXPIRY + 600, 50), None),
    ],
)
def test_a_stake_is_left_alone_while_it_is_in_court_and_where_that_gave_it_away(
    stake: StakeInCourt | None, back_from: int | None
) -> None:
    lock = Lock(0, 50, EXPIRY, apps.APP, STAKE)

    def at(time: int) -> ChainTime:
        return ChainTime(time, time, {}, {lock.puzzle: stake} if stake else {})

    went = [time for time in range(1_500, EXPIRY + 1_000) if at(time).went_back(lock)]
    assert (went[0] if went else None) == (None if back_from is None else max(1_500, back_from))
    assert back_from is None or not at(back_from + 29).went_back(lock, 30)
