"""The simulated chain: the ledger in blocks, in this process, with the knobs that tests of bad days need.

Rules:
- A block's time is the injected clock's, in whole seconds, and always later than its parent's.
- The head changes in one synchronous step, with everything that belongs to it, and after it is on disk if it has one:
  whoever awaits sees the chain before or after, never in between.
- A reorganisation drops blocks, puts their transactions back into the pool and mines a longer branch, all in one step.
- No block makes or loses a coin: a block that would stops the chain with LedgerBroken.

`branch` does the work of `SimulatedChain`. `rpc_server` serves one to other processes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.settlement.chain import (
    Block,
    Call,
    ContractChannel,
    Header,
    ModuleCall,
    ModuleEvent,
    SignedCall,
    TransactionReceipt,
)
from tallystick.settlement.contract.state import view
from tallystick.settlement.contract.verdicts.hash_lock import HashVerdict
from tallystick.settlement.ethereum.transactions import FIGURES, Transaction, gas_of, sign_call
from tallystick.settlement.port import ChainFigures, Charge, LedgerChain
from tallystick.settlement.simulated.branch import Branch, ChainSettings, Choice
from tallystick.settlement.simulated.ledger import BlockRecord, Mint, next_nonce
from tallystick.settlement.simulated.module_calls import ask_module
from tallystick.settlement.simulated.shard import OtherShard, Shard
from tallystick.settlement.simulated.world import Layer, allowance_key, balance_key, count_key, owed_key

BLOCKS_MAX = 1_000
"""Blocks that one call of `blocks` returns at most."""


class ChainStatistics(msgspec.Struct, frozen=True):
    """How the chain is doing."""

    height: int
    transactions: int
    """In blocks of the best branch."""
    waiting: int
    reorganisations: int


def _everything(transaction: Transaction) -> bool:
    return True


class SimulatedChain(LedgerChain):
    """A chain of its own, in process. `store` (with `journal.SCHEMA`) makes it durable; without, it is in memory."""

    @checked
    def __init__(
        self,
        settings: ChainSettings,
        clock: Clock,
        *,
        genesis: Iterable[Mint] = (),
        store: Store | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Begin a chain with the coins of `genesis`, or go on with the one in `store`, whose own genesis stands.

        As a `shard`, it sends coins to the others of its group and takes what comes from them.
        """
        self.settings = settings
        """What kind of chain it is."""
        self._branch = Branch(settings, clock, genesis, store, shard)
        self._moved = trio.Event()

    def __repr__(self) -> str:
        return f"<SimulatedChain {self.chain_id} at block {self.newest.header.number}>"

    # --- the chain interface ------------------------------------------------------------------------------------

    @property
    def chain_id(self) -> int:
        return self._branch.rules.chain_id

    @property
    def contract(self) -> Address:
        return self._branch.rules.contract

    @property
    def figures(self) -> ChainFigures:
        return FIGURES

    async def head(self) -> Header:
        await trio.lowlevel.checkpoint()
        return self.newest.header

    async def header(self, number: int) -> Header | None:
        await trio.lowlevel.checkpoint()
        record = self.record(number)
        return record.header if record else None

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        """Return up to `limit` (at most BLOCKS_MAX) blocks from number `first` on."""
        await trio.lowlevel.checkpoint()
        return tuple(record.block for record in self.slice(first, limit))

    async def wait(self, known: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while self.newest.header.hash == known:
            await self._moved.wait()

    async def charge(self, account: Address, call: Call) -> Charge:
        return Charge(gas_of(call))

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        return SignedCall(sign_call(key, self.chain_id, self.contract, call, nonce, price), price)

    async def submit(self, raw: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._branch.submit(raw)

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        await trio.lowlevel.checkpoint()
        return self._branch.receipts.get(transaction)

    async def nonce(self, account: Address) -> int:
        await trio.lowlevel.checkpoint()
        return next_nonce(self._branch.state, account)

    async def fee_price(self) -> int:
        """Return the least price that beats the congestion, and what waits beyond one block's gas."""
        await trio.lowlevel.checkpoint()
        return self._branch.fee_price()

    async def data_price(self) -> int:
        return 0

    async def balance(self, account: Address, asset: Address) -> int:
        await trio.lowlevel.checkpoint()
        return self._branch.state.number(balance_key(asset, account))

    async def owed(self, asset: Address, account: Address) -> int:
        await trio.lowlevel.checkpoint()
        return self._branch.state.number(owed_key(asset, account))

    async def allowance(self, asset: Address, owner: Address) -> int:
        await trio.lowlevel.checkpoint()
        return self._branch.state.number(allowance_key(asset, owner))

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        await trio.lowlevel.checkpoint()
        state = self._branch.state.channel(channel)
        return view(state) if state else None

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        await trio.lowlevel.checkpoint()
        low, high = min(first, second), max(first, second)
        return self._branch.state.number(count_key(low, high, asset))

    async def secret_time(self, digest: bytes) -> int | None:
        await trio.lowlevel.checkpoint()
        return self._branch.state.number(HashVerdict().slot(digest)) or None

    async def view(self, call: ModuleCall, caller: Address = NATIVE) -> bytes:
        await trio.lowlevel.checkpoint()
        return ask_module(self._branch.state, call, caller, self.newest.header.time, self.contract)

    async def told(self, transaction: bytes) -> tuple[ModuleEvent, ...]:
        await trio.lowlevel.checkpoint()
        receipt = self._branch.receipts.get(transaction)
        logs = self.slice(receipt.block.number, 1)[0].logs() if receipt else ()
        return tuple(event for _, hash, event in logs if hash == transaction and isinstance(event, ModuleEvent))

    # --- blocks -------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> BlockRecord:
        """The newest block with all that is in it."""
        return self._branch.newest

    def record(self, number: int) -> BlockRecord | None:
        """Return the block of that number on the best branch, with all that is in it; None above the head."""
        found = self.slice(number, 1) if number >= 0 else ()
        return found[0] if found else None

    def find(self, hash: bytes) -> BlockRecord | None:
        """Return the block of that hash if it is on the best branch."""
        return self._branch.find(hash)

    def slice(self, first: int, limit: int) -> tuple[BlockRecord, ...]:
        """Return up to `limit` (at most BLOCKS_MAX) blocks from number `first` on, with all that is in them.

        Raise InvalidInput if the ledger came from somebody else, and does not reach back as far.
        """
        start = max(first, 0) - self._branch.first
        if start < 0:
            began = self._branch.first
            raise InvalidInput(f"this node began with a snapshot of block {began}: older blocks are at other nodes")
        return tuple(self._branch.records[start : start + min(max(limit, 0), BLOCKS_MAX)])

    def waiting(self) -> tuple[Transaction, ...]:
        """Return the transactions in the pool, each account's in order."""
        return tuple(self._branch.pool)

    def statistics(self) -> ChainStatistics:
        """Return the figures of this moment."""
        return ChainStatistics(
            height=self.newest.header.number,
            transactions=len(self._branch.receipts),
            waiting=len(self._branch.pool),
            reorganisations=self._branch.reorganisations,
        )

    def check_conservation(self) -> None:
        """Raise LedgerBroken unless every unit of every asset is accounted for, counted from nothing."""
        self._branch.check_conservation()

    @property
    def state(self) -> Layer:
        """The state after the newest block, to read."""
        return self._branch.state

    # --- shards ---------------------------------------------------------------------------------------------------

    @property
    def shard(self) -> Shard:
        """Which shard it is; raise InvalidInput if it is none."""
        if self._branch.shard is None:
            raise InvalidInput(f"chain {self.chain_id} is no shard")
        return self._branch.shard

    def others(self) -> tuple[OtherShard, ...]:
        """Return how things stand between this shard and each other one; raise InvalidInput if it is none."""
        return self.shard.others(self._branch.state)

    @checked
    def parcels(self, destination: int, first: int) -> list[bytes]:
        """Return what carries final receipts from number `first` on to another shard, in order: as much as fits."""
        return self.shard.parcels(self._branch.records, destination, first, self._branch.state)

    @checked
    def is_refunded(self, source: int, receipt: int) -> bool:
        """Whether another shard's receipt was sent back instead of paid."""
        return self.shard.is_refunded(self._branch.records, source, receipt)

    @checked
    def offer(self, parcel: bytes) -> int:
        """Take in a parcel; return the number from which on more are wanted of its source. Raise TransactionRefused."""
        return self.shard.offer(parcel, self._branch.state)

    # --- mining, and the knobs ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Mine a block at every interval until cancelled; raise InvalidInput outside of trio."""
        require_trio("a simulated chain's run")
        due = trio.current_time()
        while True:
            due = max(due + self.settings.interval, trio.current_time())
            await trio.sleep_until(due)
            self.mine()

    @checked
    def mine(self, count: int = 1) -> Header:
        """Mine blocks now and return the newest one's header."""
        if count < 1:
            raise InvalidInput(f"at least one block can be mined, not {count}")
        for _ in range(count):
            self._branch.mine()
            self._announce()
        return self.newest.header

    @checked
    def mint(self, order: Mint) -> None:
        """Make coins in the next block. Raise InvalidInput, also if this is no development chain."""
        self._branch.mint(order)

    @checked
    async def order_mint(self, order: Mint) -> None:
        """Ask for coins, as `mint` does; where others make the blocks, they are asked."""
        await trio.lowlevel.checkpoint()
        self.mint(order)

    @checked
    def refuse(self, account: Address, asset: Address = NATIVE, *, refuses: bool = True) -> None:
        """Let an account refuse to be paid in an asset, from the next block on: it is owed instead. For tests."""
        self._branch.refuse(account, asset, refuses=refuses)

    @checked
    def reorganise(self, depth: int, *, length: int | None = None, keep: Choice = _everything) -> Header:
        """Replace the newest `depth` blocks by `length` others (unless told, one more than dropped); return the head.

        Transactions of the dropped blocks for which `keep` is true wait again, and are mined as the knobs allow;
        the others are lost. `length=0` leaves the chain shorter, like a chain node that lags.
        """
        self._branch.reorganise(depth, depth + 1 if length is None else length, keep)
        self._announce()
        return self.newest.header

    @checked
    def congest(self, price: int) -> None:
        """Let others fill the blocks up to this fee price: only what offers more is mined. 0 ends it."""
        self._branch.congestion = price

    @checked
    def censor(self, which: Choice | None) -> None:
        """Mine no transaction for which this is true, until told otherwise. None ends it."""
        self._branch.censors = which or (lambda transaction: False)

    def _announce(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()
