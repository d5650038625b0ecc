"""Transactions that wait for a block: highest fee first, each account's in order of nonce, bounded.

Rules, as Ethereum nodes have them:
- One transaction per account and nonce. A replacement must offer REPLACEMENT_PERCENT more than what it replaces.
- An account may run at most NONCES_AHEAD ahead of its next nonce; gaps wait until they are filled.
- A full pool drops its cheapest transaction for a dearer one, together with the account's later ones, which could not
  be mined without it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import msgspec

from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import Transaction

NONCES_AHEAD = 64
"""Transactions that one account may have waiting."""

REPLACEMENT_PERCENT = 10
"""How much more a replacement must offer per unit of gas."""

MINIMUM_PRICE = 1
"""Least offer per unit of gas."""


class _PooledTransaction(msgspec.Struct, frozen=True):
    transaction: Transaction
    arrival: int


class Mempool:
    """The pool of one chain node. `limit` bounds how many transactions it holds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: dict[Address, dict[int, _PooledTransaction]] = {}
        self._hashes: set[bytes] = set()
        self.gas = 0
        """Of all that waits."""
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, transaction: bytes) -> bool:
        return transaction in self._hashes

    def __iter__(self) -> Iterator[Transaction]:
        for waiting in self._accounts.values():
            yield from (waiting[nonce].transaction for nonce in sorted(waiting))

    def __repr__(self) -> str:
        return f"<Mempool of {len(self)} transactions>"

    def add(self, transaction: Transaction, next_nonce: int) -> None:
        """Take a transaction of an account whose next nonce is `next_nonce`; raise TransactionRefused by the rules."""
        if transaction.nonce < next_nonce:
            raise TransactionRefused(
                f"nonce {transaction.nonce} is used up; the account's next one is {next_nonce}", Refusal.NONCE_TOO_LOW
            )
        if transaction.nonce >= next_nonce + NONCES_AHEAD:
            raise TransactionRefused(
                f"nonce {transaction.nonce} is too far ahead of the next one, {next_nonce}; send earlier ones first",
                Refusal.NONCE_TOO_HIGH,
            )
        if transaction.price < MINIMUM_PRICE:
            raise TransactionRefused(f"the least fee price is {MINIMUM_PRICE}", Refusal.UNDERPRICED)
        old = self._accounts.get(transaction.sender, {}).get(transaction.nonce)
        if old is not None:
            needed = -(-old.transaction.price * (100 + REPLACEMENT_PERCENT) // 100)
            if transaction.price < needed:
                raise TransactionRefused(
                    f"replacing the transaction of this nonce takes a fee price of {needed}", Refusal.UNDERPRICED
                )
            self._remove(old.transaction)
        elif len(self) >= self._limit:
            self._make_room(transaction)
        self._insert(transaction)

    def restore(self, transaction: Transaction) -> None:
        """Put back a transaction whose block was dropped, unless another took its place: bound and prices aside."""
        if transaction.nonce not in self._accounts.get(transaction.sender, {}):
            self._insert(transaction)

    def drop(self, transaction: Transaction) -> None:
        """Let one wait no longer, if it does."""
        if transaction.hash in self:
            self._remove(transaction)

    def forget_used(self, next_nonce: Callable[[Address], int]) -> None:
        """Drop what the transactions in blocks have made void."""
        for transaction in list(self):
            if transaction.nonce < next_nonce(transaction.sender):
                self._remove(transaction)

    def candidates(
        self, next_nonce: Callable[[Address], int], willing: Callable[[Transaction], bool]
    ) -> Iterator[Transaction]:
        """Yield what could be mined, best first. `willing` is asked once for each; a no holds back what follows it.

        `next_nonce` is asked again after each that was yielded: where it has not moved on, the account is left out.
        """
        heads: list[tuple[int, int, Transaction]] = []

        def push(account: Address) -> None:
            waiting = self._accounts[account].get(next_nonce(account))
            if waiting is not None and willing(waiting.transaction):
                heapq.heappush(heads, (-waiting.transaction.price, waiting.arrival, waiting.transaction))

        for account in self._accounts:
            push(account)
        while heads:
            transaction = heapq.heappop(heads)[2]
            yield transaction
            if next_nonce(transaction.sender) == transaction.nonce + 1:
                push(transaction.sender)

    def _make_room(self, transaction: Transaction) -> None:
        cheapest = min(self, key=lambda waiting: waiting.price)
        if cheapest.price >= transaction.price:
            raise TransactionRefused(
                f"the pool is full; a fee price above {cheapest.price} makes room", Refusal.MEMPOOL_FULL
            )
        waiting = self._accounts[cheapest.sender]
        for nonce in [nonce for nonce in waiting if nonce >= cheapest.nonce]:
            self._remove(waiting[nonce].transaction)

    def _insert(self, transaction: Transaction) -> None:
        self._arrivals += 1
        waiting = _PooledTransaction(transaction, self._arrivals)
        self._accounts.setdefault(transaction.sender, {})[transaction.nonce] = waiting
        self._hashes.add(transaction.hash)
        self.gas += transaction.gas

    def _remove(self, transaction: Transaction) -> None:
        waiting = self._accounts[transaction.sender]
        del waiting[transaction.nonce]
        if not waiting:
            del self._accounts[transaction.sender]
        self._hashes.discard(transaction.hash)
        self.gas -= transaction.gas
