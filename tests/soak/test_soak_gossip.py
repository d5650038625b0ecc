"""Many divided lands: `make soak`."""

from __future__ import annotations

import pytest

from simulation.gossip_network import divide_and_heal
from tallystick.channels.testing.scheduling import simulate

pytestmark = pytest.mark.soak


def test_every_divided_land_agrees_once_it_is_whole_again(campaign_seed: int) -> None:
    assert simulate(divide_and_heal, campaign_seed, campaign_seed, 10 + campaign_seed % 41)
