"""What a block of ordered transactions does to the ledger: the same on every validator, whatever it has seen before.

Pure: from the state after the parent and the block, as the consensus orders it, follow the ledger's block, its effects,
and the app hash. That is one hash over the state root and over all blocks so far, so that whoever trusts it can check a
whole copy of the ledger. The block's time is the consensus's, in whole seconds, and later than its parent's: where
blocks come faster than one in a second, chain time runs ahead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.chain import Header
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.transactions import Transaction, decode_transaction
from tallystick.settlement.execution.prepared import Prepared, prepare
from tallystick.settlement.modules.validator_blocks import (
    BlockVote,
    Offence,
    PowerUpdate,
    StakeFounding,
    begin_block,
    end_block,
    found_stakes,
)
from tallystick.settlement.modules.validators import VALIDATORS
from tallystick.settlement.simulated.journal import encode_record
from tallystick.settlement.simulated.ledger import (
    MINER,
    BlockRecord,
    Entry,
    Execution,
    Mint,
    Plan,
    build_block,
    mint,
    next_nonce,
)
from tallystick.settlement.simulated.mempool import MINIMUM_PRICE
from tallystick.settlement.simulated.module_calls import ModuleRun
from tallystick.settlement.simulated.roots import StateTree, TreeChange
from tallystick.settlement.simulated.world import Changes, Layer, World

NO_HISTORY = bytes(32)
"""The history before the genesis block."""

MINT_MARK = b"\xff"
"""How a mint begins that travels as a transaction; Ethereum's begin with their type."""


SALT_SIZE = 8
"""Bytes of a mint's salt."""

MINT_BYTES = 128
"""Bytes of a mint at most, as it travels."""


class MintOrder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Coins that somebody asks for on a development chain; `salt` tells equal orders apart."""

    mint: Mint
    salt: bytes


_ORDERS: Codec[MintOrder] = Codec(MintOrder)

Work: TypeAlias = Prepared | MintOrder


Reading: TypeAlias = Callable[[bytes, "Rules"], Work]
"""How a transaction is read."""


class ProposedBlock(msgspec.Struct, frozen=True):
    """A block as the consensus gives it: two that are equal have equal effects."""

    height: int
    time: int
    """In whole seconds."""
    transactions: tuple[bytes, ...]
    votes: tuple[BlockVote, ...] = ()
    """On the block before."""
    offences: tuple[Offence, ...] = ()
    """Of which there is evidence in this block."""


class Rules(msgspec.Struct, frozen=True):
    """What is fixed for all blocks."""

    parameters: Parameters
    gas_limit: int
    dev: bool
    """Whether coins can be minted on demand."""
    founding: StakeFounding | None = None
    """With what stakes the chain begins, if stake decides."""

    @property
    def at(self) -> Deployment:
        """Which adjudicator on which chain."""
        return Deployment(self.parameters.chain_id, self.parameters.contract)


class Base(msgspec.Struct, frozen=True):
    """What a block stands on. The world and the tree are read only."""

    world: World
    tree: StateTree
    history: bytes
    parent: Header


class Decision(msgspec.Struct, frozen=True):
    """What a block does."""

    record: BlockRecord
    changes: Changes
    tree: TreeChange
    history: bytes
    results: tuple[Execution | None, ...]
    """In the order of its transactions; None: it has no place in this block, and did nothing."""
    updates: tuple[PowerUpdate, ...] = ()
    """Of voting powers, from two blocks later on."""

    @property
    def app_hash(self) -> bytes:
        """What validators agree on with the next block."""
        return app_hash(self.tree.root, self.history)


def app_hash(root: bytes, history: bytes) -> bytes:
    """Return the hash of a ledger: of all its entries, and of all its blocks."""
    return hashlib.sha256(root + history).digest()


def history_after(history: bytes, record: BlockRecord) -> bytes:
    """Return the hash of all blocks up to this one.

    By which rule a call failed is part of it. The sentence that says so is not: a part of it may be in the words of a
    library, which are others in its next release, or on another machine.
    """
    record = without_words(record)
    return hashlib.sha256(history + hashlib.sha256(encode_record(record)).digest()).digest()


def without_words(record: BlockRecord) -> BlockRecord:
    """Return a block without the sentences that say why calls failed."""
    entries = tuple(map(_without_words, record.entries))
    return record if entries == record.entries else replace(record, entries=entries)


def _without_words(entry: Entry) -> Entry:
    done = entry.execution
    if not done.reason and not done.failures:
        return entry
    failures = tuple(replace(failure, reason="") for failure in done.failures)
    return replace(entry, execution=replace(done, reason=done.reason.partition(":")[0], failures=failures))


def encode_order(order: MintOrder) -> bytes:
    """Return a mint as a transaction."""
    return MINT_MARK + _ORDERS.encode(order)


def read_work(raw: bytes, rules: Rules) -> Work:
    """Return what a transaction of the consensus's is; raise TransactionRefused if it is nothing for this chain."""
    if raw[:1] != MINT_MARK:
        transaction = decode_transaction(raw, rules.parameters.chain_id)
        return check_limits(prepare(transaction, rules.at), rules)
    if not rules.dev:
        raise TransactionRefused("coins can only be minted on a development chain (--dev)", Refusal.MALFORMED)
    if len(raw) > MINT_BYTES:
        raise TransactionRefused(f"a mint has at most {MINT_BYTES} bytes, not {len(raw)}", Refusal.MALFORMED)
    try:
        order = _ORDERS.decode(raw[1:])
    except (InvalidInput, MalformedMessage) as error:
        raise TransactionRefused(f"this is no mint: {error}", Refusal.MALFORMED) from error
    if len(order.mint.account) != 20 or len(order.mint.asset) != 20 or len(order.salt) != SALT_SIZE:
        raise TransactionRefused(
            f"a mint names an account and an asset, of 20 bytes each, and has a salt of {SALT_SIZE}", Refusal.MALFORMED
        )
    return order


