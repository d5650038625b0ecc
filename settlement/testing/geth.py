"""Geth, Ethereum's reference node, for tests: a chain of our own, whose blocks a test decides on.

    async with start_geth() as node: ...       # FileNotFoundError if the program is not there

It makes no block by itself: `beacon.Beacon` says which there are, over the Engine API, as a consensus client does, so
that a test has sibling blocks, reorganisations and finality at will; or `geth_miner` lets it make them of all that
waits. `go_programs` says where the program is looked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from tallystick.channels.ports import system_clock
from tallystick.settlement.errors import RpcError
from tallystick.settlement.ethereum.rpc_shapes import quantity, to_hex
from tallystick.settlement.go_programs import GETH

START_SECONDS = 60.0
CHAIN_ID = 31_337
GAS_LIMIT = 60_000_000
RICH_KEY = bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")
"""The key of the account that holds all coins at the beginning: known to everybody, as anvil has it, too."""
RICH = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""That account."""
RICHES = 10**27
NOTHING = to_hex(bytes(32))
"""What is told of the beacon chain's blocks: there are none."""
_SECRET = bytes(range(32))
"""Of the Engine API: nothing else than this machine reaches it."""
_FORKS = ("shanghai", "cancun", "prague", "osaka", "amsterdam")
_BLOCKS = (
    *("homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg"),
    *("istanbul", "berlin", "london"),
)
_SYSTEM = (
    *("0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02", "0x0000F90827F1C53a10cb7A02335B175320002935"),
    *("0x00000961Ef480Eb55e80D19ad83579A64c007002", "0x0000BBdDc7CE488642fb579F8B00f3a590007251"),
    *("0x0000BFF46984E3725691FA540A8C7589300D8282", "0x000064D678505AD48F8CCB093BC65613800E8282"),
)
"""Accounts that every block calls (EIP-4788, 2935, 7002, 7251; 8282, twice): here their code does nothing."""
_BLOBS = {"target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716}


def genesis(time: int, funds: Mapping[str, int], fork: str) -> dict[str, Any]:
    """Return a genesis block of that time, with a fork's rules from the start, in which these accounts hold coins."""
    forks = _FORKS[: _FORKS.index(fork) + 1]
    return {
        "config": {
            "chainId": CHAIN_ID,
            **{f"{name}Block": 0 for name in _BLOCKS},
            "terminalTotalDifficulty": 0,
            **{f"{name}Time": 0 for name in forks},
            "blobSchedule": dict.fromkeys(forks[1:], _BLOBS),
        },
        "timestamp": hex(time),
        "gasLimit": hex(GAS_LIMIT),
        "difficulty": "0x0",
        "baseFeePerGas": hex(10**9),
        "alloc": {
            **{account: {"balance": hex(amount)} for account, amount in funds.items()},
            **{account: {"balance": "0x0", "code": "0x00"} for account in _SYSTEM},
        },
    }


class Geth:
    """A running node, and its Engine API."""

    def __init__(self, client: httpx.AsyncClient, url: str, engine_url: str, log: Path, fork: str) -> None:
        self.url = url
        self.log = log
        """What it says, in a file."""
        self._client = client
        self._engine_url = engine_url
        self._has_slots = fork == "amsterdam"
        """Whether its blocks name their slot (EIP-7843)."""

    async def ask(self, method: str, *params: Any) -> Any:
        """Return the result of a method; raise RpcError if there is none."""
        return await self._post(self.url, method, params, {})

    async def engine(self, method: str, *params: Any) -> Any:
        """Return the result of a method of the Engine API; raise RpcError if there is none."""
        return await self._post(self._engine_url, method, params, {"authorization": f"Bearer {_token()}"})

    def attributes(self, number: int, time: int, salt: int = 0) -> dict[str, Any]:
        """Return what it is told of a block that it is to make; two that differ in `salt` alone are two blocks."""
        slot = {"slotNumber": quantity(number)} if self._has_slots else {}
        return {
            "timestamp": quantity(time),
            "prevRandao": to_hex(salt.to_bytes(32, "big")),
            "suggestedFeeRecipient": to_hex(bytes(20)),
            "withdrawals": [],
            "parentBeaconBlockRoot": NOTHING,
            **slot,
        }

    async def _post(self, url: str, method: str, params: tuple[Any, ...], headers: dict[str, str]) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self._client.post(url, json=call, headers=headers)
        answer = msgspec.json.decode(reply.content)
        if "error" in answer:
            error = answer["error"]
            raise RpcError(error["code"], error["message"], error.get("data"))
        return answer.get("result")


def _token() -> str:
    """Return what the Engine API asks for: a JSON Web Token (RFC 7519) of this moment."""

    def written(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    claims = msgspec.json.encode({"iat": int(system_clock())})
    body = written(b'{"alg":"HS256","typ":"JWT"}') + b"." + written(claims)
    return (body + b"." + written(hmac.new(_SECRET, body, hashlib.sha256).digest())).decode()


@asynccontextmanager
async def start_geth(
    *flags: str, funds: Mapping[str, int] | None = None, time: int | None = None, fork: str = "osaka"
) -> AsyncIterator[Geth]:
    """Start the program in a folder of its own, and give it once it answers; end it, and delete the folder, at the end.

    `time` is the genesis block's (None: now); it gives accounts `funds`, and has the rules of a `fork`. `flags` are its
    own. Raise FileNotFoundError if it is not there, RuntimeError if it ends at once.
    """
    program = GETH.find()
    if program is None:
        raise FileNotFoundError(GETH.missing)
    with tempfile.TemporaryDirectory(prefix="tally-geth-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        first = genesis(int(system_clock()) if time is None else time, {RICH: RICHES, **(funds or {})}, fork)
        (home / "genesis.json").write_bytes(msgspec.json.encode(first))
        (home / "secret").write_text(_SECRET.hex(), "ascii")
        port, engine_port = _free_ports()
        command = (
            *(program, "--datadir", str(home / "data"), "--override.genesis", str(home / "genesis.json")),
            *("--verbosity", "2", "--cache", "64", "--ipcdisable", "--nodiscover", "--maxpeers", "0"),
            *("--nat", "none", "--port", "0"),
            *("--syncmode", "full", "--gcmode", "archive", "--txpool.nolocals", "--txpool.journal", ""),
            *("--http", "--http.addr", "127.0.0.1", "--http.port", str(port)),
            *("--http.api", "eth,net,web3,txpool,miner,testing,debug"),
            *("--authrpc.addr", "127.0.0.1", "--authrpc.port", str(engine_port)),
            *("--authrpc.jwtsecret", str(home / "secret")),
            *flags,
        )
        with (home / "log").open("wb") as log:
            process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                    urls = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{engine_port}")
                    node = Geth(client, *urls, home / "log", fork)
                    await _answering(node, process)
                    yield node
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


async def _answering(node: Geth, process: trio.Process) -> None:
    """Wait until a node answers."""
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            try:
                await node.ask("eth_chainId")
                await node.engine("eth_chainId")
                return
            except httpx.TransportError:
                await trio.sleep(0.05)
    raise RuntimeError(f"geth does not answer: {node.log.read_text('utf-8', 'replace')[-2_000:]}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
