"""Nodes that `tally bench gas` starts: which clients there are, and by the rules of which forks each of them runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

from tallystick.sdk.bench.evm_node import EvmNode, open_evm_node
from tallystick.sdk.bench.gas_meter import accounts
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.go_programs import GETH
from tallystick.settlement.testing.anvil import VERSION, find_anvil, start_anvil
from tallystick.settlement.testing.geth import start_geth
from tallystick.settlement.testing.geth_miner import GethMiner
from tallystick.settlement.testing.pyevm.node import has_pyevm, start_pyevm

BLOCK_SECONDS = 0.05
"""Between geth's blocks."""


class GasClient(NamedTuple):
    """A client that can be started."""

    forks: tuple[str, ...]
    """That it knows, the default one first."""
    is_here: Callable[[], bool]
    start: Callable[[str], AbstractAsyncContextManager[EvmNode]]


@asynccontextmanager
async def start_gas_node(client: str | None, fork: str | None) -> AsyncIterator[EvmNode]:
    """Give a node: of this client, or the first of CLIENTS that is here and knows the fork. Raise MeasurementVoid."""
    known = {name: each for name, each in CLIENTS.items() if client in (None, name)}
    if not known:
        raise MeasurementVoid(f"there is no client {client!r}: it is one of {', '.join(CLIENTS)}")
    able = {name: each for name, each in known.items() if fork is None or fork in each.forks}
    if not able:
        told = "; ".join(f"{name} those of {', '.join(each.forks)}" for name, each in known.items())
        raise MeasurementVoid(f"the rules of {fork!r} are not known: {told}")
    here = next((each for each in able.values() if each.is_here()), None)
    if here is None:
        raise MeasurementVoid(
            f"there is no node ({', '.join(able)}): name one with --rpc, or npm install --no-save "
            f"@foundry-rs/anvil@{VERSION}, or put geth {GETH.version} on the PATH, or pip install 'tallystick[pyevm]'"
        )
    async with here.start(fork or here.forks[0]) as node:
        yield node


@asynccontextmanager
async def _anvil(fork: str) -> AsyncIterator[EvmNode]:
    with start_anvil("--hardfork", fork) as node:
        async with open_evm_node(node.url) as opened:
            yield opened


@asynccontextmanager
async def _geth(fork: str) -> AsyncIterator[EvmNode]:
    funds = {f"0x{key.address.hex()}": 10**24 for key in accounts()}
    async with (
        start_geth(funds=funds, fork=fork) as geth,
        GethMiner(geth).mining(BLOCK_SECONDS) as miner,
        open_evm_node(geth.url, miner.skip) as opened,
    ):
        yield opened


@asynccontextmanager
async def _pyevm(fork: str) -> AsyncIterator[EvmNode]:
    with start_pyevm() as url:
        async with open_evm_node(url) as opened:
            yield opened


CLIENTS = {
    "anvil": GasClient(("osaka", "prague", "cancun"), lambda: find_anvil() is not None, _anvil),
    "geth": GasClient(("osaka", "amsterdam"), lambda: GETH.find() is not None, _geth),
    "pyevm": GasClient(("prague",), has_pyevm, _pyevm),
}
"""By name, in the order in which they are tried."""
