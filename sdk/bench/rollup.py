"""`tally bench rollup`: what a close costs as one of a thousand in a rollup's batch, beside one by itself.

On a real node of an EVM by the receipts of transactions, and on the simulated ledger in bytes and in seconds.
"""

from __future__ import annotations

import msgspec
import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.evm_node import GAS_MAX, EvmNode, open_evm_node
from tallystick.sdk.bench.gas_meter import Meter
from tallystick.sdk.bench.gas_nodes import start_gas_node
from tallystick.sdk.bench.rollup_ledger import measure_ledger
from tallystick.sdk.bench.rollup_load import BOND, FEE, TIMES, Load
from tallystick.sdk.rollup.calls import creation_code
from tallystick.settlement.ethereum.abi import Envelope, Signature
from tallystick.settlement.ethereum.rpc_shapes import read_quantity
from tallystick.settlement.rollup.batches import Batch
from tallystick.settlement.rollup.rules import Place

CLOSES = 1_000
SHARE = 10
"""A close in a batch may cost one part in so many of what it costs by itself."""

_SIGNATURE = "(bytes32,uint256)"
_POST = Signature("post", ("uint256", "uint256", "bytes32", "bytes32", "bytes"))
_CONVICT = Signature("convict", ("uint256", "uint256[]"))
_DEMAND = Signature("demand", ("uint256", "uint256"))
_ANSWER = Signature("answer", ("uint256", "uint256[]", _SIGNATURE, _SIGNATURE))
_DEPOSIT = Signature("deposit", ("address",))
_WITHDRAW = Signature("withdraw", ("uint256", "uint256[]"))
_BOND = Signature("bond", ())


class RollupGas(msgspec.Struct, frozen=True):
    """Gas of a rollup's calls, each in a transaction of its own."""

    close_alone: int
    """One cooperative close of the adjudicator's."""
    post: int
    """A batch of closes, with its data."""
    close_each: int
    """One of them."""
    bytes_each: float
    """Of calldata."""
    deposit: int
    convict: int
    """One wrong step of a batch of closes."""
    demand: int
    answer: int
    withdraw: int


class LedgerCosts(msgspec.Struct, frozen=True):
    """What closes cost on the simulated ledger: by themselves, and as one of a batch."""

    bytes_alone: float
    bytes_each: float
    us_alone: float
    """Microseconds to check and carry out."""
    us_each: float
    operator_us_each: float
    """Microseconds that it costs the operator to make a batch."""


class RollupResult(msgspec.Struct, frozen=True):
    """What `tally bench rollup` found."""

    client: str
    fork: str
    closes: int
    gas: RollupGas
    ledger: LedgerCosts

    @property
    def dear(self) -> list[str]:
        """What costs more than its share."""
        pairs = {
            "gas": (self.gas.close_each, self.gas.close_alone),
            "bytes": (self.ledger.bytes_each, self.ledger.bytes_alone),
            "time": (self.ledger.us_each, self.ledger.us_alone),
        }
        return [name for name, (each, alone) in pairs.items() if each * SHARE > alone]


def run_rollup(url: str | None, client: str | None = None, fork: str | None = None) -> RollupResult:
    """Measure on the node at `url`, or else on one that is started. Raise MeasurementVoid if it is not there."""
    ledger = msgspec.convert(measure_ledger(CLOSES), LedgerCosts)
    return trio.run(_run, url, client, fork, ledger)


async def _run(url: str | None, client: str | None, fork: str | None, ledger: LedgerCosts) -> RollupResult:
    async with open_evm_node(url) if url is not None else start_gas_node(client, fork) as node:
        gas = await measure_gas(node, CLOSES)
        return RollupResult(await node.client(), await node.fork(), CLOSES, gas, ledger)


