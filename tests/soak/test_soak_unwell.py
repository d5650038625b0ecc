"""A real chain that is unwell, for longer: each illness at every step, fees that rise a hundred blocks, many seeds."""

from __future__ import annotations

import pytest

from simulation.local_evm import on_a_node
from simulation.unwell import Plan, run_unwell
from tallystick.settlement.testing.unwell import Illness

pytestmark = [pytest.mark.soak, on_a_node]


def test_nobody_loses_a_unit_whatever_is_wrong_with_the_chain(campaign_seed: int) -> None:
    run_unwell(campaign_seed)


@pytest.mark.parametrize("illness", Illness)
def test_the_only_node_has_one_illness_at_every_step(illness: Illness) -> None:
    report = run_unwell(1, Plan(illnesses=((illness,),) * 5, rate=0.4))
    assert report.ill


@pytest.mark.parametrize("step", ("open", "pay", "lock", "cheat", "close"))
def test_fees_rise_for_a_hundred_blocks_and_fall_again(step: str) -> None:
    report = run_unwell(1, Plan(rise=100, rise_at=step, forgets=0.3))
    assert report.blocks > 100


@pytest.mark.parametrize("share", (0.3, 0.6, 0.9))
def test_the_pool_forgets(share: float) -> None:
    run_unwell(1, Plan(forgets=share))
