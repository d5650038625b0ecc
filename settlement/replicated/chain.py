"""The chain of one validator, as its JSON-RPC node serves it: the consensus makes the blocks, and none is undone.

`submit` hands transactions to the engine, which tells them to all validators.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Store
from tallystick.settlement.chain import Header
from tallystick.settlement.ethereum.transactions import decode_transaction
from tallystick.settlement.execution.prepared import ALONE, Crew
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import SALT_SIZE, MintOrder, encode_order
from tallystick.settlement.replicated.engine_rpc import EngineClient
from tallystick.settlement.replicated.genesis import Genesis
from tallystick.settlement.simulated.branch import Choice
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.ledger import Mint


class ReplicatedChain(SimulatedChain):
    """The ledger of a validator. It moves when the application commits a block."""

    def __init__(
        self,
        genesis: Genesis,
        engine: EngineClient,
        entropy: Entropy,
        *,
        store: Store | None = None,
        crew: Crew = ALONE,
    ) -> None:
        """Begin with the genesis block that all validators have, or go on with what is in `store`. `crew` helps."""
        super().__init__(genesis.settings(), lambda: genesis.time, genesis=genesis.mints, store=store)
        self.application = Application(self._branch, genesis, crew)
        self._engine = engine
        self._entropy = entropy

    def on_commit(self) -> None:
        """Tell whoever waits that there is a block."""
        self._announce()

    async def submit(self, raw: bytes) -> bytes:
        """See `Chain`; raise TransactionRefused, or ChainUnavailable if the engine does not answer."""
        hash = decode_transaction(raw, self.chain_id).hash
        if hash not in self._branch.receipts:
            await self._hand_over(raw)
        return hash

    async def order_mint(self, order: Mint) -> None:
        """See `SimulatedChain`."""
        await self._hand_over(encode_order(MintOrder(order, self._entropy(SALT_SIZE))))

    async def _hand_over(self, raw: bytes) -> None:
        """Check a transaction here and now, and give it to the engine, which would say the same 20 ms later."""
        self.application.check(raw)
        await self._engine.broadcast(raw)

    def mint(self, order: Mint) -> None:
        """Refuse: the validators are asked, by `order_mint`."""
        raise InvalidInput("the validators make the coins of this chain: order them")

    def refuse(self, account: Address, asset: Address = NATIVE, *, refuses: bool = True) -> None:
        """Refuse: this validator alone would know of it, and could agree with no other any more."""
        raise InvalidInput("who refuses what is nothing that one validator can decide")

    def mine(self, count: int = 1) -> Header:
        """Refuse: the validators make blocks."""
        raise InvalidInput("the validators make the blocks of this chain")

    def reorganise(
        self, depth: int, *, length: int | None = None, keep: Choice | Callable[..., bool] | None = None
    ) -> Header:
        """Refuse: a block that was agreed on is never replaced."""
        raise InvalidInput("a block that the validators agreed on is never replaced")

    async def run(self) -> None:
        """Wait: nothing is mined here."""
        await trio.sleep_forever()
