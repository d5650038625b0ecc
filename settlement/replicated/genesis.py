"""What all validators begin with: the ledger's settings and first coins, as the application's part of the genesis."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a replicated chain. Two that are equal begin equal chains."""

    time: int
    """Of block 0, in whole seconds."""
    chain_id: int
    contract: Address
    reward_bps: int
    gas_limit: int
    dev: bool
    mints: tuple[Mint, ...]

    def settings(self) -> ChainSettings:
        """What kind of chain it is."""
        return ChainSettings(
            chain_id=self.chain_id,
            contract=self.contract,
            reward_bps=self.reward_bps,
            gas_limit=self.gas_limit,
            dev=self.dev,
        )

    def written(self) -> dict[str, Any]:
        """Return it as JSON: bytes in hexadecimal, amounts as text."""
        return {
            **{name: getattr(self, name) for name in ("time", "chain_id", "reward_bps", "gas_limit", "dev")},
            "contract": self.contract.hex(),
            "mints": [[order.account.hex(), order.asset.hex(), str(order.amount)] for order in self.mints],
        }


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    time: int
    chain_id: int
    reward_bps: int
    gas_limit: int
    dev: bool
    contract: str
    mints: list[tuple[str, str, str]]


def read_genesis(data: bytes) -> Genesis:
    """Read what `written` gave, as JSON; raise InvalidInput."""
    try:
        read = msgspec.json.decode(data, type=_Written)
        mints = tuple(
            Mint(Address(bytes.fromhex(account)), Address(bytes.fromhex(asset)), int(amount))
            for account, asset, amount in read.mints
        )
        contract = Address(bytes.fromhex(read.contract))
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(f"this is no genesis of a replicated ledger: {error}") from error
    return Genesis(
        time=read.time,
        chain_id=read.chain_id,
        contract=contract,
        reward_bps=read.reward_bps,
        gas_limit=read.gas_limit,
        dev=read.dev,
        mints=mints,
    )
