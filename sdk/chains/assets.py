"""An asset where it lives: on a chain, locked by an adjudicator there. Pure.

Its text is `ASSET@CHAIN`: `coin@1337`, or a token's address, as in `0x5fbd…0aa3@31337`. Chains of one number with two
adjudicators are told apart by whoever reads it: a node serves one of them.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import UINT64_MAX
from tallystick.channels.protocol.objects import NATIVE, Address, to_address

COIN = "coin"
"""How the chain's own coin is written."""

Address20 = Annotated[Address, msgspec.Meta(min_length=20, max_length=20)]
_TEXT = re.compile(r"(coin|0x[0-9a-fA-F]{40})@(0|[1-9][0-9]{0,19})")


class ChainAsset(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """An asset on a chain, and the adjudicator of the channels that carry it."""

    chain_id: Annotated[int, msgspec.Meta(ge=0)]
    contract: Address20
    asset: Address20 = NATIVE

    def __str__(self) -> str:
        return f"{COIN if self.asset == NATIVE else '0x' + self.asset.hex()}@{self.chain_id}"

    @property
    def registry(self) -> tuple[int, Address]:
        """Where secrets of locks on it are registered: two assets with one registry have one clock."""
        return self.chain_id, self.contract


def read_asset(text: str) -> tuple[Address, int]:
    """Return the asset and the chain's number that `text` names (ASSET@CHAIN); raise InvalidInput."""
    found = _TEXT.fullmatch(text.strip())
    if found is None or int(found[2]) > UINT64_MAX:
        raise InvalidInput(f'"{text}" names no asset of a chain: write coin@NUMBER, or 0x…@NUMBER for a token')
    return (NATIVE if found[1] == COIN else to_address(found[1], "asset")), int(found[2])
