"""The registry of towers on a chain of blocks: reorganisations around the answer, the window's end, the accusation."""

from __future__ import annotations

from typing import Any

import msgspec

from simulation.disputes import PERIOD, ChannelFixture
from simulation.module_ledger import calldata, signature
from simulation.tower_twins import HONEST
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import DepositCall, ModuleCall, OpenCall, TransactionReceipt
from tallystick.settlement.modules.covers import TowerCover, TowerPromise, digest_cover, digest_promise
from tallystick.settlement.modules.towers import TOWERS
from tallystick.settlement.testing.local import LocalChain

STRANGER = PrivateKey(keccak(b"whoever accuses"))
BOND = 10**18


class Chain:
    """A chain with a bonded tower, a channel and a cover for side 0."""

    def __init__(self) -> None:
        self.channel = ChannelFixture()
        keys = (*self.channel.keys, HONEST, STRANGER)
        self.chain = LocalChain(funds={key.address: 10**20 for key in keys})
        self.bond = 0

    async def prepare(self) -> None:
        """Open the channel, bond, and reserve the cover."""
        await self.sent(self.channel.keys[0], OpenCall(self.channel.terms, 600))
        await self.sent(self.channel.keys[1], DepositCall(self.channel.id, 1, 400))
        await self.called(HONEST, "bond", BOND, value=BOND)
        now = (await self.chain.head()).time
        client = self.channel.address(0)
        self.cover = TowerCover(self.channel.id, HONEST.address, client, 1_000, now + 10_000, PERIOD, 0, now + 100)
        self.name = digest_cover(1337, TOWERS.address, self.cover)
        await self.called(STRANGER, "reserve", *msgspec.structs.astuple(self.cover), HONEST.sign(self.name))
        self.since = (await self.chain.head()).time + 1

    async def sent(self, key: PrivateKey, call: Any) -> TransactionReceipt:
        """Send a call, and mine it."""
        await self.chain.send(key, call)
        self.chain.mine()
        return await self.receipt_of(key)

    async def receipt_of(self, key: PrivateKey) -> TransactionReceipt:
        """Return what the newest block says of an account's transaction."""
        receipts = {receipt.sender: receipt for receipt in self.chain.newest.receipts()}
        return receipts[key.address]

    async def called(self, key: PrivateKey, name: str, *values: Any, value: int = 0) -> TransactionReceipt:
        """Call the registry."""
        return await self.sent(key, ModuleCall(TOWERS.address, calldata("towers", name, *values), value))

    async def accuse(self) -> TransactionReceipt:
        """Show the promise of 5 and 5."""
        promise = TowerPromise(self.name, self.since, 5, 5)
        signed = HONEST.sign(digest_promise(1337, TOWERS.address, promise))
        return await self.called(STRANGER, "accuse", *msgspec.structs.astuple(self.cover), self.since, 5, 5, signed)

    async def asked(self, view: str, *values: Any) -> tuple[Any, ...]:
        """Ask the registry."""
        answer = await self.chain.view(ModuleCall(TOWERS.address, calldata("towers", view, *values), 0))
        return signature("towers", view).decode_result(answer)

    async def money(self, account: Address) -> int:
        """Return what an account holds."""
        return await self.chain.balance(account, NATIVE)
