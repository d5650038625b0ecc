"""A chain of blocks in memory, on py-evm by Prague's rules: a pool of transactions, blocks when they are asked for.

Nothing here knows of JSON or sockets. There is no consensus to wait for: the newest block is final.

On import, py-evm and what it imports raise Python's recursion limit, which is put back; a process that is such a node
takes RECURSION_LIMIT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import rlp
from rlp.sedes import big_endian_int

from tallystick.settlement.ethereum.recursion import kept_recursion_limit

with kept_recursion_limit():
    from eth import EVM_RECURSION_LIMIT
    from eth.chains.base import MiningChain
    from eth.db import get_db_backend
    from eth.exceptions import Revert, UnrecognizedTransactionType
    from eth.rlp.accounts import Account
    from eth.vm.forks.prague import PragueVM
    from eth.vm.spoof import SpoofTransaction
    from eth_keys.datatypes import PrivateKey
    from eth_typing import BlockNumber
    from eth_utils.crypto import keccak
    from eth_utils.exceptions import ValidationError
    from trie.hexary import HexaryTrie

Block: TypeAlias = Any
Header: TypeAlias = Any
Transaction: TypeAlias = Any
State: TypeAlias = Any
Computation: TypeAlias = Any
"""Py-evm's objects. Its own types are those of all forks at once, in which most fields may be missing."""

RECURSION_LIMIT: int = EVM_RECURSION_LIMIT
"""What py-evm needs for calls as deep as a contract's may be: 1,024."""

RICH = PrivateKey(bytes(31) + b"\x01")
"""The key of the account that holds all coins at the beginning: known to everybody."""

COINS = 10**27
GAS_LIMIT = 60_000_000
NODE_GAS_MAX = 2**24
"""The most gas of a question or an estimate."""

ESTIMATE_TOLERANCE = 500
"""By how much more gas than a call needs it may be estimated."""

STIPEND = 2_300
"""Gas that a transfer of coins gives to who gets them."""

RAISE = 10
"""Percent by which a replacement raises both fees at least."""

FREE: dict[str, Any] = {"max_fee_per_gas": 0, "max_priority_fee_per_gas": 0, "access_list": ()}


class PoolRefusal(Exception):
    """A transaction that the pool does not take; the text is geth's where geth has one."""


class CallFailure(Exception):
    """A question's call that did not end well. `output` is what the contract said, None where it ran out of gas."""

    def __init__(self, text: str, output: bytes | None) -> None:
        super().__init__(text)
        self.output = output


class Mined(NamedTuple):
    """A transaction in a block."""

    header: Header
    place: int
    """In its block."""
    transaction: Transaction
    succeeded: bool
    gas: int
    """It alone used."""
    cumulative: int
    """It and those before it in the block used."""
    bloom: int
    logs: tuple[Any, ...]
    first_log: int
    """Number of its first log in the block."""


class CallQuestion(msgspec.Struct, frozen=True):
    """A call as a question."""

    sender: bytes = bytes(20)
    to: bytes = b""
    data: bytes = b""
    value: int = 0
    gas: int = NODE_GAS_MAX


class AccountProof(NamedTuple):
    """An account, the nodes of the trie that prove it, and of each slot its value and the nodes that prove that."""

    fields: Account
    nodes: list[bytes]
    slots: list[tuple[int, list[bytes]]]