class RollupMeter:
    """The rollup's contract on a node, and its operator."""

    def __init__(self, node: EvmNode, meter: Meter) -> None:
        self.node = node
        self.operator = meter.third

    async def deploy(self) -> None:
        """Put the contract onto the chain, with a bond."""
        numbers = (int.from_bytes(self.operator.address, "big"), BOND, *TIMES, FEE)
        code = creation_code(*numbers)
        self.at = await self.node.create(self.operator, code)
        await self.call(_BOND.encode_call(), BOND)

    async def call(self, data: bytes, value: int = 0) -> int:
        """Make a call; return its gas."""
        return await self.node.send(self.operator, Envelope(self.at, value, data), GAS_MAX)

    async def post(self, batch: Batch) -> int:
        """Post a batch; return its gas."""
        return await self.call(_POST.encode_call(*msgspec.structs.astuple(batch)))

    async def time(self) -> int:
        """Return the newest block's time."""
        return read_quantity((await self.node.ask("eth_getBlockByNumber", "latest", False)).get("timestamp"))


async def measure_gas(node: EvmNode, closes: int) -> RollupGas:
    """Measure on a node, which must give coins for nothing."""
    meter = Meter(node)
    await meter.deploy()
    terms = await meter.opened(2)
    alone = [await meter.call(meter.keys[0], each, meter.close(each)) for each in terms]
    rollup = RollupMeter(node, meter)
    await rollup.deploy()
    load = Load(Place(node.chain_id, rollup.at), closes)
    deposits = [await rollup.call(_DEPOSIT.encode_call(owner), amount) for owner, amount in load.deposits]
    for steps in load.preparing():
        await rollup.post(load.batch(steps, await rollup.time()))
    number = load.posted
    wrong = load.wrong_batch(await rollup.time())
    await rollup.post(wrong)
    convict = await rollup.call(_CONVICT.encode_call(number, list(load.proof(wrong, closes // 2).words)))
    await rollup.call(_BOND.encode_call(), BOND)
    batch = load.batch(load.closes(), await rollup.time())
    post = await rollup.post(batch)
    demand = await rollup.call(_DEMAND.encode_call(number, 7), FEE)
    proof = load.proof(batch, 7)
    answer = await rollup.call(_ANSWER.encode_call(number, list(proof.words), *load.signatures(proof, batch)))
    await rollup.post(load.batch(load.exits(), await rollup.time()))
    await node.pass_time(rollup.operator, TIMES[0] + 1)
    withdraw = await rollup.call(_WITHDRAW.encode_call(number + 1, load.withdrawal(0)))
    data = len(_POST.encode_call(*msgspec.structs.astuple(batch)))
    return RollupGas(
        alone[1], post, round(post / closes), data / closes, deposits[-1], convict, demand, answer, withdraw
    )


def rollup_table(result: RollupResult) -> Table:
    """Return the table of a `tally bench rollup`."""
    title = f"a cooperative close, alone and as one of {result.closes:,}: {result.client}, {result.fork}"
    rows = Table(title=title, box=SIMPLE_HEAD, padding=0)
    rows.add_column("what", min_width=len("ledger, microseconds"))
    for heading in ("alone", "in a batch", "a part in"):
        rows.add_column(heading, justify="right", min_width=len("1,000,000"))
    gas, ledger = result.gas, result.ledger
    for name, alone, each in (
        ("EVM, gas", gas.close_alone, gas.close_each),
        ("ledger, bytes", ledger.bytes_alone, ledger.bytes_each),
        ("ledger, microseconds", ledger.us_alone, ledger.us_each),
    ):
        rows.add_row(name, f"{alone:,.0f}", f"{each:,.1f}", f"{alone / each:,.1f}")
    for name in ("post", "deposit", "convict", "demand", "answer", "withdraw"):
        rows.add_row(f"EVM, gas of {name}", f"{getattr(gas, name):,}", "", "")
    rows.add_row("operator, microseconds", "", f"{ledger.operator_us_each:,.0f}", "")
    return rows
