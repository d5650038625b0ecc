"""A simulated chain for tests: virtual time, coins for everybody, and calls in one line.

    chain = LocalChain(funds={alice.address: 10**9})
    receipt = await chain.call(alice, SettleCall(channel))     # signed, submitted, mined
    chain.advance(600)                                         # seconds of chain time pass
    chain.reorganise(2)                                        # the newest two blocks are replaced

All of `SimulatedChain` is there too: `congest`, `censor`, `mine`, `run`.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio
from trio.testing import MockClock

from tallystick.channels.ports import Clock, system_clock
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, Amount, AnyAddress, Count, Seconds, Total, to_address
from tallystick.channels.storage.store import Store
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.values.arguments import checked
from tallystick.settlement.chain import Call, Header, TransactionReceipt
from tallystick.settlement.errors import LedgerBroken
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import Mint
from tallystick.settlement.simulated.shard import Shard

FUNDS = 10**15
"""What `fund` gives unless told otherwise."""


class LocalChain(SimulatedChain):
    """A development chain whose time moves by `advance`, with every block, and with trio's clock."""

    @checked
    def __init__(
        self,
        *,
        funds: Mapping[Address, Total] | None = None,
        settings: ChainSettings | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Begin at EPOCH (or as `clock` says) with the native coin for the accounts of `funds`.

        With trio's real clock, blocks have the time of now.
        """
        self._base = clock
        self._ahead = 0.0
        genesis = [Mint(account, NATIVE, amount) for account, amount in (funds or {}).items()]
        super().__init__(settings or ChainSettings(dev=True), self._now, genesis=genesis, store=store, shard=shard)

    def _now(self) -> float:
        if self._base is not None:
            return self._base() + self._ahead
        try:
            virtual = isinstance(trio.lowlevel.current_clock(), MockClock)
        except RuntimeError:  # outside of trio
            return EPOCH + self._ahead
        return (EPOCH + trio.current_time() if virtual else system_clock()) + self._ahead

    @checked
    def advance(self, seconds: Seconds) -> Header:
        """Let chain time pass after the newest block, and mine one."""
        self._ahead += max(0.0, self.newest.header.time - self._now()) + seconds
        return self.mine()

    @checked
    def fund(self, account: AnyAddress, amount: Amount = FUNDS, asset: AnyAddress = NATIVE) -> None:
        """Give an account coins or tokens, and mine the block that does."""
        self.mint(Mint(to_address(account, "account"), to_address(asset, "asset"), amount))
        self.mine()

    @checked
    async def send(
        self, key: PrivateKey, call: Call, *, price: Total | None = None, nonce: Count | None = None
    ) -> bytes:
        """Sign and submit a call without mining it; return the transaction's hash.

        The nonce is the next one after those that wait, the price the chain's suggestion, unless told otherwise.
        """
        if nonce is None:
            own = [waiting.nonce + 1 for waiting in self.waiting() if waiting.sender == key.address]
            nonce = max([await self.nonce(key.address), *own])
        offer = await self.fee_price() if price is None else price
        return await self.submit(sign_call(key, self.chain_id, self.contract, call, nonce, offer))

    @checked
    async def call(self, key: PrivateKey, call: Call) -> TransactionReceipt:
        """Sign, submit and mine a call; return its receipt, which may tell of a failure."""
        transaction = await self.send(key, call)
        self.mine()
        receipt = await self.receipt(transaction)
        if receipt is None:
            raise LedgerBroken("the call was not mined in the next block: lift the congestion or censorship first")
        return receipt
