"""A real EVM for tests: anvil with the adjudicator, and a token that is like most."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.testing.anvil import RICH, VERSION, Anvil, find_anvil, start_anvil
from tallystick.settlement.testing.token import TOKEN, TRANSFER

ARTIFACT = Path(__file__).resolve().parents[2] / "contracts" / "artifacts" / "Adjudicator.json"
REWARD_BPS = 1_000

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
def open_local_evm(*flags: str) -> Iterator[LocalEvm]:
    """Start anvil and deploy the adjudicator and the token on it. Raise FileNotFoundError if anvil is not there."""
    with start_anvil(*flags) as node:
        chain_id = int(node.ask("eth_chainId"), 16)
        contract = Address(node.create(bytecode() + REWARD_BPS.to_bytes(32, "big")))
        start = int(node.ask("eth_blockNumber"), 16)
        yield LocalEvm(node, Deployment(chain_id, contract), start, Address(node.create(TOKEN)))


def bytecode() -> bytes:
    """Return what a deployment of the adjudicator sends, before the constructor's argument."""
    made: str = json.loads(ARTIFACT.read_text("utf-8"))["bytecode"]
    return bytes.fromhex(made.removeprefix("0x"))
