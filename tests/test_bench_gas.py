"""`tally bench gas`: what each call costs on a real node, in the form that is promised, and within the limits."""

from __future__ import annotations

import msgspec
import pytest
import trio

from simulation import evm_gas
from simulation.local_evm import on_a_node
from simulation.processes import TALLY, run
from simulation.python_evm import URL, PythonEvm
from tallystick.contracts import artifact
from tallystick.sdk.bench import gas_meter, gas_nodes
from tallystick.sdk.bench.evm_node import EvmNode
from tallystick.sdk.bench.gas import LIMITS, CallGas, GasResult, TokenGas, gas_table, run_gas
from tallystick.sdk.bench.gas_court import CourtGas
from tallystick.sdk.bench.gas_meter import Meter, measure_coins
from tallystick.sdk.bench.gas_nodes import CLIENTS, start_gas_node
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.ethereum.evm.deploy import deploy, gas_to_deploy
from tallystick.settlement.ethereum.evm.endpoint import Endpoint
from tallystick.settlement.ethereum.evm.gas import GAS_MAX
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.go_programs import GETH

on_geth = pytest.mark.skipif(GETH.find() is None, reason=GETH.missing)

CHEAP = CallGas(95_000, 80_000, 34_000, 58_000, 76_000, 48_000, 54_000, {"1": 54_400, "10": 94_000}, 40_000)
TOKENS = TokenGas(*msgspec.structs.astuple(CHEAP), 44_000)
COURT = CourtGas(148_000, 129_000, 95_000, {"1": 53_000, "10": 110_000})


@on_a_node
@pytest.mark.processes
async def test_each_call_costs_on_a_real_node_what_it_costs_in_process_and_no_more_than_it_may() -> None:
    code, output, errors = await run([*TALLY, "bench", "gas", "--json"])
    assert code == 0, errors
    found = msgspec.json.decode(output)
    assert list(found) == ["client", "fork", "calls", "erc20", "court"]
    assert "anvil" in found["client"] and found["fork"] == "osaka"
    calls = msgspec.convert(found["calls"], CallGas)
    assert list(found["calls"]) == list(CallGas.__struct_fields__) and set(calls.redeem) == {"1", "10", "483"}
    in_process = evm_gas.measure()
    flat = {**found["calls"], **{f"redeem_{count}": used for count, used in calls.redeem.items()}}
    del flat["redeem"]
    assert flat == {name: pytest.approx(in_process[name], abs=100) for name in flat}, "bytes of data that are zero vary"
    court = {
        **found["court"],
        **{f"redeem_{count}_stakes": used for count, used in found["court"]["redeem_stakes"].items()},
    }
    assert set(court.pop("redeem_stakes")) == {"1", "10"}
    assert court == {name: pytest.approx(in_process[name], abs=500) for name in court}
    tokens = msgspec.convert(found["erc20"], TokenGas)
    assert calls.open + 15_000 < tokens.open < calls.open + 30_000, "two balances and an allowance change, no coins"
    assert tokens.challenge == pytest.approx(calls.challenge, abs=500), "nothing is paid"
    assert tokens.approve > 40_000 and set(tokens.redeem) == {"1", "10"}


@on_a_node
@pytest.mark.processes
@pytest.mark.parametrize("fork", ("cancun", "prague"))
async def test_the_fork_of_a_node_is_told_by_what_its_machine_can_do(fork: str) -> None:
    async with CLIENTS["anvil"].start(fork) as node:
        assert await node.fork() == fork


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of ten."""
    monkeypatch.setattr(gas_meter, "BATCH", 10)


@on_geth
@pytest.mark.processes
@pytest.mark.usefixtures("few")
async def test_geth_tells_what_calls_cost_on_amsterdams_prices() -> None:
    async with start_gas_node("geth", "amsterdam") as node:
        meter = Meter(node)
        await meter.deploy()
        found = await measure_coins(meter, (1,))
        assert await node.fork() == "amsterdam" and "Geth" in await node.client()
        async with make_client(node.url, 30.0) as client:
            deployed = await deploy(Endpoint(client), meter.third, artifact().code, 1_000, 60.0)
        assert deployed.gas > 2 * GAS_MAX, "more than a transaction may have elsewhere"
    assert found["open"] > 3 * CHEAP.open, "what is stored anew is dear there"
    assert found["challenge"] < 1.25 * CHEAP.challenge, "what is only changed is not"


@pytest.mark.parametrize(
    ("estimate", "limit"), ((1_000_000, 1_250_000), (14_000_000, GAS_MAX), (GAS_MAX, GAS_MAX), (2**25, 5 * 2**23))
)
def test_a_deployment_is_given_more_than_the_cap_only_where_a_node_says_that_it_takes_more(
    estimate: int, limit: int
) -> None:
    assert gas_to_deploy(estimate) == limit


@pytest.mark.usefixtures("few")
async def test_the_node_in_python_tells_what_an_evm_of_rust_tells() -> None:
    evm = PythonEvm()
    async with make_client(URL, 10.0, evm.transport) as client:
        meter = Meter(EvmNode(Endpoint(client), 31_337))
        await meter.deploy()
        found = await measure_coins(meter, (1, 10))
        assert await meter.node.fork() == "prague"
    in_process = evm_gas.measure()
    redeems = {f"redeem_{count}": used for count, used in found.pop("redeem").items()}
    flat = {**found, **redeems, "batch_of_10_each": found.pop("batch_close_each")}
    del flat["batch_close_each"]
    assert flat == {name: pytest.approx(in_process[name], abs=100) for name in flat}


async def test_what_cannot_be_started_is_told_before_anything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for client, fork, words in (
        ("besu", None, "no client 'besu': it is one of anvil, geth, pyevm"),
        ("anvil", "amsterdam", "anvil those of osaka, prague, cancun"),
        (None, "london", "geth those of osaka, amsterdam"),
    ):
        with pytest.raises(MeasurementVoid, match=words):
            await trio.to_thread.run_sync(run_gas, None, client, fork)
    absent = {name: each._replace(is_here=lambda: False) for name, each in CLIENTS.items()}
    monkeypatch.setattr(gas_nodes, "CLIENTS", absent)
    with pytest.raises(MeasurementVoid, match="npm install"):
        await trio.to_thread.run_sync(run_gas, None)


def test_a_call_that_costs_more_than_it_may_is_named_unless_gas_has_other_prices() -> None:
    dear = msgspec.structs.replace(CHEAP, settle=54_001, redeem={"1": 54_401})
    assert GasResult("a node", "osaka", CHEAP, TOKENS, COURT).dear == []
    assert GasResult("a node", "osaka", dear, TOKENS, COURT).dear == ["settle", "redeem, locks: 1"]
    assert GasResult("a node", "amsterdam", dear, TOKENS, COURT).dear == []
    assert gas_table(GasResult("a node", "osaka", dear, TOKENS, COURT)).row_count == 15
    slow = msgspec.structs.replace(COURT, move_in_court=140_001, redeem_stakes={"10": 110_001})
    late = GasResult("a node", "osaka", CHEAP, TOKENS, slow)
    assert late.dear == ["court: make a move", "redeem, stakes in apps: 10"]
    assert len(LIMITS) == 14


def test_a_node_that_is_not_there_is_told() -> None:
    with pytest.raises(ChainUnavailable):
        run_gas("http://127.0.0.1:9")
