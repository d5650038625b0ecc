"""Many histories of shards: `simulation.shards`."""

from __future__ import annotations

import pytest

from simulation.shards import campaign


@pytest.mark.soak
def test_no_history_of_shards_loses_or_makes_a_coin(campaign_seed: int) -> None:
    assert campaign(campaign_seed, 100)["paid"] > 0