class PythonChain:
    """The chain. All methods are synchronous; none but `mine` changes what is on it."""

    def __init__(self, chain_id: int, time: int) -> None:
        """`time` is that of the first block, in seconds since 1970."""
        genesis = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": time, "extra_data": b"", "coinbase": bytes(20)}
        rich = {"balance": COINS, "nonce": 0, "code": b"", "storage": {}}
        made: Any = type("Chain", (_Chain,), {"chain_id": chain_id})
        self._chain: Any = made.from_genesis(get_db_backend(), genesis, {RICH.public_key.to_canonical_address(): rich})
        self.chain_id = chain_id
        self.mined: dict[bytes, Mined] = {}
        self._blocks: list[tuple[Block, tuple[Mined, ...]]] = [(self._chain.get_canonical_block_by_number(0), ())]
        self._numbers = {self._blocks[0][0].hash: 0}
        self._pool: dict[bytes, dict[int, Transaction]] = {}
        self._known: dict[bytes, Transaction] = {}

    # --- blocks

    @property
    def head(self) -> Header:
        """The newest block's header."""
        return self._blocks[-1][0].header

    def block(self, number: int) -> tuple[Block, tuple[Mined, ...]] | None:
        """Return a block and its transactions; None above the head."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def number_of(self, hash: bytes) -> int | None:
        """Return the number of the block with this hash."""
        return self._numbers.get(hash)

    def next_base_fee(self, number: int) -> int:
        """Return the base fee of the block after this one, by EIP-1559."""
        after = self.block(number + 1)
        header = self._chain.header if after is None else after[0].header
        return int(header.base_fee_per_gas)

    def mine(self, time: int) -> None:
        """Make a block at a time, which must be after the newest one's, of what waits and can be paid for."""
        chain, done = self._chain, list[tuple[Transaction, Computation]]()
        chain.set_header_timestamp(time)
        while (transaction := self._best(chain.header.base_fee_per_gas)) is not None:
            self._forget(transaction)
            try:
                _, _, computation = chain.apply_transaction(transaction)
            except ValidationError:  # its sender's coins are gone, or the block is full: whoever sent it sends it again
                continue
            done.append((transaction, computation))
        block = chain.mine_block()
        self._numbers[block.hash] = block.number
        self._blocks.append((block, tuple(self._placed(block, done))))
        self.mined.update((each.transaction.hash, each) for each in self._blocks[-1][1])

    def _best(self, base_fee: int) -> Transaction | None:
        """Return of the transactions that can be mined now the one with the highest tip."""
        state = self._chain.get_vm(self._chain.header).state
        ready = [
            transaction
            for sender, waiting in self._pool.items()
            if (transaction := waiting.get(state.get_nonce(sender))) is not None
            and transaction.max_fee_per_gas >= base_fee
            and self._chain.header.gas_used + transaction.gas <= GAS_LIMIT
        ]
        return max(ready, key=lambda each: tip_of(each, base_fee), default=None)

    def _placed(self, block: Block, done: list[tuple[Transaction, Computation]]) -> Iterator[Mined]:
        cumulative, logs = 0, 0
        for index, receipt in enumerate(block.get_receipts(self._chain.chaindb)):
            transaction, computation = done[index]
            gas, told = receipt.gas_used - cumulative, tuple(receipt.logs)
            cumulative = receipt.gas_used
            succeeded = not computation.is_error
            yield Mined(block.header, index, transaction, succeeded, gas, cumulative, receipt.bloom, told, logs)
            logs += len(told)

    # --- transactions

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool and return its hash; raise PoolRefusal."""
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            sender = transaction.sender
            transaction.validate()
        except (rlp.exceptions.RLPException, UnrecognizedTransactionType, ValidationError, ValueError) as error:
            raise PoolRefusal(f"rlp: this is no transaction: {error}") from error
        self._check(transaction, sender)
        self._pool.setdefault(sender, {})[transaction.nonce] = transaction
        self._known[transaction.hash] = transaction
        return bytes(transaction.hash)

    def give(self, to: bytes, value: int) -> bytes:
        """Let the rich account send coins; return the transaction's hash."""
        sender = RICH.public_key.to_canonical_address()
        waiting = self._pool.get(sender, {})
        nonce = max(waiting, default=self.state().get_nonce(sender) - 1) + 1
        fields = {**FREE, "max_fee_per_gas": 10 * self.head.base_fee_per_gas, "max_priority_fee_per_gas": 10**9}
        unsigned = self._builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id, nonce=nonce, gas=21_000, to=to, value=value, data=b"", **fields
        )
        return self.submit(unsigned.as_signed_transaction(RICH).encode())

    def find(self, hash: bytes) -> Transaction | None:
        """Return a transaction that waits, or is in a block."""
        return self.mined[hash].transaction if hash in self.mined else self._known.get(hash)

    def waits(self, account: bytes) -> int:
        """Return the account's next nonce after what waits."""
        nonce = int(self.state().get_nonce(account))
        while nonce in self._pool.get(account, {}):
            nonce += 1
        return nonce

    def _check(self, transaction: Transaction, sender: bytes) -> None:
        """Raise PoolRefusal unless the pool takes this transaction."""
        state = self.state()
        before = self._pool.get(sender, {}).get(transaction.nonce)
        if transaction.hash in self._known:
            raise PoolRefusal("already known")
        if getattr(transaction, "chain_id", self.chain_id) != self.chain_id:
            raise PoolRefusal("invalid chain id for signer")
        if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
            raise PoolRefusal("max priority fee per gas: tip higher than fee cap")
        if transaction.nonce < state.get_nonce(sender):
            raise PoolRefusal(f"nonce too low: next nonce {state.get_nonce(sender)}, tx nonce {transaction.nonce}")
        if transaction.gas > GAS_LIMIT:
            raise PoolRefusal("exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise PoolRefusal(
                f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}"
            )
        if state.get_balance(sender) < transaction.gas * transaction.max_fee_per_gas + transaction.value:
            raise PoolRefusal("insufficient funds for gas * price + value")
        if before is not None and not all(
            100 * getattr(transaction, fee) >= (100 + RAISE) * getattr(before, fee)
            for fee in ("max_fee_per_gas", "max_priority_fee_per_gas")
        ):
            raise PoolRefusal("replacement transaction underpriced")

    def _forget(self, transaction: Transaction) -> None:
        """Take a transaction out of the pool."""
        self._known.pop(transaction.hash, None)
        waiting = self._pool.get(transaction.sender, {})
        waiting.pop(transaction.nonce, None)

    # --- state

    def state(self, number: int | None = None) -> State:
        """Return the state after a block, by default the newest, as a place where gas costs nothing."""
        header = self.head if number is None else self._blocks[number][0].header
        return self._chain.get_vm(header.copy(base_fee_per_gas=0)).state

    def proof(self, account: bytes, slots: Sequence[int], number: int) -> AccountProof:
        """Return what proves an account and these slots of its storage after a block (EIP-1186)."""
        tries, root = self._chain.chaindb.db, self._blocks[number][0].header.state_root
        found, nodes = _proven(tries, root, account)
        fields = rlp.decode(found, Account) if found else Account()
        storage = [_proven(tries, fields.storage_root, slot.to_bytes(32, "big")) for slot in slots]
        values = [(rlp.decode(value, big_endian_int) if value else 0, proof) for value, proof in storage]
        return AccountProof(fields, nodes, values)

    def call(self, asked: CallQuestion, number: int | None = None) -> bytes:
        """Return what a call would answer after a block; raise CallFailure, or PoolRefusal where it cannot be made."""
        computation = self._computation(self.state(number), asked, asked.gas)
        if computation.is_error:
            raise _failure(computation)
        return bytes(computation.output)

    def estimate(self, asked: CallQuestion, number: int | None = None) -> int:
        """Return how much gas a call needs after a block, or some more; raise CallFailure, or PoolRefusal."""
        state, most = self.state(number), min(asked.gas, NODE_GAS_MAX)
        computation = self._computation(state, asked, most)
        if computation.is_error:
            raise _failure(computation)
        least = self._transaction(asked, most).intrinsic_gas - 1
        middle = min((least + computation.get_gas_used()) * 64 // 63 + STIPEND, most)  # most calls need no more
        while most - least > ESTIMATE_TOLERANCE:
            if self._computation(state, asked, middle).is_error:
                least = middle
            else:
                most = middle
            middle = (least + most) // 2
        return int(most)

    def _computation(self, state: State, asked: CallQuestion, gas: int) -> Computation:
        """Make a call, and undo it."""
        before = state.snapshot()
        try:
            return state.apply_transaction(self._transaction(asked, gas, state.get_nonce(asked.sender)))
        except ValidationError as error:
            raise PoolRefusal(f"insufficient funds for gas * price + value: {error}") from error
        finally:
            state.revert(before)

    def _transaction(self, asked: CallQuestion, gas: int, nonce: int = 0) -> Transaction:
        fields = {"gas": gas, "to": asked.to, "value": asked.value, "data": asked.data, **FREE}
        unsigned = self._builder().new_unsigned_dynamic_fee_transaction(chain_id=self.chain_id, nonce=nonce, **fields)
        return SpoofTransaction(unsigned, from_=asked.sender)

    def _builder(self) -> Any:
        return self._chain.get_vm().get_transaction_builder()


class _Chain(MiningChain):
    vm_configuration = ((BlockNumber(0), PragueVM),)

    def create_header_from_parent(self, parent_header: Header, **header_params: Any) -> Header:
        """Return the header of the next block; the limit of gas stays as it is."""
        return super().create_header_from_parent(parent_header, **{**header_params, "gas_limit": GAS_LIMIT})


def tip_of(transaction: Transaction, base_fee: int) -> int:
    """Return what a transaction pays per unit of gas above a base fee."""
    return int(min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee))


def _proven(tries: Any, root: bytes, key: bytes) -> tuple[bytes, list[bytes]]:
    """Return what a trie holds under a key, and the nodes on the way there."""
    trie: Any = HexaryTrie(tries, root)
    if root == trie.BLANK_NODE_HASH:
        return b"", []
    hashed = keccak(key)
    return trie.get(hashed), [rlp.encode(node) for node in trie.get_proof(hashed)]


def _failure(computation: Computation) -> CallFailure:
    if isinstance(computation.error, Revert):
        return CallFailure("execution reverted", bytes(computation.output))
    return CallFailure(f"{type(computation.error).__name__}: {computation.error}", None)
