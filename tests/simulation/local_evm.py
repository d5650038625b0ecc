"""A real EVM for tests: anvil with the adjudicator, and a token that is like most."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import creation_code
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.testing.anvil import RICH, VERSION, Anvil, find_anvil, free_port, start_anvil
from tallystick.settlement.testing.token import TOKEN, TRANSFER

on_a_node = pytest.mark.skipif(
    find_anvil() is None, reason=f"anvil is not here: npm install --no-save @foundry-rs/anvil@{VERSION}"
)
"""Marks a test that needs a real node."""


class LocalEvm(NamedTuple):
    """A running node, and what is on its chain."""

    anvil: Anvil
    at: Deployment
    start: int
    """Block of the adjudicator's deployment."""
    token: Address

    def fund(self, account: Address, coins: int = 10**20, tokens: int = 10**20) -> None:
        """Give an account coins and tokens."""
        self.anvil.fund(account, coins)
        rich = bytes.fromhex(RICH.removeprefix("0x"))
        self.anvil.send(rich, self.token, TRANSFER.encode_call(account, tokens))


@contextlib.contextmanager
def open_local_evm(*flags: str, chain_id: int = 31_337, funded: Iterable[PrivateKey] = ()) -> Iterator[LocalEvm]:
    """Start anvil, deploy the adjudicator and the token on it, and give accounts of both.

    Raise FileNotFoundError if anvil is not there.
    """
    with start_anvil(*flags, chain_id=chain_id) as node:
        evm = _deployed(node, chain_id)
        for key in funded:
            evm.fund(key.address)
        yield evm


def _deployed(node: Anvil, chain_id: int) -> LocalEvm:
    contract = Address(node.create(creation_code()))
    start = int(node.ask("eth_blockNumber"), 16)
    return LocalEvm(node, Deployment(chain_id, contract), start, Address(node.create(TOKEN)))


class MortalEvm:
    """A node that can be ended and started again: it keeps its chain in a file, and forgets what waits.

    Make it with `open_mortal_evm`.
    """

    def __init__(self, flags: tuple[str, ...], chain_id: int) -> None:
        self._flags, self._chain_id, self._port = flags, chain_id, free_port()
        self._running = contextlib.ExitStack()
        self.evm = _deployed(self.start(), chain_id)
        """The same in all its lives."""

    def start(self) -> Anvil:
        """Start it; return it once it answers."""
        node = start_anvil(*self._flags, chain_id=self._chain_id, port=self._port)
        return self._running.enter_context(node)

    def stop(self) -> None:
        """End it."""
        self._running.close()


@contextlib.contextmanager
def open_mortal_evm(*flags: str, chain_id: int = 31_337) -> Iterator[MortalEvm]:
    """Do as `open_local_evm`, with a node that may be ended and started again."""
    with tempfile.TemporaryDirectory() as directory:
        mortal = MortalEvm((*flags, "--state", f"{directory}/state.json"), chain_id)
        try:
            yield mortal
        finally:
            mortal.stop()
