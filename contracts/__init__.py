"""The adjudicator as a contract for Ethereum's virtual machine: what `tools/contracts.py` made of `Adjudicator.vy`.

Compiled and checked in, so that nobody needs a compiler to deploy it. Not audited (docs/contracts.md).
"""

from __future__ import annotations

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


def creation_code(reward_bps: int = 1_000) -> bytes:
    """Return what deploys the adjudicator. `reward_bps`: what towers earn of what a cheater forfeits, in 0.01 %."""
    return artifact().code + reward_bps.to_bytes(32, "big")
