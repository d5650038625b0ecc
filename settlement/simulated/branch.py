"""The best branch of the simulated chain and the transactions that wait for it; `simulated` is its trio shell.

Everything here is synchronous. The branch changes in one place, `_move`: drop blocks, build blocks, make both durable,
and only then let them be seen. If any of it fails, the branch is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import Options
from tallystick.settlement.chain import TransactionReceipt
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import LedgerBroken, Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.transactions import Transaction, decode_transaction, read_envelope
from tallystick.settlement.simulated.crossing import is_shard
from tallystick.settlement.simulated.journal import (
    BranchChanged,
    ChainFounded,
    LedgerRestored,
    read_fact,
    read_records,
    read_world,
)
from tallystick.settlement.simulated.ledger import BlockRecord, Mint, Plan, build_block, mint, next_nonce
from tallystick.settlement.simulated.mempool import MINIMUM_PRICE, Mempool
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.simulated.world import (
    Changes,
    Layer,
    World,
    apply_changes,
    balance_key,
    check_conservation,
    refusal_key,
)

ADJUDICATOR = Address(keccak(b"tallystick: the adjudicator")[12:])
"""Where the adjudicator is on a simulated chain, unless told otherwise."""

MINTS_MAX = 1_000
"""Mints that may wait for the next block."""

Choice = Callable[[Transaction], bool]
"""Picks transactions."""


class ChainSettings(Options, frozen=True, kw_only=True):
    """What kind of chain it is. `chain_id`, `contract` and `reward_bps` are fixed once the chain has begun."""

    chain_id: int = 1337
    contract: Address = ADJUDICATOR
    reward_bps: int = 1_000
    interval: float = 1.0
    """Seconds between two blocks, when they are mined by themselves."""
    gas_limit: int = 30_000_000
    """Gas of one block."""
    pool: int = 10_000
    """Transactions that may wait."""
    dev: bool = False
    """Whether coins can be minted on demand."""


_RULES: Codec[Parameters] = Codec(Parameters, canonical=False)


def _nothing(transaction: Transaction) -> bool:
    return False


class Branch:
    """Blocks, the state after them, and the pool. With a `store` (of `journal.SCHEMA`) it outlives the process."""

    def __init__(
        self,
        settings: ChainSettings,
        clock: Clock,
        genesis: Iterable[Mint],
        store: Store | None,
        shard: Shard | None = None,
    ) -> None:
        """Begin a branch with a genesis block, or go on with what is in `store`; then its own genesis stands."""
        self.settings = settings
        self.shard = shard
        """Which shard it is, if it is one."""
        self.rules = Parameters(settings.chain_id, settings.contract, settings.reward_bps)
        if shard is not None:
            shard.check_chain(self.rules.chain_id, self.rules.contract)
        self.congestion = 0
        self.censors: Choice = _nothing
        self.pool = Mempool(settings.pool)
        self.records: list[BlockRecord] = []
        self.receipts: dict[bytes, TransactionReceipt] = {}
        self._by_hash: dict[bytes, BlockRecord] = {}
        self.reorganisations = 0
        self.history = b""
        """What stands for the blocks before the first that is here; empty if that is the genesis block."""
        self._at = Deployment(settings.chain_id, settings.contract)
        self._clock = clock
        self._store = store
        self._world: World = {}
        self._mints: tuple[Mint, ...] = ()
        if store is None or not self._load(store):
            self._mints = tuple(genesis)
            self._move(0, 1, _nothing)
        elif shard is not None:
            shard.check(self.state)
            shard.on_moved(0, self.records, self.state)
        elif is_shard(self.state):
            raise InvalidInput("the data is of a shard, which has signed blocks for others: run it with its group")

    @property
    def newest(self) -> BlockRecord:
        """The newest block."""
        return self.records[-1]

    @property
    def world(self) -> World:
        """All entries after the newest block, to read."""
        return self._world

    @property
    def state(self) -> Layer:
        """The state after the newest block, to read."""
        return Layer(self._world)

    def find(self, hash: bytes) -> BlockRecord | None:
        """Return the block of that hash, None if it is not here."""
        return self._by_hash.get(hash)

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool, unless it is known; return its hash. Raise TransactionRefused."""
        transaction = decode_transaction(raw, self.rules.chain_id)
        if transaction.hash in self.pool or transaction.hash in self.receipts:
            return transaction.hash
        return self.admit(transaction, read_envelope(transaction.envelope, self._at).gas)

    def admit(self, transaction: Transaction, needed: int) -> bytes:
        """Take a transaction, which needs so much gas, into the pool; return its hash. Raise TransactionRefused."""
        if not needed <= transaction.gas <= self.settings.gas_limit:
            raise TransactionRefused(
                f"the transaction needs {needed} gas, and a block has {self.settings.gas_limit}; it allows "
                f"{transaction.gas}",
                Refusal.MALFORMED,
            )
        upcoming = next_nonce(self.state, transaction.sender)
        held = self.state.number(balance_key(NATIVE, transaction.sender))
        if transaction.nonce >= upcoming and held < transaction.cost_max:
            raise TransactionRefused(
                f"the transaction may cost {transaction.cost_max}, its sender holds {held}", Refusal.INSUFFICIENT_FUNDS
            )
        self.pool.add(transaction, upcoming, held)
        return transaction.hash

    def fee_price(self) -> int:
        """Return the least price that beats the congestion, and what waits beyond one block's gas."""
        least = max(MINIMUM_PRICE, self.congestion + 1)
        if self.pool.gas <= self.settings.gas_limit:
            return least
        gas = 0
        for waiting in sorted(self.pool.ready(), key=lambda transaction: -transaction.price):
            gas += waiting.gas
            if gas > self.settings.gas_limit:
                return max(least, waiting.price + 1)
        return least

    def mint(self, order: Mint) -> None:
        """Make coins in the next block. Raise InvalidInput, also if this is no development chain."""
        if not self.settings.dev:
            raise InvalidInput("coins can only be minted on a development chain (--dev)")
        if len(self._mints) >= MINTS_MAX:
            raise InvalidInput(f"{MINTS_MAX} mints wait for the next block already; mine one first")
        trial = self.state
        for waiting in (*self._mints, order):
            mint(trial, self.rules, waiting)
        self._mints = (*self._mints, order)

    def refuse(self, account: Address, asset: Address = NATIVE, *, refuses: bool = True) -> None:
        """Let an account refuse to be paid in an asset, or take it again, from the next block on. For tests.

        On a real chain the code at an account does so, or a token that blocks it. It is not stored.
        """
        apply_changes(self._world, {refusal_key(asset, account): 1 if refuses else None})

    def mine(self) -> None:
        """Add one block."""
        self._move(0, 1, _nothing)

    def reorganise(self, depth: int, length: int, keep: Choice) -> None:
        """Replace the newest `depth` blocks by `length` new ones; raise InvalidInput if there are not so many."""
        if not 1 <= depth < len(self.records) or length < 0:
            raise InvalidInput(f"from 1 to {len(self.records) - 1} blocks can be replaced, not {depth} by {length}")
        if self.shard is not None:
            self.shard.check_reorganisation(depth, length)
        self._move(depth, length, keep)

    def append(self, record: BlockRecord, changes: Changes) -> None:
        """Take a block on the newest one that others have agreed on, with its effects: durable first, then seen."""
        if record.header.parent != self.newest.header.hash:
            raise LedgerBroken(f"block {record.header.number} does not follow the newest one")
        if self._store is not None:
            self._store.commit([BranchChanged(record.header.number, (record,), changes, self.reorganisations)])
        apply_changes(self._world, changes)
        self.records.append(record)
        self._remember([record])
        self._look_at_pool()

    @property
    def first(self) -> int:
        """Number of the oldest block that is here: 0, unless the ledger came from somebody else."""
        return self.records[0].header.number

    def restore(self, record: BlockRecord, world: World, history: bytes) -> None:
        """Begin anew after a block that others agreed on, in place of all that is here: durable first, then seen.

        `history` is kept for whoever asks what stands for the blocks before. Raise LedgerBroken if coins are missing.
        """
        check_conservation({}, world, self.rules.contract)
        if self._store is not None:
            self._store.commit([LedgerRestored(record, world, history)])
        self._world, self.records, self.history = world, [record], history
        self.receipts.clear()
        self._by_hash.clear()
        self._remember(self.records)

    def check_conservation(self) -> None:
        """Raise LedgerBroken unless every unit of every asset is accounted for, counted from nothing."""
        check_conservation({}, self._world, self.rules.contract)

    def _move(self, depth: int, length: int, keep: Choice) -> None:
        """Drop `depth` blocks, whose transactions wait again if `keep` says so, and add `length` others."""
        kept = len(self.records) - depth
        dropped = self.records[kept:]
        total = self.state
        mints = self._mints
        for record in reversed(dropped):
            total.changes.update(record.undo)
            mints = (*record.mints, *mints)
        for record in dropped:
            for entry in record.entries:
                transaction = decode_transaction(entry.raw, self.rules.chain_id)
                if keep(transaction):
                    self.pool.restore(transaction)
        reorganisations = self.reorganisations + (depth > 0)
        added: list[BlockRecord] = []
        for remaining in reversed(range(length)):
            parent = added[-1] if added else self.records[kept - 1] if kept else None
            added.append(self._build(total, parent, mints, remaining, reorganisations))
            mints = ()
        if self._store is not None:
            self._store.commit([BranchChanged(kept, tuple(added), total.changes, reorganisations)])
        apply_changes(self._world, total.changes)
        self._mints, self.reorganisations = mints, reorganisations
        self.records[kept:] = added
        for record in dropped:
            del self._by_hash[record.header.hash]
            for entry in record.entries:
                self.receipts.pop(entry.hash, None)
        self._remember(added)
        if self.shard is not None:
            self.shard.on_moved(kept, added, self.state)
        self._look_at_pool()

    def _build(
        self, total: Layer, parent: BlockRecord | None, mints: tuple[Mint, ...], remaining: int, salt: int
    ) -> BlockRecord:
        """Build one block on `parent` and put its changes into `total`. `remaining` more follow at once."""
        header = parent.header if parent else None
        earliest = header.time + 1 if header else 1
        time = max(earliest, int(self._clock()) - remaining)
        state = Layer(total)
        if self.shard is not None and header is None:
            state.changes.update(self.shard.begin())
        arrivals = self.shard.arrivals(state) if self.shard is not None else []
        candidates = self.pool.candidates(
            lambda account: next_nonce(state, account),
            lambda transaction: transaction.price > self.congestion and not self.censors(transaction),
        )
        plan = Plan(self.rules, header, time, self.settings.gas_limit, salt)
        record = build_block(state, plan, mints, candidates, arrivals)
        total.changes.update(state.changes)
        return record

    def _look_at_pool(self) -> None:
        state = self.state
        self.pool.forget_used(
            lambda account: next_nonce(state, account), lambda account: state.number(balance_key(NATIVE, account))
        )

    def _remember(self, records: Iterable[BlockRecord]) -> None:
        for record in records:
            self._by_hash[record.header.hash] = record
            for receipt in record.receipts():
                self.receipts[receipt.transaction] = receipt

    def _load(self, store: Store) -> bool:
        """Go on with what is in the store; return whether there was anything."""
        identity = read_fact(store, "identity")
        if identity is None:
            store.commit([ChainFounded(_RULES.encode(self.rules))])
            return False
        if identity != _RULES.encode(self.rules):
            raise InvalidInput(
                f"the data is of another chain: {_RULES.decode(identity)}; use its settings or another directory"
            )
        self._world = read_world(store)
        self.records = read_records(store)
        self.reorganisations = read_fact(store, "salt") or 0
        self.history = read_fact(store, "history") or b""
        self._remember(self.records)
        for before, after in zip(self.records, self.records[1:], strict=False):
            if after.header.parent != before.header.hash:
                raise LedgerBroken(f"the stored block {after.header.number} does not follow the one before it")
        self.check_conservation()
        return bool(self.records)
