"""Live nodes and a tower on a real chain that is unwell: nobody honest loses a unit, and all recovers."""

from __future__ import annotations

import pytest

from simulation.local_evm import on_a_node
from simulation.unwell import Plan, run_unwell
from tallystick.settlement.testing.unwell import Illness

pytestmark = [pytest.mark.processes, on_a_node]

ILL = (Illness.OLD, Illness.BUSY, Illness.RANGES, Illness.NO_LOGS, Illness.NO_RECEIPT, Illness.NONCE_LOW)
"""In most steps."""

WORSE = (Illness.CUT, Illness.ERRORS, Illness.NONCE_HIGH, Illness.SWALLOWS, Illness.TURNS_DOWN, Illness.NO_STATE)
"""While a secret has to be registered, and when all ends."""


def test_one_of_two_nodes_is_ill_fees_rise_the_pool_forgets_and_the_chain_begins_again() -> None:
    plan = Plan(
        urls=2,
        illnesses=(ILL, ILL, WORSE, ILL, WORSE),
        rate=0.3,
        forgets=0.4,
        rise=60,
        rise_at="lock",
        restarts=(("open", 30.0, 20.0), ("lock", 150.0, 20.0), ("cheat", 40.0, 50.0)),
        crashes=(("cheat", "tower", 100.0, 60.0),),
    )
    report = run_unwell(3, plan)
    assert report.ill > 200
    assert not report.alarms["tower"], "it had a node that was well"
