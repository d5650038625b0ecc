"""A small payment network of whole nodes under random faults; `make soak` takes a hundred nodes of the real graph."""

from __future__ import annotations

import random

import pytest

from simulation.hub import run_hub
from simulation.simulated_network import CHEATS, NetworkPlan, core_of, run_network
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.testing.networks import random_network
from tallystick.sdk.testing.world import COINS, open_world
from tallystick.settlement.simulated.branch import MINTS_MAX

PLAN = NetworkPlan(nodes=10, payments=100, faults=0.05)


def test_every_payment_ends_paid_or_unpaid_and_nobody_loses_anything() -> None:
    report = run_network(PLAN, 1)
    assert report.paid > 50 and report.forwarded > 30 and report.crashes and report.cuts


def test_a_network_pays_in_coins_and_tokens_and_nobody_gains_one_for_the_other() -> None:
    report = run_network(NetworkPlan(nodes=9, payments=100, faults=0.05, tokens=1), 3)
    assert len(report.paid_in) == 2 and min(report.paid_in.values()) > 15
    assert report.forwarded > 15 and report.crashes and report.cuts


@pytest.mark.parametrize("cheat", CHEATS)
def test_whatever_a_forwarder_does_others_are_paid_or_keep_their_money(cheat: str) -> None:
    report = run_network(NetworkPlan(nodes=6, payments=30, faults=0, cheats=(cheat,)), 3)
    assert report.paid > 10 and report.forwarded


def test_a_core_is_connected_and_keeps_the_largest_channel_of_each_pair() -> None:
    planned_channels = core_of(random_network(random.Random(1), 60, 600), 30)
    reached, waiting = {0}, [0]
    while waiting:
        here = waiting.pop()
        for planned in planned_channels:
            for one, other in ((planned.one, planned.other), (planned.other, planned.one)):
                if one == here and other not in reached:
                    reached.add(other)
                    waiting.append(other)
    assert reached == set(range(30))
    assert len({frozenset((planned.one, planned.other)) for planned in planned_channels}) == len(planned_channels)


def test_all_spokes_of_a_hub_pay_at_once() -> None:
    report = run_hub(12, rounds=2)
    assert report.payments == 24


def test_a_world_has_coins_for_more_nodes_than_one_block_may_fund() -> None:
    async def main() -> int:
        async with open_world(1, names=[f"n{number}" for number in range(MINTS_MAX + 1)]) as world:
            return min([await world.chain.balance(seat.key.address, NATIVE) for seat in world.seats.values()])

    assert simulate(main, 1) == COINS
