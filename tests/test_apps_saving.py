"""What is saved of apps is durable with its commit, and then wakes who waits for that app, and nobody else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio
import trio.testing
from test_apps_listed import played

from tallystick.channels.apps.instance import AppPhase
from tallystick.channels.node.app_saving import AppSaving
from tallystick.sdk.node.news import News


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
