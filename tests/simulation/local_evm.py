"""A real EVM for tests: anvil with the adjudicator, and a token that is like most."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.ethereum.abi import Deployment, Signature
from tallystick.settlement.testing.anvil import RICH, Anvil, start_anvil

ARTIFACT = Path(__file__).resolve().parents[2] / "contracts" / "artifacts" / "Adjudicator.json"
REWARD_BPS = 1_000
TRANSFER = Signature("transfer", ("address", "uint256"))

TOKEN = bytes.fromhex(
    "34610030576c0c9f2c9cd04674edea400000005f336020525f5260405f205561028e6100346100003961028e610000f35b5f"
    "80fd5f3560e01c60026003821660011b61028601601e395f51565b63a9059cbb81186100ba57604436103417610282576004"
    "358060a01c610282576040525f336020525f5260405f20805460243580820382811161028257905090508155505f60405160"
    "20525f5260405f2080546024358082018281106102825790509050815550604051337fddf252ad1be2c89b69c2b068fc378d"
    "aa952ba7f163c4a11628f55a4df523b3ef60243560605260206060a3600160605260206060f35b63095ea7b3811861027e57"
    "604436103417610282576004358060a01c610282576040526024356001336020525f5260405f20806040516020525f526040"
    "5f20905055600160605260206060f35b6323b872dd81186101ec57606436103417610282576004358060a01c610282576040"
    "526024358060a01c6102825760605260016040516020525f5260405f2080336020525f5260405f2090508054604435808203"
    "82811161028257905090508155505f6040516020525f5260405f20805460443580820382811161028257905090508155505f"
    "6060516020525f5260405f20805460443580820182811061028257905090508155506060516040517fddf252ad1be2c89b69"
    "c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef60443560805260206080a3600160805260206080f35b6370a08231"
    "811861027e57602436103417610282576004358060a01c610282576040525f6040516020525f5260405f2054606052602060"
    "60f35b63dd62ed3e811861027e57604436103417610282576004358060a01c610282576040526024358060a01c6102825760"
    "605260016040516020525f5260405f20806060516020525f5260405f2090505460805260206080f35b5f5ffd5b5f80fd027e"
    "0107022600188558208633721337f490439c8db1eadd251a51b573fec63e29a8798a2ddba1567294e519028e810800a16576"
    "79706572830004030036"
)
"""Vyper 0.4.3 made it: `balanceOf`, `allowance`, `transfer`, `transferFrom`, `approve`, which answer true or fail
without a word; 10**30 units are its creator's."""


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
