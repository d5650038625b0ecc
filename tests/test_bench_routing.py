"""`tally bench route` and `tally bench payments`: they measure what they say, on a graph from a file."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from simulation.processes import TALLY, run
from tallystick.channels.errors import InvalidInput
from tallystick.router.objects import Edge, ForwardingPolicy
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.imports import to_csv
from tallystick.router.testing.networks import channel_id, node_key, random_network
from tallystick.sdk.bench.payments import run_payments
from tallystick.sdk.bench.report import payments_table, route_table
from tallystick.sdk.bench.route import run_route


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A file with a random network of channels of some hundred thousand satoshi."""
    file = tmp_path / "network.csv"
    file.write_text(to_csv(random_network(random.Random(2), 60, 400, capacity=10**9)))
    return file


def test_payments_that_are_possible_are_made_and_the_others_are_not(network: Path) -> None:
    result = run_payments(network, [1_000, 300_000, 10**8], ["bimodal"], 15, 2, use_numba=False, say=lambda text: None)
    small, middle, huge = result.rows
    assert small.payments == middle.payments == 30
    assert small.feasible_pct == small.success_pct == small.of_feasible_pct == 100
    assert small.attempts >= small.parts >= 1 and middle.parts > 1
    assert middle.of_feasible_pct >= 90
    assert (huge.feasible_pct, huge.success_pct) == (0, 0)
    assert payments_table(result).row_count == 9


def test_without_splitting_less_is_paid_and_without_flows_it_costs_more_parts_or_fees(network: Path) -> None:
    flow, halving, single = (
        run_payments(network, [300_000], ["bimodal"], 30, 1, use_numba=True, say=lambda text: None, method=method).rows[
            0
        ]
        for method in ("flow", "halving", "single")
    )
    assert flow.feasible_pct == halving.feasible_pct == single.feasible_pct
    assert single.success_pct < halving.success_pct <= flow.success_pct
    assert single.parts == 1 and halving.parts > 1
    assert flow.attempts < halving.attempts or flow.fee_ppm_mean < halving.fee_ppm_mean


def test_the_same_seeds_give_the_same_payments(network: Path) -> None:
    one, other = (
        run_payments(network, [300_000], ["uniform"], 10, 1, use_numba=numba, say=lambda text: None).rows[0]
        for numba in (False, True)
    )
    assert one.success_pct == other.success_pct and one.feasible_pct == other.feasible_pct
    assert (one.attempts, one.fee_ppm_mean) == (other.attempts, other.fee_ppm_mean)


def test_both_forms_are_measured_on_one_path_and_on_many_parts(network: Path) -> None:
    result = run_route(network, single=1_000, multi=300_000, pairs=20, seed=1, say=lambda text: None)
    assert (result.nodes, result.channels) == (len(Graph(random_network(random.Random(2), 60, 400)).nodes), 400)
    for kind, calls in ((result.single, 20), (result.multi, 2)):
        assert kind.numba is not None and kind.numba.calls == 20 and kind.python.calls == calls
        assert 0 < kind.python.median_ms <= kind.python.p99_ms and kind.numba.median_ms > 0
    assert result.single.python.found_pct == 100
    assert route_table(result).row_count == 4


def test_a_network_without_two_connected_nodes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "line.csv"
    file.write_text(to_csv([Edge(channel_id(1), node_key(1), node_key(2), 1000, ForwardingPolicy())]))
    with pytest.raises(InvalidInput, match="two nodes"):
        run_route(file, single=1, multi=1, pairs=1, seed=1, say=lambda text: None)


@pytest.mark.soak
@pytest.mark.processes
async def test_the_commands_print_json(network: Path) -> None:
    code, output, errors = await run(
        [*TALLY, "bench", "payments", "--graph", str(network), "--amount", "1000", "--pairs", "3", "--json"]
    )
    assert code == 0, errors
    assert msgspec.json.decode(output)[0]["success_pct"] == 100
    code, output, errors = await run([*TALLY, "bench", "route", "--graph", str(network), "--pairs", "5", "--json"])
    assert code == 0, errors
    assert set(msgspec.json.decode(output)) >= {"control", "nodes", "channels", "single", "multi"}
    code, _, errors = await run([*TALLY, "bench", "payments", "--graph", str(network), "--liquidity", "odd"])
    assert code == 2 and "uniform" in errors
