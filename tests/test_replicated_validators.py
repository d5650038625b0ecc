"""Four validators on CometBFT itself: three of four go on, two stand still, and nobody is fooled by a liar's block."""

from __future__ import annotations

import random

import pytest
import trio

from simulation import joining, namespaces, stakes
from simulation.validators import Payer, campaign, check_payments, open_validators, strike
from tallystick.settlement.go_programs import COMETBFT

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(COMETBFT.find() is None, reason=COMETBFT.missing),
]


async def test_three_of_four_go_on_without_one_that_is_killed_and_with_one_that_lies() -> None:

    async with open_validators(liar=2) as validators, trio.open_nursery() as nursery:
        payer = Payer(validators, random.Random(1))
        nursery.start_soon(payer.run)
        await validators.goes_on(range(4), blocks=4)  # each in its turn, the liar too
        await strike(validators, "kill", 0)
        payer.is_done = True
        await payer.ended.wait()
        await validators.goes_on(range(4))
        await validators.check_agreement()
        await check_payments(validators, payer.sent)
        assert payer.sent > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 4))
async def test_real_networks_that_part_three_to_one_and_two_to_two(seed: int) -> None:
    why = namespaces.missing()
    if why is not None:
        pytest.skip(why)
    await namespaces.campaign(seed, partitions=3)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 6))
async def test_campaigns(seed: int) -> None:
    await campaign(seed, faults=5)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 4))
async def test_who_signs_twice_is_slashed_and_the_chain_goes_on(seed: int) -> None:
    await stakes.scenario(seed)


@pytest.mark.soak
async def test_a_newcomer_joins_by_a_snapshot_and_becomes_a_validator() -> None:
    await joining.scenario(1)
