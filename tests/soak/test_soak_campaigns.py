"""Many worlds, long ones, and every crash point there is."""

from __future__ import annotations

import msgspec
import pytest

from simulation.campaign import run_campaign
from simulation.crashpoints import SCENARIOS, Scenario, check_point, points, run_point

pytestmark = pytest.mark.soak


def test_campaign(campaign_seed: int) -> None:
    assert run_campaign(campaign_seed, steps=80 if campaign_seed % 4 else 400, streams=campaign_seed % 2 == 0).events


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_crash_point(scenario: Scenario) -> None:
    expected, effects = run_point(scenario, None)
    for crash in points(effects):
        check_point(scenario, crash, expected)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_third_crash_point_with_a_crash_in_the_recovery(scenario: Scenario) -> None:
    expected, effects = run_point(scenario, None)
    for number, crash in enumerate(points(effects, every=3)):
        check_point(scenario, msgspec.structs.replace(crash, again=number % 8), expected)
