"""`tally bench rollup`: what it measures on a node and on the ledger, and when it says that a batch is too dear."""

from __future__ import annotations

from msgspec.structs import replace

from simulation.local_evm import on_a_node
from simulation.python_evm import URL, PythonEvm
from tallystick.sdk.bench.evm_node import EvmNode
from tallystick.sdk.bench.gas_nodes import CLIENTS
from tallystick.sdk.bench.rollup import LedgerCosts, RollupGas, RollupResult, measure_gas, rollup_table
from tallystick.sdk.bench.rollup_ledger import measure_ledger
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.http import make_client

GAS = RollupGas(57_834, 2_213_187, 2_213, 64.2, 108_914, 218_652, 106_740, 185_487, 155_308)
LEDGER = LedgerCosts(505, 42.6, 1_700, 8, 400)


async def test_a_node_in_python_takes_each_call_of_a_rollup() -> None:
    evm = PythonEvm()
    async with make_client(URL, 10.0, evm.transport) as client:
        found = await measure_gas(EvmNode(Endpoint(client), 31_337), 12)
    assert found.close_alone < 58_000 and 2 * found.close_each < found.close_alone, "even as one of twelve"
    assert 64 < found.bytes_each < 100
    assert max(found.convict, found.answer, found.withdraw) < 300_000


@on_a_node
async def test_a_real_node_charges_for_a_close_of_a_hundred_a_tenth() -> None:
    async with CLIENTS["anvil"].start("osaka") as node:
        found = await measure_gas(node, 100)
    assert 10 * found.close_each < found.close_alone


def test_a_close_in_a_batch_takes_few_bytes_on_the_ledger_and_times_are_told() -> None:
    found = measure_ledger(100)
    assert 9 * found["bytes_each"] < found["bytes_alone"], "a tenth from about 200 closes on"
    assert min(found["us_each"], found["us_alone"], found["operator_us_each"]) > 0


def test_what_costs_more_than_a_tenth_is_named() -> None:
    result = RollupResult("a node", "osaka", 1_000, GAS, LEDGER)
    assert result.dear == [] and rollup_table(result).row_count == 10
    dear = replace(result, gas=replace(GAS, close_each=5_784), ledger=replace(LEDGER, bytes_each=50.6, us_each=171))
    assert dear.dear == ["gas", "bytes", "time"]
    assert replace(result, gas=replace(GAS, close_each=5_783)).dear == []
