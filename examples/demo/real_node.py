"""A real Ethereum node for `make demo-evm`: the one that is named, else anvil, which npm fetches if it is not there.

Anvil's clock is set: four blocks in a second, each a second of chain time, so that one need not wait for windows as
long as they are.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from stage import Wrong

from tallystick.settlement.testing.anvil import VERSION, find_anvil, start_anvil

BLOCK_SECONDS = 0.25
"""Real seconds between anvil's blocks, which are a second apart in chain time."""

PACKAGE = f"@foundry-rs/anvil@{VERSION}"
NPM_SECONDS = 300


class RealNode(NamedTuple):
    """A running node."""

    name: str
    url: str
    longest: float
    """Seconds after which the demo must be over."""


@contextlib.contextmanager
def start_node(console: Console, url: str | None) -> Iterator[RealNode]:
    """Give the node at `url`, or start anvil; raise Wrong if it is not there and cannot be fetched."""
    if url is not None:
        yield RealNode("a node", url, 600.0)
        return
    if find_anvil() is None:
        _fetch_anvil(console)
    with start_anvil("--hardfork", "osaka", "--block-time", str(BLOCK_SECONDS)) as anvil:
        anvil.ask("anvil_setBlockTimestampInterval", 1)
        yield RealNode(f"anvil ({anvil.ask('web3_clientVersion')})", anvil.url, 240.0)


def _fetch_anvil(console: Console) -> None:
    npm = shutil.which("npm")
    if npm is not None:
        console.print(f"anvil is not here: npm fetches it into node_modules/ ({PACKAGE})", highlight=False)
        quiet = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
        command = [npm, "install", *quiet, PACKAGE]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=NPM_SECONDS)
    if find_anvil() is None:
        raise Wrong(
            f"there is no Ethereum node here. Install Node, whose npm fetches anvil ({PACKAGE}); or start a "
            "development node of your own, which gives coins for nothing, and name it: "
            "python examples/demo --evm --rpc URL"
        )
