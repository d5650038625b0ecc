"""On what chain the demo plays: a simulated one (`make demo`; on `validators`), or a real node (`make demo-evm`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from reader import Reader
from real_node import RealNode
from stage import Stage

from tallystick import NATIVE, PrivateKey, keccak, open_evm_chain, open_rpc_chain
from tallystick.channels.protocol.objects import Address
from tallystick.channels.transport.retries import Jitter
from tallystick.contracts import creation_code
from tallystick.sdk.bench.evm_node import open_evm_node
from tallystick.sdk.bench.launcher import DriverProcesses, chain_run
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.port import Chain
from tallystick.settlement.simulated.ledger import MINER
from tallystick.settlement.testing.token import TOKEN, TRANSFER

INTERVAL = 0.1
"""Real seconds between blocks of the simulated chain, whose time runs ten times as fast."""

FUNDS = 10**12
"""Coins of each account at the beginning, on the simulated chain."""

TOKENS = 10**9
"""Tokens of each account at the beginning, on a real node."""

BUDGET = 10**17
"""The most that a transaction may cost in fees on a real node: it is anybody's money."""


class Ground:
    """A chain, and who says what is on it."""

    unit = 1
    """What the figures of the story are multiplied by: on a real chain, fees would be more than they are."""
    longest = 300.0
    """Seconds after which something must be wrong, on a machine that does much else."""
    has_court = False
    """Whether games are played and coins are swapped here, too."""

    def __init__(self, chain: Chain, told: str) -> None:
        self.chain = chain
        self.told = told
        """Which chain it is, for the audience."""

    def place(self, name: str) -> dict[str, Any]:
        """Return the fields of a party's `DriverOptions` that say which chain it is."""
        raise NotImplementedError

    def tower(self) -> list[str]:
        """Return the options of `tally tower run` that do, and what a challenge may cost."""
        raise NotImplementedError

    async def balances(self, accounts: Mapping[str, Address]) -> dict[str, int]:
        """Return what accounts and the contract hold, and what was paid in fees."""
        raise NotImplementedError

    async def trouble(self, stage: Stage, processes: DriverProcesses) -> None:
        """Let happen to the chain itself what may, in the midst of the story: nothing, unless it says so."""

    async def finish(self, stage: Stage) -> None:
        """Check the chain itself, at the end."""


class SimulatedGround(Ground):
    """`tally chain run`. Who mines gets all fees."""

    has_court = True

    def __init__(self, chain: Chain, url: str) -> None:
        super().__init__(chain, f"a chain runs at {url}")
        self._url = url

    def place(self, name: str) -> dict[str, Any]:
        """See `Ground`."""
        return {"chain": self._url}

    def tower(self) -> list[str]:
        """See `Ground`."""
        return ["--chain", self._url, f"--budget={FUNDS // 100}", f"--fee-reserve={FUNDS // 10}"]

    async def balances(self, accounts: Mapping[str, Address]) -> dict[str, int]:
        """See `Ground`."""
        held = {**accounts, "fees": MINER, "contract": self.chain.contract}
        return {name: await self.chain.balance(address, NATIVE) for name, address in held.items()}


class RealGround(Ground):
    """A node of Ethereum's, with our contract and a token on it. What is on it, `Reader` says, not our client."""

    unit = 10**9

    def __init__(self, chain: Chain, node: RealNode, start: int, token: Address, reader: Reader) -> None:
        super().__init__(chain, f"{node.name} runs at {node.url}, with the contract at 0x{chain.contract.hex()}")
        self.longest = node.longest
        self.token = token
        self.reader = reader
        self._url = node.url
        self._start = start

    def place(self, name: str) -> dict[str, Any]:
        """See `Ground`."""
        contract = f"0x{self.chain.contract.hex()}"
        real = {"contract": contract, "chain_id": self.chain.chain_id, "start_block": self._start, "budget": BUDGET}
        return {"chain": self._url, **real}

    def tower(self) -> list[str]:
        """See `Ground`."""
        contract = f"--contract=0x{self.chain.contract.hex()}"
        return ["--rpc", self._url, contract, f"--chain-id={self.chain.chain_id}", f"--start={self._start}"]

    async def balances(self, accounts: Mapping[str, Address]) -> dict[str, int]:
        """See `Ground`. Fees are what the transactions of these accounts cost since the story began."""
        return await self.reader.balances({**accounts, "contract": self.chain.contract})


@asynccontextmanager
async def open_simulated(
    folder: Path, processes: DriverProcesses, keys: Mapping[str, PrivateKey], jitter: Jitter
) -> AsyncIterator[SimulatedGround]:
    """Give a simulated chain on which each account has coins."""
    coins = {key.address: FUNDS for key in keys.values()}
    process = await processes.start("chain", chain_run(str(folder / "chain"), coins, interval=INTERVAL))
    url = process.first["url"]
    async with open_rpc_chain(url, jitter=jitter) as chain:
        yield SimulatedGround(chain, url)


@asynccontextmanager
async def open_real(node: RealNode, keys: Mapping[str, PrivateKey], jitter: Jitter) -> AsyncIterator[RealGround]:
    """Deploy the contract and a token on a node, give each account of both, and give the chain that it is then."""
    deployer = PrivateKey(keccak(b"tallystick demo, who deploys"))
    code = creation_code()
    async with open_evm_node(node.url) as dev:
        await dev.fund(deployer.address, *(key.address for key in keys.values()))
        start = int(await dev.ask("eth_blockNumber"), 16)
        contract, token = await dev.create(deployer, code), await dev.create(deployer, TOKEN)
        gifts = [Envelope(token, 0, TRANSFER.encode_call(key.address, TOKENS)) for key in keys.values()]
        await dev.send_all(deployer, gifts)
        at = Deployment(dev.chain_id, contract)
    async with Reader.opened(node.url) as reader, open_evm_chain((node.url,), at, jitter=jitter, start=start) as chain:
        yield RealGround(chain, node, start, token, reader)
