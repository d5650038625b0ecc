"""The contracts for Ethereum's virtual machine, as `tools/contracts.py` made them: adjudicator, court, rules of apps.

Compiled and checked in, so that nobody needs a compiler to deploy it. Not audited (docs/contracts.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec


class Artifact(msgspec.Struct, frozen=True):
    """A compiled contract."""

    name: str
    compiler: str
    """Which compiler made it, with its commit."""
    evm_version: str
    source: str
    """keccak-256 of the source, in hex."""
    abi: list[dict[str, Any]]
    bytecode: str
    """What a deployment sends, before the constructor's arguments; hex."""
    runtime: str
    """What is then on chain, before the immutables, which stand at its end; hex."""
    layout: dict[str, Any]
    """Where what is stored, and the immutables."""

    @property
    def code(self) -> bytes:
        """What a deployment sends, before the constructor's arguments."""
        return bytes.fromhex(self.bytecode.removeprefix("0x"))

    @property
    def deployed(self) -> bytes:
        """What is then on chain, before the immutables."""
        return bytes.fromhex(self.runtime.removeprefix("0x"))


def artifact(name: str = "Adjudicator") -> Artifact:
    """Return a compiled contract of this package."""
    text = (resources.files(f"{__name__}.artifacts") / f"{name}.json").read_bytes()
    return msgspec.json.decode(text, type=Artifact)


RULES = {
    ("connectfour", 1): "ConnectFour",
    ("escrow", 1): "Escrow",
    ("loan", 1): "Loan",
    ("option", 1): "Option",
    ("payout", 1): "Payout",
    ("raffle", 1): "Raffle",
    ("rps", 1): "RockPaperScissors",
    ("tictactoe", 1): "TicTacToe",
}
"""Which contract has the rules of an app, by its name and version."""


def creation_code(reward_bps: int = 1_000, court: bytes = bytes(20)) -> bytes:
    """Return what deploys the adjudicator. `reward_bps`: what towers earn of what a cheater forfeits, in 0.01 %.

    `court` is the address of who decides locks of kind 1; zeros: they go back to their senders.
    """
    return artifact().code + reward_bps.to_bytes(32, "big") + court.rjust(32, b"\0")


def court_code(rules: Mapping[bytes, bytes]) -> bytes:
    """Return what deploys the court: `rules` says of each app's id (32 bytes) at which address its rules are."""
    count = len(rules).to_bytes(32, "big")
    ids, places = b"".join(rules), b"".join(place.rjust(32, b"\0") for place in rules.values())
    heads = (64).to_bytes(32, "big") + (96 + 32 * len(rules)).to_bytes(32, "big")
    return artifact("Court").code + heads + count + ids + count + places
