"""A small payment network of whole nodes under random faults; `make soak` takes a hundred nodes of the real graph."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tallystick.router.objects import ForwardingPolicy
from tallystick.sdk.testing.town import DEGREE, Plan, core_of, made_up, run_town
from tallystick.router.testing.networks import *  # noqa

PLAN = Plan(nodes=10, payments=120, faults=0.05)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_payment_ends_paid_or_unpaid_and_nobody_loses_anything(seed: int) -> None:
    report = run_town(PLAN, seed)
    assert report.paid > 60 and report.forwarded > 30 and report.crashes and report.cuts


def test_one_seed_gives_one_town_in_every_process_and_another_seed_another() -> None:
    first, again, other = (_trace_of_process(seed) for seed in (5, 5, 6))
    assert first == again != other


def _trace_of_process(seed: int) -> str:
    code = f"from tallystick.sdk.testing.town import Plan, run_town; print(run_town(Plan(nodes=6, payments=40), {seed}).trace)"
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
