"""Every crash point of a payment over three hops; storms; whole networks under faults, up to a hundred real nodes."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from simulation.journeys import check_crash, crash_points, make_payment
from simulation.simulated_network import CHEATS, NetworkPlan, core_of, run_network
from simulation.storm import run_storm
from tallystick.router.pathfinding.imports import read_graph

pytestmark = pytest.mark.soak

DATA = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data"
GRAPH, PINGS = DATA / "lightning-2026-02-03.csv.gz", DATA / "ping-times-ms.txt"


def test_every_crash_point_of_a_payment_over_three_hops() -> None:
    expected = make_payment(None)
    for crash in crash_points(expected.effects):
        check_crash(crash, expected)


@pytest.mark.parametrize("again", range(12))
def test_every_crash_point_with_a_crash_in_the_recovery(again: int) -> None:
    expected = make_payment(None)
    for crash in crash_points(expected.effects, every=2):
        check_crash(msgspec.structs.replace(crash, again=again), expected)


def test_networks(campaign_seed: int) -> None:
    cheats = random.Random(campaign_seed).sample(list(CHEATS), campaign_seed % 4)
    faults = 0.02 * (campaign_seed % 5)
    plan = NetworkPlan(nodes=8 + campaign_seed % 9, payments=300, faults=faults, cheats=tuple(cheats))
    report = run_network(plan, campaign_seed)
    assert report.paid > report.payments // (2 if len(cheats) < 3 else 4)


def test_storms(campaign_seed: int) -> None:
    assert run_storm(campaign_seed, steps=120 if campaign_seed % 4 == 0 else 0, small=campaign_seed % 4 == 3).events


@pytest.mark.skipif(not GRAPH.exists(), reason=f"{GRAPH} is not there")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_nodes_of_the_real_graph(seed: int) -> None:
    planned_channels = core_of(read_graph(GRAPH.read_bytes()).edges, 100)
    pings = [float(line) / 1e3 for line in PINGS.read_text().split()]
    report = run_network(NetworkPlan(nodes=100, payments=3_000), seed, planned_channels, pings)
    assert report.paid > 1_000 and report.crashes and report.cuts
