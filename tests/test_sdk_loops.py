"""Programs on asyncio are told where they are, in one sentence, and the control API's client serves them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Config
from tallystick.sdk.node.running import open_node
from tallystick.settlement.ethereum.rpc_client import open_rpc_chain
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.daemon import run_tower

KEY = PrivateKey(keccak(b"asyncio"))


async def use_node(folder: Path) -> None:
    async with open_node(folder, key=KEY, chain=LocalChain()):
        raise AssertionError("a node ran")


async def use_chain(folder: Path) -> None:
    async with open_rpc_chain("http://127.0.0.1:1", jitter=random.Random(1).random):
        raise AssertionError("a chain was open")


async def use_local_chain(folder: Path) -> None:
    await LocalChain().run()


async def use_tower(folder: Path) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("it ran")

    await run_tower(folder, KEY, chain_url="http://127.0.0.1:1", host="127.0.0.1", port=0, ready=nothing, alarm=nothing)


@pytest.mark.parametrize("use", [use_node, use_chain, use_local_chain, use_tower])
def test_what_runs_on_trio_says_so_to_asyncio(use: Callable[[Path], Awaitable[None]], tmp_path: Path) -> None:
    async def main() -> None:
        await use(tmp_path)

    with pytest.raises(InvalidInput, match="runs on trio, and this is no task of trio"):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == [], "nothing may be made that a node would find"


def test_a_node_that_only_dials_says_that_nobody_can_connect_to_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_node(tmp_path, key=KEY, chain=LocalChain(), config=Config(listen=None)) as node:
            assert node.listening is None
            with pytest.raises(ChannelNotReady, match="only dials"):
                _ = node.peer_address

    simulate(main, 1)
