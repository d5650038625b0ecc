"""A crash at each effect of either side, before and after it: done exactly once in the end, as without a crash.

Here the points are thinned out; `make soak` takes every one.
"""

from __future__ import annotations

import functools

import msgspec
import pytest

from simulation.crashpoints import SCENARIOS, Crash, Outcome, Scenario, check_point, points, run_point


@functools.cache
def dry_run(scenario: Scenario) -> tuple[Outcome, dict[str, int]]:
    """Return how a scenario ends without a crash, and how many effects each side has: once for all tests of it."""
    return run_point(scenario, None)


THIN = {
    "open": 8,
    "unilateral close": 121,
    "cooperative close": 6,
    "withdrawal": 8,
    "lock, reveal, unlock": 2,
    "stream": 3,
}
"""Of how many effects one is tried, where there are too many for every run."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_crash_at_any_effect_changes_nothing_in_the_end(scenario: Scenario) -> None:
    expected, effects = dry_run(scenario)
    assert all(effects.values())
    for crash in points(effects, every=THIN.get(scenario.name, 1), first=2):
        check_point(scenario, crash, expected)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_second_crash_in_the_midst_of_recovery_changes_nothing_either(scenario: Scenario) -> None:
    expected, effects = dry_run(scenario)
    for number, crash in enumerate(points(effects, every=max(2, max(effects.values()) // 2))):
        check_point(scenario, msgspec.structs.replace(crash, again=number % 5), expected)


def test_the_effects_of_a_payment_are_those_of_the_protocol() -> None:
    payment = next(scenario for scenario in SCENARIOS if scenario.name == "payment")
    _, effects = dry_run(payment)
    assert effects == {"alice": 4, "bob": 3}, "payer: store, send, receive, store; payee: receive, store, send"


def test_a_crash_that_is_aimed_at_happens() -> None:
    payment = next(scenario for scenario in SCENARIOS if scenario.name == "payment")
    expected, effects = dry_run(payment)
    outcome, after = run_point(payment, Crash("alice", 1, after=False))
    assert outcome == expected
    assert after["alice"] < effects["alice"]
