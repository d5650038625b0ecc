"""Who listens to events gets all of them, in order, gives way now and then, and hears of it if it is too slow."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from tallystick.sdk.node.news import BUFFER, STRETCH, News, TooSlow


def made() -> News:
    return News(lambda alarm: None)


def test_events_come_in_order_and_others_have_their_turn_in_between() -> None:
    """A listener that never waits does not keep everybody else from working."""
    seen: list[int] = []
    turns: list[int] = []

    async def main() -> None:
        news = made()
        with news.subscribe() as events:
            for number in range(10 * STRETCH):
                news.publish(number)

            async def another() -> None:
                while len(seen) < 10 * STRETCH:
                    turns.append(len(seen))
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(another)
                async for event in events:
                    seen.append(event)
                    if len(seen) == 10 * STRETCH:
                        break

    trio.run(main)
    assert seen == list(range(10 * STRETCH))
    longest = max(after - before for before, after in itertools.pairwise(turns))
    assert longest <= 2 * STRETCH, "the order within a turn is random"


def test_a_listener_can_be_cancelled_while_events_wait() -> None:
    """At the latest after STRETCH of them."""

    async def main() -> int:
        news, got = made(), 0
        with news.subscribe() as events, trio.CancelScope() as scope:
            for number in range(5 * STRETCH):
                news.publish(number)
            scope.cancel()
            async for _ in events:
                got += 1
        assert scope.cancelled_caught
        return got

    assert trio.run(main) < STRETCH


def test_a_listener_that_fell_behind_is_told_after_what_it_has() -> None:
    """Nothing is lost without a word."""

    async def main() -> None:
        news = made()
        events = news.subscribe()
        for number in range(BUFFER + 1):
            news.publish(number)
        for number in range(BUFFER):
            assert await anext(events) == number
        with pytest.raises(TooSlow):
            await anext(events)
        others = news.subscribe()
        news.publish("last")
        news.close()
        assert [event async for event in others] == ["last"], "an end is no loss"

    trio.run(main)


def test_all_who_wait_look_again_when_something_has_changed() -> None:
    """However many wait, and also those who begin to wait later."""

    async def main() -> None:
        news, facts = made(), set[str]()
        news.tell_changed()  # nobody waits
        async with trio.open_nursery() as nursery:
            for fact in ("a", "a", "b"):
                nursery.start_soon(news.until, lambda fact=fact: fact in facts)
            await trio.testing.wait_all_tasks_blocked()
            facts.add("a")
            news.tell_changed()
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            facts.add("b")
            news.publish("b is here")

    trio.run(main)
