"""Transactions that wait for a block: highest fee first, each account's in order of nonce, bounded.

Rules, as Ethereum nodes have them:
- One transaction per account and nonce. A replacement must offer REPLACEMENT_PERCENT more than what it replaces.
- An account may run at most NONCES_AHEAD ahead of its next nonce; gaps wait until they are filled.
- A transaction is *ready* if none is missing before it, and its sender could pay for all up to it. One that is not
  costs nobody anything, whatever it offers. So it takes room from no ready one, and counts for no fee price: a full
  pool drops such first, of the account that has most of them, the last one.
- A full pool of ready ones drops the cheapest for a dearer one, together with the account's later ones, which could
  not be mined without it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import TypeAlias

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


_Offer: TypeAlias = tuple[int, int, Address, int]
"""A price, an arrival (below zero: of equals, what came last is first), a sender and a nonce."""


class _AccountQueue:
    """What waits of one account, and what is known of it at the newest block."""

    def __init__(self, next_nonce: int, held: int) -> None:
        self.next_nonce = next_nonce
        self.held = held
        self.waiting: dict[int, _PooledTransaction] = {}
        self.ready = 0
        """How many are ready: those from the next nonce on."""
        self.gas = 0
        """Of these."""

    @property
    def unready(self) -> int:
        """How many are not."""
        return len(self.waiting) - self.ready

    def look(self) -> int:
        """Find out again which are ready; return how much more gas these have than before."""
        before, left = self.gas, self.held
        self.ready = self.gas = 0
        while (pooled := self.waiting.get(self.next_nonce + self.ready)) is not None:
            left -= pooled.transaction.cost_max
            if left < 0:
                break
            self.ready += 1
            self.gas += pooled.transaction.gas
        return self.gas - before

    def those_ready(self) -> Iterator[_PooledTransaction]:
        """Yield them in order."""
        for nonce in range(self.next_nonce, self.next_nonce + self.ready):
            yield self.waiting[nonce]


class Mempool:
    """The pool of one chain node. `limit` bounds how many transactions it holds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: dict[Address, _AccountQueue] = {}
        self._hashes: set[bytes] = set()
        self.gas = 0
        """Of all that is ready."""
        self._arrivals = 0
        self._unready: dict[Address, _AccountQueue] = {}
        """Those of which something is not ready."""
        self._offers: list[_Offer] = []
        """A heap of all that waits, once the pool was full, and of some that waits no longer."""

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, transaction: bytes) -> bool:
        return transaction in self._hashes

    def __iter__(self) -> Iterator[Transaction]:
        for account in self._accounts.values():
            yield from (account.waiting[nonce].transaction for nonce in sorted(account.waiting))

    def __repr__(self) -> str:
        return f"<Mempool of {len(self)} transactions>"

    def ready(self) -> Iterator[Transaction]:
        """Yield what could be mined now if there were room for all."""
        for account in self._accounts.values():
            yield from (pooled.transaction for pooled in account.those_ready())

    def add(self, transaction: Transaction, next_nonce: int, held: int) -> None:
        """Take a transaction of an account with this next nonce and so many coins; raise TransactionRefused."""
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
        account = self._accounts.setdefault(transaction.sender, _AccountQueue(next_nonce, held))
        account.next_nonce, account.held = next_nonce, held
        old = account.waiting.get(transaction.nonce)
        if old is not None:
            needed = -(-old.transaction.price * (100 + REPLACEMENT_PERCENT) // 100)
            if transaction.price < needed:
                raise TransactionRefused(
                    f"replacing the transaction of this nonce takes a fee price of {needed}", Refusal.UNDERPRICED
                )
            self._hashes.discard(old.transaction.hash)
        self._insert(transaction)
        if len(self) > self._limit:
            self._make_room(transaction)

    def restore(self, transaction: Transaction) -> None:
        """Put back a transaction whose block was dropped, unless another took its place: bound and prices aside."""
        account = self._accounts.setdefault(transaction.sender, _AccountQueue(transaction.nonce, 0))
        if transaction.nonce not in account.waiting:
            self._insert(transaction)

    def drop(self, transaction: Transaction) -> None:
        """Let one wait no longer, if it does."""
        if transaction.hash in self:
            self._remove(transaction)

    def forget_used(self, next_nonce: Callable[[Address], int], held: Callable[[Address], int]) -> None:
        """Drop what the transactions in blocks have made void, and find out what is ready after them."""
        for sender, account in list(self._accounts.items()):
            account.next_nonce, account.held = next_nonce(sender), held(sender)
            for nonce in [nonce for nonce in account.waiting if nonce < account.next_nonce]:
                self._hashes.discard(account.waiting.pop(nonce).transaction.hash)
            self._look(sender, account)

    def candidates(
        self, next_nonce: Callable[[Address], int], willing: Callable[[Transaction], bool]
    ) -> Iterator[Transaction]:
        """Yield what could be mined, best first. `willing` is asked once for each; a no holds back what follows it.

        `next_nonce` is asked again after each that was yielded: where it has not moved on, the account is left out.
        """
        heads: list[tuple[int, int, Transaction]] = []

        def push(account: Address) -> None:
            waiting = self._accounts[account].waiting.get(next_nonce(account))
            if waiting is not None and willing(waiting.transaction):
                heapq.heappush(heads, (-waiting.transaction.price, waiting.arrival, waiting.transaction))

        for account in self._accounts:
            push(account)
        while heads:
            transaction = heapq.heappop(heads)[2]
            yield transaction
            if next_nonce(transaction.sender) == transaction.nonce + 1:
                push(transaction.sender)

    def _make_room(self, newest: Transaction) -> None:
        """Drop what is worth least; raise TransactionRefused if that is the newest."""
        own = self._accounts[newest.sender]
        most = max(self._unready.values(), default=own, key=lambda account: (account.unready, account is own))
        if most.unready:
            last = most.waiting[max(most.waiting)].transaction
            self._remove(last)
            if last is newest:
                why = "one that waits for another nonce, or for coins, takes no room from others"
                raise TransactionRefused(f"the pool is full; {why}", Refusal.MEMPOOL_FULL)
            return
        cheapest = self._cheapest()
        later = [nonce for nonce in self._accounts[cheapest.sender].waiting if nonce >= cheapest.nonce]
        if cheapest is newest or (cheapest.sender == newest.sender and newest.nonce in later):
            self._remove(newest)
            raise TransactionRefused(
                f"the pool is full; a fee price above {cheapest.price} makes room", Refusal.MEMPOOL_FULL
            )
        for nonce in later:
            self._remove(self._accounts[cheapest.sender].waiting[nonce].transaction)

    def _cheapest(self) -> Transaction:
        """Return what offers least, of equals what came last. It does not look at all that waits."""
        if not 0 < len(self._offers) <= 2 * len(self):
            self._offers = [
                (pooled.transaction.price, -pooled.arrival, sender, nonce)
                for sender, account in self._accounts.items()
                for nonce, pooled in account.waiting.items()
            ]
            heapq.heapify(self._offers)
        while True:
            _, arrival, sender, nonce = self._offers[0]
            account = self._accounts.get(sender)
            pooled = account.waiting.get(nonce) if account is not None else None
            if pooled is not None and pooled.arrival == -arrival:
                return pooled.transaction
            heapq.heappop(self._offers)

    def _insert(self, transaction: Transaction) -> None:
        self._arrivals += 1
        account = self._accounts[transaction.sender]
        account.waiting[transaction.nonce] = _PooledTransaction(transaction, self._arrivals)
        self._hashes.add(transaction.hash)
        if self._offers:
            offer = (transaction.price, -self._arrivals, transaction.sender, transaction.nonce)
            heapq.heappush(self._offers, offer)
            if len(self._offers) > 2 * len(self):
                self._offers = []
        self._look(transaction.sender, account)

    def _remove(self, transaction: Transaction) -> None:
        account = self._accounts[transaction.sender]
        del account.waiting[transaction.nonce]
        self._hashes.discard(transaction.hash)
        self._look(transaction.sender, account)

    def _look(self, sender: Address, account: _AccountQueue) -> None:
        self.gas += account.look()
        if account.unready:
            self._unready[sender] = account
        else:
            self._unready.pop(sender, None)
        if not account.waiting:
            del self._accounts[sender]
