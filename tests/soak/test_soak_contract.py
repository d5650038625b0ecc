"""The two executions of the rule book, for longer: 2,000 calls under each seed."""

from __future__ import annotations

import pytest

from simulation.evm_histories import campaign


@pytest.mark.soak
def test_random_histories_come_out_the_same_under_many_seeds(campaign_seed: int) -> None:
    assert campaign(campaign_seed, 2_000).calls >= 2_000
