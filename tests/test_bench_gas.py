"""`tally bench gas`: what each call costs on a real node, in the form that is promised, and within the limits."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation import evm_gas
from simulation.local_evm import on_a_node
from simulation.processes import TALLY, run
from tallystick.sdk.bench.gas import LIMITS, CallGas, GasResult, gas_table, measure, run_gas
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.testing import anvil

CHEAP = CallGas(95_000, 80_000, 34_000, 58_000, 76_000, 48_000, 54_000, {"1": 54_400, "10": 94_000}, 40_000)


@on_a_node
@pytest.mark.processes
async def test_each_call_costs_on_a_real_node_what_it_costs_in_process_and_no_more_than_it_may() -> None:
    code, output, errors = await run([*TALLY, "bench", "gas", "--json"])
    assert code == 0, errors
    found = msgspec.json.decode(output)
    assert list(found) == ["client", "fork", "calls"]
    assert "anvil" in found["client"] and found["fork"] == "osaka"
    calls = msgspec.convert(found["calls"], CallGas)
    assert list(found["calls"]) == list(CallGas.__struct_fields__) and set(calls.redeem) == {"1", "10", "483"}
    in_process = evm_gas.measure()
    flat = {**found["calls"], **{f"redeem_{count}": used for count, used in calls.redeem.items()}}
    del flat["redeem"]
    assert flat == {name: pytest.approx(in_process[name], abs=100) for name in flat}, "bytes of data that are zero vary"


@on_a_node
@pytest.mark.processes
@pytest.mark.parametrize("fork", ("cancun", "prague"))
def test_the_fork_of_a_node_is_told_by_what_its_machine_can_do(fork: str) -> None:

    with anvil.start_anvil("--hardfork", fork) as node:
        found = trio.run(measure, node.url)
    assert found.fork == fork and not found.dear


def test_a_call_that_costs_more_than_it_may_is_named_unless_gas_has_other_prices() -> None:
    dear = msgspec.structs.replace(CHEAP, settle=54_001, redeem={"1": 54_401})
    assert GasResult("a node", "osaka", CHEAP).dear == []
    assert GasResult("a node", "osaka", dear).dear == ["settle", "redeem, locks: 1"]
    assert GasResult("a node", "amsterdam", dear).dear == []
    assert gas_table(GasResult("a node", "osaka", dear)).row_count == 9
    assert len(LIMITS) == 10


def test_without_a_node_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(anvil.VARIABLE, "/nowhere/anvil")
    with pytest.raises(MeasurementVoid, match="npm install"):
        run_gas(None)
    with pytest.raises(ChainUnavailable):
        run_gas("http://127.0.0.1:9")
