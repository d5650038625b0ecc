"""A slice of the campaign of `simulation.rollup`: crashes and reorganisations convict no honest operator."""

from __future__ import annotations

import os

import pytest

from simulation.rollup import campaign, run_history


def test_no_honest_operator_is_convicted_whatever_crashes_and_is_taken_back() -> None:
    happened = run_history(2_000_109, 16)
    assert happened["batches made"] and happened["promises posted"] and happened["settled alone"]


@pytest.mark.soak
def test_in_many_histories_no_honest_operator_is_convicted_and_no_coin_is_lost() -> None:
    happened = campaign(int(os.environ.get("TALLY_SOAK_SEED", "1")), int(os.environ.get("TALLY_SOAK_RUNS", "200")))
    assert happened["reorganise"] and happened["batches made anew"] and happened["demand"]
    assert happened["settled alone"]
