"""Random campaigns over whole nodes: late messages, cut links, crashes, lost blocks; and then all must be well."""

from __future__ import annotations

import pytest

from simulation.campaign import run_campaign

SEEDS = (1, 2, 3, 5, 7, 8, 9, 11, 12, 13, 14, 15)
"""Few enough for every run; `make soak` takes thousands."""

STREAM_SEEDS = (1, 2, 3, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_wrong_under_random_faults_and_all_comes_to_rest(seed: int) -> None:
    report = run_campaign(seed)  # a failure prints the options and the line that replays it
    assert report.events


@pytest.mark.parametrize("seed", STREAM_SEEDS)
def test_nothing_is_wrong_with_streams_under_random_faults_either(seed: int) -> None:
    report = run_campaign(seed, streams=True)
    assert report.events


def test_the_campaigns_stream() -> None:
    reports = [run_campaign(seed, steps=40, streams=True) for seed in (1, 3, 8)]
    assert {"stream", "units", "end"} <= {kind for report in reports for kind in report.counts}


def test_the_campaigns_do_something() -> None:
    reports = [run_campaign(seed, steps=30) for seed in range(1, 7)]  # one alone may be of few payments
    counts = {kind for report in reports for kind in report.counts}
    assert {"pay", "lock", "deposit", "withdraw", "open", "cut", "crash"} <= counts
    assert sum(report.payments for report in reports) > 50
