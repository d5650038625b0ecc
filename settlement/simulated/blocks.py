"""One block of the simulated ledger: what it holds, how it is built, how it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import msgspec

from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ZERO32, Address
from tallystick.settlement.chain import Block, Event, Header, TransactionReceipt
from tallystick.settlement.contract.state import ChannelStorage, Parameters
from tallystick.settlement.errors import read_revert
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.transactions import Transaction, gas_needed
from tallystick.settlement.simulated.ledger import Execution, Mint, affordable, execute, mint
from tallystick.settlement.simulated.world import Layer, check_conservation, nonce_key

NO_PARENT = ZERO32
"""The parent of the genesis block."""

MINER = Address(keccak(b"tallystick: the account that earns the fees")[12:])
"""Earns the fees of all blocks. Nobody has its key, so fees are out of circulation but accounted for."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A transaction in a block, and what came of it."""

    hash: bytes
    raw: bytes
    execution: Execution


class BlockRecord(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A whole block, and what takes its effects back."""

    header: Header
    mints: tuple[Mint, ...]
    entries: tuple[Entry, ...]
    undo: tuple[tuple[bytes, int | ChannelStorage | None], ...]

    @cached_property
    def block(self) -> Block:
        """The block as the chain interface shows it: one for all who follow the chain."""
        return Block(self.header, tuple(event for _, _, event in self.logs()))

    def logs(self) -> Iterator[tuple[int, bytes, Event]]:
        """Yield each event with the index and hash of its transaction."""
        for index, entry in enumerate(self.entries):
            for event in entry.execution.events:
                yield index, entry.hash, event

    def receipts(self) -> Iterator[TransactionReceipt]:
        """Yield the receipt of each transaction."""
        for entry in self.entries:
            done = entry.execution
            revert, sentence = read_revert(done.reason)
            yield TransactionReceipt(entry.hash, self.header, done.success, done.fee, sentence, revert)


class Plan(msgspec.Struct, frozen=True):
    """What a block is built from, besides transactions."""

    rules: Parameters
    parent: Header | None
    """None for the genesis block."""
    time: int
    gas_limit: int
    salt: int = 0
    """Tells blocks of different branches apart that are otherwise equal."""


def build_block(state: Layer, plan: Plan, mints: Sequence[Mint], candidates: Iterable[Transaction]) -> BlockRecord:
    """Return a block filled from `candidates` in their order; its effects are in `state`, a fresh layer.

    Candidates may look at `state`, to see nonces move on. One that does not fit or whose sender cannot pay its fee is
    left out. Raise LedgerBroken if a coin would be made or lost.
    """
    at = Deployment(plan.rules.chain_id, plan.rules.contract)
    for order in mints:
        mint(state, plan.rules, order)
    entries: list[Entry] = []
    gas = 0
    for transaction in candidates:
        if gas + gas_needed(transaction.envelope, at) > plan.gas_limit or not affordable(state, transaction):
            continue
        execution = execute(state, plan.rules, transaction, plan.time, MINER)
        entries.append(Entry(transaction.hash, transaction.raw, execution))
        gas += execution.gas
    undo = state.before()
    check_conservation(undo, state.changes, plan.rules.contract)
    return BlockRecord(_header(plan, mints, entries), tuple(mints), tuple(entries), tuple(undo.items()))


def next_nonce(state: Layer, account: Address) -> int:
    """Return how many of the account's transactions are in blocks, as seen from `state`."""
    return state.number(nonce_key(account))


def _header(plan: Plan, mints: Sequence[Mint], entries: Sequence[Entry]) -> Header:
    number = plan.parent.number + 1 if plan.parent else 0
    parent = plan.parent.hash if plan.parent else NO_PARENT
    content = b"".join(entry.hash for entry in entries)
    content += b"".join(order.account + order.asset + order.amount.to_bytes(16, "big") for order in mints)
    numbers = b"".join(value.to_bytes(8, "big") for value in (plan.rules.chain_id, number, plan.time, plan.salt))
    return Header(number, keccak(parent + numbers + keccak(content)), parent, plan.time)
