"""A real Ethereum node for `make demo-evm`: the one that is named, else the first of these that can be had.

- anvil, of Foundry: here already, or fetched by npm.
- geth: here already.
- py-evm, in pure Python: here already, or fetched by pip.

Their clocks are set: four blocks in a second, each a second of chain time, so that one need not wait for windows as
long as they are.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from stage import Wrong

from tallystick.settlement.go_programs import GETH
from tallystick.settlement.testing.anvil import VERSION, find_anvil, start_anvil
from tallystick.settlement.testing.geth import start_geth
from tallystick.settlement.testing.geth_miner import GethMiner
from tallystick.settlement.testing.pyevm.node import has_pyevm, start_pyevm

BLOCK_SECONDS = 0.25
"""Real seconds between blocks, which are a second apart in chain time."""

PACKAGE = f"@foundry-rs/anvil@{VERSION}"
LOCK = Path(__file__).resolve().parents[2] / "requirements-pyevm.lock"
FETCH_SECONDS = 300


class RealNode(NamedTuple):
    """A running node."""

    name: str
    url: str
    longest: float
    """Seconds after which the demo must be over."""


class Kind(NamedTuple):
    """A way to have a node."""

    is_here: Callable[[], bool]
    fetch: Callable[[Console], None]
    """Tries to make it so."""
    start: Callable[[], contextlib.AbstractAsyncContextManager[RealNode]]


@contextlib.asynccontextmanager
async def start_node(console: Console, url: str | None, kind: str | None) -> AsyncIterator[RealNode]:
    """Give the node at `url`, or start one, of a `kind` of KINDS if that is said; raise Wrong if none can be had."""
    if url is not None:
        yield RealNode("a node", url, 600.0)
        return
    async with KINDS[first_node(console, kind)].start() as node:
        yield node


def first_node(console: Console, kind: str | None) -> str:
    """Return the first of KINDS that is here or can be fetched, or this `kind` if it is; raise Wrong otherwise."""
    for name in KINDS if kind is None else (kind,):
        if not KINDS[name].is_here():
            KINDS[name].fetch(console)
        if KINDS[name].is_here():
            return name
    raise Wrong(
        f"there is no Ethereum node here, and none could be fetched: npm knows anvil ({PACKAGE}), pip knows py-evm "
        f"({LOCK.name}). Or start a development node of your own, which gives coins for nothing, and name it: "
        "python examples/demo --evm --rpc URL"
    )


@contextlib.asynccontextmanager
async def _anvil() -> AsyncIterator[RealNode]:
    with start_anvil("--hardfork", "osaka", "--block-time", str(BLOCK_SECONDS)) as anvil:
        anvil.ask("anvil_setBlockTimestampInterval", 1)
        yield RealNode(f"anvil ({anvil.ask('web3_clientVersion')})", anvil.url, 240.0)


@contextlib.asynccontextmanager
async def _geth() -> AsyncIterator[RealNode]:
    async with start_geth() as geth, GethMiner(geth).mining(BLOCK_SECONDS):
        yield RealNode(f"geth ({await geth.ask('web3_clientVersion')})", geth.url, 240.0)


@contextlib.asynccontextmanager
async def _pyevm() -> AsyncIterator[RealNode]:
    with start_pyevm("--block-time", str(BLOCK_SECONDS), "--step", "1") as url:
        yield RealNode("py-evm, in pure Python,", url, 360.0)


def _fetch_anvil(console: Console) -> None:
    npm = shutil.which("npm")
    if npm is not None:
        quiet = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
        told = f"anvil is not here: npm fetches it into node_modules/ ({PACKAGE})"
        _fetch(console, told, npm, "install", *quiet, PACKAGE)


def _fetch_pyevm(console: Console) -> None:
    wheels = ("--only-binary", ":all:") if sys.platform == "linux" else ()
    quiet = ("--quiet", "--disable-pip-version-check", "--require-hashes", *wheels)
    told = f"py-evm is not here: pip fetches it ({LOCK.name})"
    _fetch(console, told, sys.executable, "-m", "pip", "install", *quiet, "--requirement", str(LOCK))
    importlib.invalidate_caches()


def _fetch(console: Console, told: str, *command: str) -> None:
    """Run what fetches something; whether it did, is looked at afterwards."""
    console.print(told, highlight=False)
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=FETCH_SECONDS)


KINDS = {
    "anvil": Kind(lambda: find_anvil() is not None, _fetch_anvil, _anvil),
    "geth": Kind(lambda: GETH.find() is not None, lambda console: None, _geth),
    "pyevm": Kind(has_pyevm, _fetch_pyevm, _pyevm),
}
"""By name, in the order in which they are tried: the faster one first."""