def check_limits(work: Prepared, rules: Rules) -> Prepared:
    """Return it; raise TransactionRefused if it allows too little or too much gas, or pays too little for it."""
    transaction, needed = work.transaction, work.reading.gas
    if not needed <= transaction.gas <= rules.gas_limit:
        raise TransactionRefused(
            f"the transaction needs {needed} gas, and a block has {rules.gas_limit}; it allows {transaction.gas}",
            Refusal.MALFORMED,
        )
    if transaction.price < MINIMUM_PRICE:
        raise TransactionRefused(f"the least fee price is {MINIMUM_PRICE}", Refusal.UNDERPRICED)
    return work


def decide(base: Base, rules: Rules, block: ProposedBlock, read: Reading = read_work) -> Decision:
    """Return what a block does. Transactions that have no place in it do nothing: whoever proposed them lied."""
    state = Layer(base.world)
    time = max(base.parent.time + 1, block.time)
    if rules.founding is not None:
        _begin(state, rules, rules.founding, block, time)
    trial = Layer(state)
    works: list[Work | None] = []
    for raw in block.transactions:
        try:
            works.append(read(raw, rules))
        except TransactionRefused:
            works.append(None)
    minted: set[int] = set()
    for index, work in enumerate(works):
        if isinstance(work, MintOrder) and _mints(trial, rules, work):
            minted.add(index)
    done: dict[int, int] = {}
    """Which entry each became."""

    def candidates() -> Iterator[Prepared]:
        for index, work in enumerate(works):
            if isinstance(work, Prepared) and _is_next(state, work.transaction):
                yield work
                if not _is_next(state, work.transaction):
                    done[index] = len(done)

    mints = [work.mint for index, work in enumerate(works) if index in minted and isinstance(work, MintOrder)]
    record = build_block(state, Plan(rules.parameters, base.parent, time, rules.gas_limit), mints, candidates())
    updates = end_block(_run(state, rules, time, MINER)) if rules.founding is not None else ()
    record = replace(record, undo=tuple(sorted(state.before().items())))
    results = tuple(
        record.entries[done[index]].execution if index in done else _MINTED if index in minted else None
        for index in range(len(works))
    )
    history = history_after(base.history, record)
    return Decision(record, state.changes, base.tree.after(state.changes), history, results, updates)


def _begin(state: Layer, rules: Rules, founding: StakeFounding, block: ProposedBlock, time: int) -> None:
    """Do what a block does to stakes before its transactions."""
    if block.height == 1:
        found_stakes(partial(_run, state, rules, time), founding)
    begin_block(_run(state, rules, time, MINER), block.height, block.time, block.votes, block.offences)


def _run(state: Layer, rules: Rules, time: int, caller: Address) -> ModuleRun:
    return ModuleRun(state, VALIDATORS, caller, time, [], 1, rules.parameters.contract)


def _is_next(state: Layer, transaction: Transaction) -> bool:
    return transaction.nonce == next_nonce(state, transaction.sender)


_MINTED = Execution(True, 0, 0, "", ())


def _mints(trial: Layer, rules: Rules, order: MintOrder) -> bool:
    try:
        mint(trial, rules.parameters, order.mint)
    except InvalidInput:
        return False
    return True
