"""A person is told that the chain is not followed: in time, again but less and less often, and when it is over."""

from __future__ import annotations

import itertools

import pytest

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.settlement.errors import ChainError, ChainUnavailable, WrongChain
from tallystick.settlement.following.vigil import AGAIN, FIRST, SHARE, TICK, Sight, begin_vigil, look


def watch(
    until: float,
    *,
    at_stake: float | None = None,
    silent: bool = True,
    nonsense: bool = False,
    back: float | None = None,
) -> list[tuple[float, Alarm]]:
    """Look until that time at a chain that is lost at time 0, and back at `back`; return what was told, and when."""
    vigil, told, now = begin_vigil(0.0), [], 0.0
    while now < until:
        now += TICK
        well = back is not None and now >= back
        old = 0.0 if well else now
        fault = None if well else ChainError("no sense") if nonsense else ChainUnavailable("no answer")
        sight = Sight(now, old, old if silent else 0.0, fault, at_stake=at_stake)
        vigil, alarms = look(vigil, sight, "it does nothing")
        told += [(now, alarm) for alarm in alarms]
    return told


@pytest.mark.parametrize(
    ("silent", "nonsense", "kind"),
    [
        (True, False, AlarmKind.CHAIN_UNREACHABLE),
        (True, True, AlarmKind.CHAIN_NONSENSE),
        (False, False, AlarmKind.CHAIN_STANDS_STILL),
    ],
)
def test_it_is_told_what_is_wrong(silent: bool, nonsense: bool, kind: AlarmKind) -> None:
    told = watch(600, silent=silent, nonsense=nonsense)
    assert [alarm.kind for _, alarm in told] == [kind]
    assert FIRST <= told[0][0] <= FIRST + TICK


@pytest.mark.parametrize("period", [600.0, 3_600.0, 86_400.0])
def test_it_is_told_well_before_the_shortest_time_at_stake_is_over(period: float) -> None:
    times = [time for time, _ in watch(4 * period, at_stake=period)]
    assert times[0] <= min(FIRST, period / SHARE) + 2 * TICK
    assert sum(time <= period for time in times) >= 3
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == sorted(pauses) and pauses[-1] <= AGAIN + TICK


def test_a_short_outage_is_not_told() -> None:
    assert watch(1_000, back=90.0) == []


def test_the_end_of_what_was_told_is_told_once() -> None:
    told = watch(1_000, back=500.0)
    assert [alarm.kind for _, alarm in told] == [AlarmKind.CHAIN_UNREACHABLE, AlarmKind.CHAIN_BACK]


@pytest.mark.alarm(AlarmKind.NODE_SLEPT)
def test_a_process_that_stood_still_says_so_and_blames_no_chain_for_it() -> None:
    vigil, told = look(begin_vigil(0.0), Sight(TICK, 0.0, 0.0, None), "")
    assert not told
    slept = Sight(2 * TICK + 3_600, 3_600.0, 3_600.0, None)
    vigil, told = look(vigil, slept, "")
    assert [alarm.kind for alarm in told] == [AlarmKind.NODE_SLEPT] and "60 min" in told[0].text
    _, told = look(vigil, Sight(3 * TICK + 3_600, 0.0, 0.0, None), "")
    assert not told


def test_that_it_is_another_chain_is_told_at_once() -> None:
    vigil, told = look(begin_vigil(0.0), Sight(TICK, TICK + 1, 0.0, WrongChain("begun anew"), lost=True), "")
    assert [alarm.kind for alarm in told] == [AlarmKind.CHAIN_RESET]
    _, told = look(vigil, Sight(2 * TICK, 2 * TICK, 0.0, WrongChain("begun anew"), lost=True), "")
    assert not told
