"""Anvil, Foundry's development node, for tests: a real EVM with the adjudicator on it, mined on demand or by time.

    with start_anvil() as node: ...            # None if the program is not there

It comes as an npm package (`@foundry-rs/anvil`), whose program is in the package of the platform. TALLY_ANVIL may name
it; else it is looked for on the PATH and under `node_modules/`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

VARIABLE = "TALLY_ANVIL"
"""Environment variable that may name the program."""

VERSION = "1.7.1"
"""Of the npm package that this was written for."""

START_SECONDS = 30.0
RICH_KEY = bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")
"""The key of one of its accounts, which holds 10,000 coins: known to everybody."""
RICH = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""That account."""


def find_anvil() -> str | None:
    """Return where the program is, None if it is nowhere."""
    named = os.environ.get(VARIABLE)
    if named:
        return named if os.access(named, os.X_OK) else None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@foundry-rs/anvil-{platform.system().lower()}-{machine}"
    here = Path("node_modules") / package / "bin" / "anvil"
    return str(here) if os.access(here, os.X_OK) else shutil.which("anvil")


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Anvil:
    """A running node."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, *params: Any) -> Any:
        """Return the result of a method; raise RuntimeError if there is none."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = msgspec.json.decode(reply.read())
        if "error" in answer:
            raise RuntimeError(f"anvil: {answer['error']}")
        return answer.get("result")

    def fund(self, account: bytes, amount: int = 10**20) -> None:
        """Give an account coins, at once."""
        self.ask("anvil_setBalance", f"0x{account.hex()}", hex(amount))

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks now."""
        self.ask("anvil_mine", hex(blocks))

    def advance(self, seconds: int) -> None:
        """Let the next block be so much later, and mine it."""
        self.ask("evm_increaseTime", hex(seconds))
        self.mine()

    def create(self, code: bytes) -> bytes:
        """Put a contract onto the chain, and return its address."""
        sent = self.ask("eth_sendTransaction", {"from": RICH, "data": f"0x{code.hex()}", "gas": hex(15_000_000)})
        self.mine()
        receipt = self.ask("eth_getTransactionReceipt", sent)
        if int(receipt["status"], 16) != 1:
            raise RuntimeError("anvil: the contract's constructor failed")
        return bytes.fromhex(receipt["contractAddress"][2:])

    def send(self, sender: bytes, to: bytes, data: bytes) -> dict[str, Any]:
        """Make a call as an account without knowing its key; return the receipt."""
        account = f"0x{sender.hex()}"
        self.ask("anvil_impersonateAccount", account)
        call = {"from": account, "to": f"0x{to.hex()}", "data": f"0x{data.hex()}", "gas": hex(1_000_000)}
        sent = self.ask("eth_sendTransaction", call)
        self.mine()
        self.ask("anvil_stopImpersonatingAccount", account)
        receipt: dict[str, Any] = self.ask("eth_getTransactionReceipt", sent)
        return receipt


@contextlib.contextmanager
def start_anvil(*flags: str, chain_id: int = 31_337, port: int = 0) -> Iterator[Anvil]:
    """Start the program and give it once it answers; end it at the end. Blocks are mined with every transaction.

    Raise FileNotFoundError if it is not there. `flags` are its own, `--block-time 1` for example. `port` 0: a free one.
    """
    program = find_anvil()
    if program is None:
        raise FileNotFoundError("anvil is not here: npm install --no-save @foundry-rs/anvil@" + VERSION)
    port = port or free_port()
    limits = ("--enable-tx-gas-limit", "--gas-limit", "60000000", "--silent")
    command = (program, "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id), *limits, *flags)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    node = Anvil(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                node.ask("eth_chainId")
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield node
    finally:
        process.terminate()
        process.wait(10)
