"""A seeded run is the same one in every process, whatever order that gives the members of sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation import seeds
from simulation.campaign import run_campaign

PROGRAM = """
from simulation.campaign import run_campaign
from simulation.hub import run_hub
from simulation.journeys import live_through
from simulation.storm import run_storm
from simulation.simulated_network import NetworkPlan, run_network

async def pay(journey):
    await journey.insist(await journey.invoice())

print("campaign", run_campaign(8, 60).trace)
print("network", run_network(NetworkPlan(nodes=5, payments=15, faults=0.1, tokens=1), 5).trace)
print("storm", run_storm(10, small=True).trace)
print("hub", run_hub(3, 1, 5).trace)
print("journey", live_through(pay, 5).world.trace.digest())
"""


@pytest.mark.processes
def test_one_seed_gives_one_run_in_every_process() -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-Pc", PROGRAM],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": str(hashes)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hashes in (1, 2)
    ]
    one, other = (child.communicate(timeout=60)[0].splitlines() for child in children)
    assert [child.returncode for child in children] == [0, 0]
    assert len(one) == 5
    assert one == other


def test_another_seed_gives_another_run() -> None:
    assert run_campaign(8, 5).trace == run_campaign(8, 5).trace != run_campaign(9, 5).trace


def test_what_fails_says_what_failed_first_and_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    def run(seed: int) -> str:
        with seeds.replayed("campaign", f"--seed {seed} --runs 1", lambda: f"the log of {seed}"):
            if seed == 4:
                raise BaseExceptionGroup("", [ExceptionGroup("", [ValueError("first"), KeyError("second")])])
            return f"seed {seed}: done"

    chosen = seeds.options("tries").parse_args(["--seed", "3", "--runs", "3"])
    assert seeds.run_seeds(chosen, run) == 1
    assert capsys.readouterr().out.splitlines() == [
        "seed 3: done",
        "seed 4: FAILED ValueError('first')",
        "the log of 4",
        "replay: PYTHONPATH=tests python -m simulation.campaign --seed 4 --runs 1",
        "seed 5: done",
    ]
    with pytest.raises(seeds.Failed, match="the log of 4"):
        seeds.run_seeds(seeds.options("tries").parse_args(["--seed", "4", "--verbose"]), run)
