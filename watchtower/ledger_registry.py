"""The registry of towers on a simulated ledger: what it says, and the calls that a cover and an accusation are."""

from __future__ import annotations

from typing import Any

import msgspec

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import ModuleCall
from tallystick.settlement.ethereum.module_calls import read_answer, write_call
from tallystick.settlement.modules.towers import TOWERS
from tallystick.settlement.port import LedgerChain
from tallystick.watchtower.cover_schema import SignedCover
from tallystick.watchtower.covering import Accusation


class LedgerRegistry:
    """See `covers.Registry`."""

    def __init__(self, chain: LedgerChain) -> None:
        self._chain = chain
        self.address: Address = TOWERS.address

    async def free(self, tower: Address) -> int:
        """Return what of a tower's bond no cover holds apart."""
        said = await self._ask("tower", tower)
        return int(said["bond"]) - int(said["reserved"])

    async def is_held(self, name: bytes) -> bool:
        """Return whether a cover is set apart now."""
        return int((await self._ask("cover", name))["amount"]) > 0

    async def _ask(self, view: str, value: bytes) -> dict[str, Any]:
        call = write_call(TOWERS.name, view, [value])
        return read_answer(call, await self._chain.view(call))


def reserve_call(held: SignedCover) -> ModuleCall:
    """Return the call by which anybody sets a cover apart, and pays its price."""
    values = [*msgspec.structs.astuple(held.cover), held.signature]
    return write_call(TOWERS.name, "reserve", values, value=held.cover.price)


def accuse_call(found: Accusation) -> ModuleCall:
    """Return the call by which anybody shows a broken promise."""
    _, *numbers = msgspec.structs.astuple(found.promise.promise)
    values = [*msgspec.structs.astuple(found.cover.cover), *numbers, found.promise.signature]
    return write_call(TOWERS.name, "accuse", values)
