"""A view of the chain is fresh because that is proven: by our clock, and by the chain's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.settlement.chain import Header
from tallystick.settlement.following.freshness import (
    BOUND,
    DEPTH,
    Freshness,
    age,
    behind,
    lag,
    with_block,
    with_head_confirmed,
    without_block,
)

WALL = 1_800_000_000.0
"""The wall clock when ours shows 0."""


def block(number: int, time: float, fork: int = 0) -> Header:
    """Return the header of a block of that wall time."""
    return Header(number, bytes([fork]) + number.to_bytes(31, "big"), bytes(32), int(time))


def in_step(until: float, *, every: float = 12.0, ahead: float = 0.0, wall: float = WALL) -> tuple[Freshness, Header]:
    """Follow a chain from our time 0 on; `ahead` is how far its clock is ahead of the wall clock."""
    state, number, now = Freshness(wall), 0, 0.0
    while now <= until:
        number += 1
        position = block(number, WALL + ahead + now)
        state = with_block(state, position, now, wall)
        now += every
    return state, position


def test_nothing_is_fresh_before_anything_was_heard() -> None:
    assert behind(Freshness(WALL), None, 0.0) == math.inf
    assert behind(Freshness(WALL), block(1, WALL), 0.0) == math.inf


def test_a_view_ages_with_our_clock_whatever_the_chain_node_answers() -> None:
    state, position = in_step(120)
    assert behind(state, position, 120) <= 1
    for now in (130.0, 140.0, 160.0):  # the head is answered again and again
        state = with_head_confirmed(state, position, now, WALL)
    assert age(state, 160) == 40 and behind(state, position, 160) >= 40


def test_a_block_that_was_followed_before_is_no_news() -> None:
    state, position = in_step(120, ahead=10_000)  # its clock says nothing: it runs ahead
    other = block(position.number, position.time + 1, fork=1)
    state = with_block(without_block(state, position), other, 121, WALL)
    assert age(state, 121) == 0, "another block is news"
    for now in (140, 160):  # two back ends that stand still, each on its own branch
        state = with_block(without_block(state, other), position, now, WALL)
        state = with_block(without_block(state, position), other, now, WALL)
    assert age(state, 160) == 39


def test_an_answer_counts_from_its_question() -> None:
    state, position = in_step(120)
    after_sleep = with_block(state, block(position.number + 1, WALL + 132), 132, WALL)
    assert behind(after_sleep, block(position.number + 1, WALL + 132), 132 + 600) >= 600


def test_a_chain_node_that_lags_is_behind_though_each_of_its_blocks_is_new() -> None:
    state, position = in_step(120)
    for now in range(600, 900, 12):  # it comes back 400 s behind, and goes on at one pace
        position = block(position.number + 1, WALL + now - 400)
        state = with_block(state, position, float(now), WALL)
    assert age(state, 888) == 0 and lag(state, position, 888) == pytest.approx(400, abs=1)


def test_setting_the_wall_clock_back_hides_no_lag() -> None:
    state, position = in_step(120)
    back = WALL - 400
    for now in range(600, 900, 12):
        position = block(position.number + 1, WALL + now - 400)
        state = with_block(state, position, float(now), back)
    assert behind(state, position, 888) > 300


def test_setting_the_wall_clock_ahead_ages_nothing() -> None:
    state, position = in_step(120)
    year = WALL + 31_536_000
    for now in range(132, 600, 12):
        position = block(position.number + 1, WALL + now)
        state = with_block(state, position, float(now), year)
    assert behind(state, position, 588) <= 1


def test_who_begins_with_a_wrong_clock_is_in_step_once_it_is_right() -> None:
    state, position = in_step(240, wall=WALL + 3_600)
    assert behind(state, position, 240) >= 3_500
    state = with_block(state, block(position.number + 1, WALL + 252), 252, WALL)
    assert behind(state, block(position.number + 1, WALL + 252), 252) <= 1


@pytest.mark.parametrize("ahead", [0.0, 100.0, 10_000_000.0])
def test_chains_that_run_ahead_of_the_wall_clock_are_fresh(ahead: float) -> None:
    state, position = in_step(240, ahead=ahead)
    assert behind(state, position, 240) <= 1
    now, jump = 252.0, position.time + 5_000  # somebody mines 5,000 s away, and then it slows down
    for _ in range(20):
        position = block(position.number + 1, jump)
        state, jump = with_block(state, position, now, WALL), jump + 1
        assert behind(state, position, now) <= 1
        now += 12


def test_a_block_of_the_future_measures_nothing_once_it_is_taken_back() -> None:
    state, position = in_step(120)
    lie = block(position.number + 1, WALL + 2 * 86_400)
    state = without_block(with_block(state, lie, 132, WALL), lie)
    for now in range(132, 400, 12):
        position = block(position.number + 1, WALL + now, fork=1)
        state = with_block(state, position, float(now), WALL)
    assert behind(state, position, 396) <= 1


@settings(max_examples=20)
@given(drift=st.floats(-1e-4, 1e-4), days=st.integers(1, 60))
def test_a_bad_quartz_makes_no_view_old(drift: float, days: int) -> None:
    state, position = Freshness(WALL), block(0, WALL)
    for number in range(4 * days):  # a look at a block now and then is enough to see it
        real = 6 * 3_600.0 * number
        ours = real * (1 + drift)
        position = block(number, WALL + real)
        state = with_block(state, position, ours, WALL + real - ours)
        if number > DEPTH:
            assert behind(state, position, ours) <= BOUND
