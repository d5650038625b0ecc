"""`tally bench apps`: whole games are played, counted and seen gone; who waits for one does not wake for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from simulation.processes import TALLY, run
from tallystick.channels.apps.connectfour import ConnectFour
from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.node.app_saving import AppSaving
from tallystick.channels.node.app_store import PlayedApp
from tallystick.channels.protocol.apps import AppTerms
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.sdk.bench.apps import AppsResult, apps_table
from tallystick.sdk.bench.driver_apps import COLUMNS
from tallystick.sdk.node.news import News


@pytest.mark.processes
async def test_the_json_has_moves_awaited_and_pipelined_and_a_lone_move_beside_a_payment(tmp_path: Path) -> None:
    options = ("--games", "3", "--seconds", "0.1", "--tries", "1", "--directory", str(tmp_path), "--json")
    code, output, errors = await run([*TALLY, "bench", "apps", *options])
    assert code == 0, errors
    plain: dict[str, Any] = msgspec.json.decode(output)
    assert set(plain) >= {"control", "awaited", "pipelined", "lone", "processes", "durability", "seconds"}
    assert set(plain["lone"]) >= {"move_p50_ms", "payment_p50_ms", "ratio"}
    result = msgspec.json.decode(output, type=AppsResult)
    assert (result.processes, result.durability) == (2, "full")
    for moves in (result.awaited, result.pipelined):
        assert moves.games == 3 and moves.moves >= 3 * len(COLUMNS) and moves.moves % len(COLUMNS) == 0
        assert moves.moves_per_second > 0 and moves.commits_per_move > 0
    assert result.awaited.p50_ms and result.pipelined.p50_ms is None
    assert result.lone.ratio == result.lone.move_p50_ms / result.lone.payment_p50_ms
    assert apps_table(result).row_count == 7


def test_the_measured_game_fills_the_board_and_nobody_wins() -> None:
    rules, state = ConnectFour(), bytes(42)
    for count, column in enumerate(COLUMNS):
        state = rules.valid(state, bytes([int(column)]), count % 2, bytes(32))
    assert rules.turn(state) is None and rules.outcome(state, (1, 1)) == (0, 0)


async def test_news_of_one_thing_wake_those_who_wait_for_it_and_nobody_else() -> None:
    news, looks, happened = News(lambda alarm: None), {b"one": 0, b"two": 0}, set[bytes]()

    def look(name: bytes) -> bool:
        looks[name] += 1
        return name in happened

    def condition(name: bytes) -> Callable[[], bool]:
        return lambda: look(name)

    async with trio.open_nursery() as nursery:
        for name in looks:
            nursery.start_soon(news.until_of, name, condition(name))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):  # nothing has happened yet
            news.tell_changed_of(b"one")
            await trio.testing.wait_all_tasks_blocked()
        assert looks == {b"one": 4, b"two": 1}
        happened |= {b"one", b"two"}
        news.tell_changed_of(b"one")
        news.tell_changed_of(b"two")
    assert looks == {b"one": 5, b"two": 2}


class Rounds:
    """An engine of which a test says when a commit has happened."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], None]] = []

    def store(self, moments: object) -> None:
        pass

    def emit(self, event: object) -> None:
        pass

    def then(self, act: Callable[[], None]) -> None:
        self.acts.append(act)


def played(nonce: int) -> PlayedApp:
    terms = AppTerms(
        chain_id=1,
        contract=Address(bytes(20)),
        app=bytes(32),
        start=bytes(32),
        players=(Address(b"a" * 20), Address(b"b" * 20)),
        stakes=(1, 1),
        assets=(NATIVE, NATIVE),
        expiry=9,
        period=60,
        nonce=nonce,
    )
    return PlayedApp(AppInstance(terms=terms, player=0, start=b""), b"peer", ChannelId(b""))


def test_what_is_saved_in_a_round_is_durable_with_its_commit_and_what_comes_later_is_not() -> None:
    """Enforcement builds on what is durable, and nothing else; and it is told once of a commit."""
    engine, told = Rounds(), list[int]()
    first, second, late = map(played, range(3))
    saving = AppSaving(engine, [], lambda: told.append(len(saving.durable)))
    saving.save(first, over=False)
    saving.save(second, over=False)
    saving.end_round()
    saving.save(late, over=False)
    saving.save(
        msgspec.structs.replace(first, held=msgspec.structs.replace(first.held, phase=AppPhase.ENDED)), over=True
    )
    assert saving.durable == {} and len(engine.acts) == 2
    engine.acts[0]()
    assert set(saving.durable.values()) == {first, second} and told == [2]
    engine.acts[1]()
    assert set(saving.durable.values()) == {second, late} and told == [2, 2] and saving.leaving == {}
