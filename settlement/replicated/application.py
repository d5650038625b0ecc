"""The ledger as an application of the consensus: what it answers to each of ABCI's questions, without sockets.

It holds the chain of this validator, at the newest block that is on its disk, and what blocks that are only proposed
would do. A block is executed when it is proposed, while the votes on it are on their way; if it is the one that is
decided, nothing is left to do. `commit` is the one moment at which the chain moves, and it is on disk before it is
answered. So a validator that dies anywhere is asked again, by the engine's handshake, for what its disk lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

from msgspec.structs import replace

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.contract.signed import parties_of
from tallystick.settlement.errors import LedgerBroken, Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import Transaction
from tallystick.settlement.execution.prepared import ALONE, Crew, Prepared, carries_signatures, prepare_all
from tallystick.settlement.replicated.bounds import MINTS_MAX, fitting, is_within
from tallystick.settlement.replicated.decision import (
    MINT_MARK,
    NO_HISTORY,
    Base,
    Decision,
    MintOrder,
    ProposedBlock,
    Rules,
    Work,
    app_hash,
    check_limits,
    decide,
    encode_order,
    history_after,
    read_work,
)
from tallystick.settlement.replicated.genesis import EvidenceAge, Genesis, Powers, read_genesis
from tallystick.settlement.replicated.shipped import check_shipped
from tallystick.settlement.replicated.snapshots import (
    EMPTY_SHELF,
    FrozenLedger,
    LedgerSnapshot,
    Restoration,
    SnapshotShelf,
    freeze,
)
from tallystick.settlement.simulated.branch import Branch
from tallystick.settlement.simulated.ledger import affordable, mint, next_nonce
from tallystick.settlement.simulated.mempool import Mempool
from tallystick.settlement.simulated.roots import StateTree
from tallystick.settlement.simulated.world import Layer, balance_key

MEMO_MAX = 8
"""Proposals of one height whose effects are kept until one is decided: a height seldom takes two rounds."""

READ_MAX = 50_000
"""Transactions that are kept decoded, from when they are first seen until their block."""

READ_BYTES = 67_108_864
"""Bytes of these, at most: who sends them need hold nothing."""


class Application:
    """One validator's ledger. Everything here is synchronous; `server` is its trio shell."""

    def __init__(self, branch: Branch, genesis: Genesis, crew: Crew = ALONE) -> None:
        """`branch` has the block of `genesis` at least, which the consensus's own genesis must name, too.

        Raise InvalidInput if this program judges by rules that it alone has.
        """
        check_shipped()
        self._crew = crew
        self.branch = branch
        self.rules = Rules(branch.rules, branch.settings.gas_limit, branch.settings.dev, genesis.founding())
        self._genesis = genesis
        self.shelf: SnapshotShelf = EMPTY_SHELF
        """Where the snapshots are that others are given."""
        self._restoration: Restoration | None = None
        self._catch_up()
        self._memo: dict[ProposedBlock, Decision] = {}
        self._decided: Decision | None = None
        self._read: dict[bytes, Work] = {}
        self.kept_bytes = 0
        """Of all transactions that are kept decoded."""

    def _catch_up(self) -> None:
        """Compute from the branch what is kept beside it."""
        self._tree = StateTree(self.branch.world)
        self._before = self._history = self.branch.history or NO_HISTORY
        for record in self.branch.records:
            self._before, self._history = self._history, history_after(self._history, record)

    def __repr__(self) -> str:
        return f"<Application at block {self.height}>"

    @property
    def height(self) -> int:
        """Number of the newest block on disk; 0: genesis."""
        return self.branch.newest.header.number

    @property
    def app_hash(self) -> bytes:
        """Of the ledger after that block."""
        return app_hash(self._tree.root, self._history)

    @property
    def root(self) -> bytes:
        """State root after that block."""
        return self._tree.root

    def begin(
        self, genesis: bytes, height: int, powers: Powers | None = None, evidence: EvidenceAge | None = None
    ) -> bytes:
        """Begin at the consensus's genesis; return the app hash. It may be asked again until the first block.

        `powers` are the validators that it names, and `evidence` is how old evidence may be there.
        """
        if read_genesis(genesis) != self._genesis or height != 1 or self.height:
            raise InvalidInput("the consensus begins another chain than this ledger's")
        rules = self._genesis.staking
        if rules is not None and (
            powers != self._genesis.powers() or evidence != (rules.evidence_blocks, rules.evidence_seconds)
        ):
            raise InvalidInput("the consensus begins with other powers, or rules of evidence, than the ledger's")
        return self.app_hash

    def check(self, raw: bytes, *, again: bool = False) -> int:
        """Return the gas of a transaction that may wait for a block; raise TransactionRefused.

        `again`: it waits already, and a block came.
        """
        work = self._work(raw, self.rules)
        if isinstance(work, MintOrder):
            try:
                mint(Layer(self.branch.world), self.rules.parameters, work.mint)
            except InvalidInput as error:
                raise TransactionRefused(str(error), Refusal.MALFORMED) from error
            return 0
        transaction, state = work.transaction, self.branch.state
        if transaction.hash in self.branch.receipts or transaction.nonce < next_nonce(state, transaction.sender):
            raise TransactionRefused("the nonce is used up", Refusal.NONCE_TOO_LOW)
        if again and transaction.hash not in self.branch.pool:
            raise TransactionRefused("another transaction took its place", Refusal.UNDERPRICED)
        if again and not affordable(state, transaction):
            self.branch.pool.drop(transaction)
            raise TransactionRefused("its sender can no longer pay its fee", Refusal.INSUFFICIENT_FUNDS)
        if transaction.hash not in self.branch.pool:
            self.branch.admit(transaction, work.reading.gas)
        return transaction.gas

    def prepare(self, block: ProposedBlock, bytes_max: int) -> tuple[bytes, ...]:
        """Return what to propose as a block, and in which order: those who pay best come first.

        To the block's transactions come all that wait here: the engine names the oldest alone, as many as fit into a
        block, and these may be such as wait for ever, behind a nonce that never comes, of somebody who pays nothing.
        """
        works: list[Work] = []
        for raw in block.transactions:
            with suppress(TransactionRefused):
                works.append(self._work(raw, self.rules))
        pool = Mempool(len(works))
        transactions = [work.transaction for work in works if isinstance(work, Prepared)]
        transactions += self.branch.pool
        for transaction in sorted(transactions, key=lambda transaction: -transaction.price):
            pool.restore(transaction)  # of two with one nonce, the better one
        nonces: dict[bytes, int] = {}
        state = self.branch.state
        chosen = [encode_order(work) for work in works if isinstance(work, MintOrder)][:MINTS_MAX]
        purses: dict[bytes, int] = {}

        def willing(transaction: Transaction) -> bool:
            """Whether the sender can pay this after all before it: what could not is left out, and takes no room."""
            key = balance_key(NATIVE, transaction.sender)
            left = purses.get(key, state.number(key)) - transaction.gas * transaction.price
            purses[key] = left - transaction.envelope.value if transaction.envelope.value <= left else left
            return left >= 0

        for transaction in pool.candidates(lambda account: nonces.get(account, next_nonce(state, account)), willing):
            nonces[transaction.sender] = transaction.nonce + 1
            chosen.append(transaction.raw)
        those = fitting(chosen, bytes_max)
        decision = self._decide(replace(block, transactions=those))
        done = [(raw, did) for raw, did in zip(those, decision.results, strict=True) if did is not None]
        proposed = replace(block, transactions=tuple(raw for raw, _ in done))
        self._memo[proposed] = replace(decision, results=tuple(did for _, did in done))  # the others did nothing
        return proposed.transactions

    def accepts(self, block: ProposedBlock) -> bool:
        """Whether a proposal is one that an honest validator makes: each of its transactions has its place there.

        What has more of them, of bytes, or of gas than a block may have is refused before a signature is recovered.
        """
        if block not in self._memo and not is_within(block.transactions, self.rules, self._read.get):
            return False
        return None not in self._decide(block).results

    def finalize(self, block: ProposedBlock) -> Decision:
        """Execute the block that is decided; what was executed when it was proposed, is not executed again."""
        self._decided = self._decide(block)
        return self._decided

    def commit(self) -> None:
        """Go on to the block that is decided, on disk."""
        decision = self._decided
        if decision is None:
            raise LedgerBroken("a block is to be committed that was not decided")
        self.branch.append(decision.record, decision.changes)
        self._tree.apply(decision.tree)
        self._before, self._history = self._history, decision.history
        self._memo.clear()
        self._decided = None
        for entry in decision.record.entries:
            self._forget(entry.raw)

    def freeze(self) -> FrozenLedger:
        """Return the ledger as it is after the newest block, for a snapshot."""
        return freeze(self._before, self.branch.newest, self.branch.world)

    def offer(self, snapshot: LedgerSnapshot, app_hash: bytes) -> bool:
        """Whether a snapshot can be taken: it can as long as no block was executed here.

        `app_hash` is the consensus's, after the snapshot's block.
        """
        if self.height and self.branch.first < self.height:
            return False
        self._restoration = Restoration(snapshot, app_hash)
        return True

    def restore(self, index: int, chunk: bytes) -> bool:
        """Take a chunk of the snapshot that was offered; return False if it is another one.

        With the last one the ledger is the snapshot's, on disk. Raise InvalidInput if it is not what the app hash says.
        """
        if self._restoration is None:
            raise InvalidInput("a chunk comes of a snapshot that nobody offered")
        if not self._restoration.add(index, chunk):
            return False
        if self._restoration.is_whole:
            restored, self._restoration = self._restoration, None
            found = restored.finish()
            self.branch.restore(found.head.record, found.world, found.head.history)
            self._memo.clear()
            self._catch_up()
        return True

    def _decide(self, block: ProposedBlock) -> Decision:
        found = self._memo.get(block)
        if found is None:
            if block.height != self.height + 1:
                raise LedgerBroken(f"block {block.height} is to be executed on block {self.height}")
            base = Base(self.branch.world, self._tree, self._history, self.branch.newest.header)
            ready = self._prepared(block.transactions)
            found = decide(base, self.rules, block, lambda raw, rules: self._work(raw, rules, ready.get(raw)))
            while len(self._memo) >= MEMO_MAX:
                del self._memo[next(iter(self._memo))]
            self._memo[block] = found
        return found

    def _prepared(self, raws: Sequence[bytes]) -> dict[bytes, Prepared | TransactionRefused]:
        """Return, by all who help, what was not seen before, and what has signatures in its calls."""
        if self._crew is ALONE:
            return {}
        wanted = [raw for raw in dict.fromkeys(raws) if raw[:1] != MINT_MARK and is_worth_it(self._read.get(raw))]
        state = self.branch.state
        found = prepare_all(wanted, self.rules.at, lambda id: parties_of(state.channel(id)), self._crew)
        return dict(zip(wanted, chain.from_iterable(bundle.transactions for bundle in found), strict=True))

    def _work(self, raw: bytes, rules: Rules, ready: Prepared | TransactionRefused | None = None) -> Work:
        if isinstance(ready, TransactionRefused):
            raise ready
        work = self._read.get(raw)
        if ready is not None and work is not None:
            return ready
        if work is None:
            work = read_work(raw, rules) if ready is None else check_limits(ready, rules)
            self._read[raw] = work
            self.kept_bytes += len(raw)
            while len(self._read) > READ_MAX or self.kept_bytes > READ_BYTES:
                self._forget(next(iter(self._read)))
        return work

    def _forget(self, raw: bytes) -> None:
        if self._read.pop(raw, None) is not None:
            self.kept_bytes -= len(raw)


def is_worth_it(work: Work | None) -> bool:
    """Whether a transaction, as it was read before, leaves something to be done ahead."""
    return work is None or (isinstance(work, Prepared) and carries_signatures(work.reading))
