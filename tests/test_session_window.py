"""The window fits the path: long ones are kept full, short ones get no queue, and no limit is passed."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest

from simulation.pair import Pair
from tallystick.channels.limits import BATCH_PAYMENTS_MAX, WINDOW_FIRST, WINDOW_MAX, Policy
from tallystick.channels.session.inputs import SubmitPayments
from tallystick.channels.session.window import Window


class Flight(msgspec.Struct):
    """An update in a simulated flight."""

    seq: int
    sent: float
    back: float
    agreed: int


def rate(window: Window, trip: float, service: float, seconds: float = 20.0) -> float:
    """Keep a path of this round trip as full as the window allows; its far end takes `service` for each update.

    Return how many updates were agreed per second in the second half.
    """
    flight = deque[Flight]()
    now = free = 0.0
    sent = agreed = late = 0
    while now < seconds:
        while len(flight) < window.size:
            sent += 1
            free = max(free, now + trip / 2) + service
            flight.append(Flight(sent, now, free + trip / 2, agreed))
        done = flight.popleft()
        now, agreed = done.back, done.seq
        late += now > seconds / 2
        window.on_acknowledged(done.seq - done.agreed, now - done.sent)
    return late / (seconds / 2)


@pytest.mark.parametrize("trip", [0.0, 0.001, 0.02, 0.05])
def test_a_path_is_kept_full_whatever_its_length(trip: float) -> None:
    service = 0.001
    assert rate(Window(WINDOW_MAX), trip, service) == pytest.approx(1 / service, rel=0.05)


def test_a_path_that_holds_more_than_the_limit_is_kept_as_full_as_that_allows() -> None:
    window = Window(WINDOW_MAX)
    assert rate(window, 0.2, 0.001) == pytest.approx(WINDOW_MAX / 0.2, rel=0.05)
    assert window.size == WINDOW_MAX


def test_on_a_short_path_nothing_queues_beyond_the_first_window() -> None:
    window = Window(WINDOW_MAX)
    rate(window, 0.002, 0.001)
    assert window.size == WINDOW_FIRST


def test_twice_what_the_path_holds_is_the_most_that_flies() -> None:
    window = Window(WINDOW_MAX)
    rate(window, 0.02, 0.001)
    assert 21 <= window.size <= 2 * 21 + 1


@pytest.mark.parametrize("limit", [1, 3, WINDOW_FIRST, 20])
def test_a_policy_with_a_smaller_window_is_obeyed(limit: int) -> None:
    window = Window(limit)
    assert window.size == min(limit, WINDOW_FIRST)
    rate(window, 1.0, 0.001)
    assert window.size == limit


def test_no_policy_lets_more_fly_than_the_protocol() -> None:
    window = Window(1_000)
    rate(window, 1.0, 0.001)
    assert window.size == WINDOW_MAX


def test_another_connection_may_take_another_path() -> None:
    window = Window(WINDOW_MAX)
    rate(window, 0.0, 0.000_1)
    rate(window, 0.1, 0.001)
    assert window.size < WINDOW_MAX
    window.forget()
    assert window.size == WINDOW_FIRST
    rate(window, 0.1, 0.001)
    assert window.size == WINDOW_MAX


def test_a_clock_that_was_set_during_a_flight_says_nothing() -> None:
    window = Window(WINDOW_MAX)
    window.on_acknowledged(30, 0.1)
    size = window.size
    window.on_acknowledged(1, 0.0)
    window.on_acknowledged(1, -3_600.0)
    assert window.size == size == 60


def flights(pair: Pair, rounds: int, trip: float) -> list[int]:
    """Return how many updates of Alice's fly in each of some round trips."""
    seen = []
    for _ in range(rounds):
        pair.alice.step()
        seen.append(len(pair.alice.channel.flight))
        pair.now += trip
        while pair.deliver(pair.bob):
            pass
        pair.bob.step()
        while pair.deliver(pair.alice):
            pass
    return seen


def test_a_session_lets_more_updates_fly_with_each_long_round_trip_and_begins_anew_after_a_break() -> None:
    pair = Pair((10**7, 0), policy=Policy(outbox=10**7))
    pair.connect()
    pair.settle()
    pair.alice.apply(SubmitPayments(tuple([1] * (200 * BATCH_PAYMENTS_MAX))))
    assert flights(pair, 3, 0.1) == [8, 16, 32]
    pair.connect()
    assert pair.alice.session.window.size == WINDOW_FIRST
