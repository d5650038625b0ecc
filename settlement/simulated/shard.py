"""A branch as one shard of a group: what it has signed for the others, and what waits to be executed of theirs.

What waits is not kept on disk, nor through a reorganisation that executes less: whoever carries parcels brings them
again, as the ledger says which one is next. Only the next ones are taken in: nobody can fill the room with others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import OUTBOX, decode_transaction
from tallystick.settlement.shards.group import ShardGroup
from tallystick.settlement.shards.outbox import decode_sending
from tallystick.settlement.shards.receipts import ShardHeader, ShardPage, make_parcel, outbox_root, read_parcel
from tallystick.settlement.simulated.crossing import ParcelArrival, begin_shard, check_shard, executed_of, sent_to
from tallystick.settlement.simulated.ledger import BlockRecord, content_of
from tallystick.settlement.simulated.world import Changes, Layer

WAITING_MAX = 32
"""Parcels of one source that may wait."""

EXECUTED_MAX = 8
"""Parcels of one source that one block executes."""

ANSWER_MAX = 400_000
"""Bytes of parcels that are told at once, beyond the first."""


class _SentPage(NamedTuple):
    first: int
    """Number of the page's first receipt."""
    block: int
    page: int
    """Which of the block's pages it is."""
    refunded: int
    """The highest number of the destination's receipts that went back on this page or an earlier one; -1: none did."""


class OtherShard(NamedTuple):
    """How things stand between this shard and another."""

    number: int
    sent: int
    """Receipts that ever left for it."""
    executed: int
    """Its receipts that were executed here."""
    expected: int
    """The number from which on more of them are wanted: what waits already comes before."""


class Shard:
    """Which shard a branch is, with the key under which it signs final blocks."""

    def __init__(self, group: ShardGroup, number: int, key: PrivateKey) -> None:
        """Take the role; raise InvalidInput if the key is not that shard's."""
        group.chain_of(number)
        if key.public != group.public_keys[number]:
            raise InvalidInput(f"this is not the key of shard {number}")
        self.group = group
        self.number = number
        self._key = key
        self._waiting: dict[int, dict[int, ParcelArrival]] = {}
        self._sent: dict[int, list[_SentPage]] = {}
        """By destination: an entry for each page of the blocks, and nothing for each receipt."""

    def __repr__(self) -> str:
        return f"<Shard {self.number} of {len(self.group)}>"

    def check_chain(self, chain_id: int, contract: Address) -> None:
        """Raise InvalidInput unless a chain is set up as this shard's."""
        if (chain_id, contract) != (self.group.chain_of(self.number), self.group.contract):
            raise InvalidInput(f"shard {self.number} is chain {self.group.chain_of(self.number)}, not {chain_id}")

    def begin(self) -> Changes:
        """Return what makes a new ledger this shard."""
        return begin_shard(self.group, self.number)

    def check(self, state: Layer) -> None:
        """Raise InvalidInput unless the ledger is this shard's."""
        check_shard(state, self.group, self.number)

    def check_reorganisation(self, depth: int, length: int) -> None:
        """Raise InvalidInput if it could replace a block that it has signed."""
        if depth > self.group.final_blocks or length < depth:
            raise InvalidInput(
                f"a shard replaces {self.group.final_blocks} blocks at most, by no fewer, not {depth} by {length}"
            )

    def others(self, state: Layer) -> tuple[OtherShard, ...]:
        """Return how things stand with each other shard."""
        return tuple(
            OtherShard(other, sent_to(state, other), executed_of(state, other), self._expected(other, state))
            for other in range(len(self.group))
            if other != self.number
        )

    def is_refunded(self, records: Sequence[BlockRecord], source: int, receipt: int) -> bool:
        """Whether a receipt of a source was sent back instead of paid. Receipts go back in order, as they come."""
        pages = self._sent.get(source, [])
        at = bisect_left(pages, receipt, key=lambda sent: sent.refunded)
        if at == len(pages):
            return False
        crossing = records[pages[at].block].crossing
        assert crossing is not None
        return any(sent.refund_of == receipt for sent in crossing.pages[pages[at].page].receipts)

    def number_of(self, record: BlockRecord, transaction: bytes) -> tuple[int, int] | None:
        """Return to which shard a transaction of a block sent coins, and its receipt's number; None if it did not."""
        counts: Counter[int] = Counter()
        for entry in record.entries:
            sent = decode_transaction(entry.raw, self.group.chain_of(self.number)) if entry.execution.success else None
            if sent is not None and sent.envelope.to == OUTBOX:
                shard = decode_sending(sent.envelope).shard
                if entry.hash == transaction:
                    pages = record.crossing.pages if record.crossing else ()
                    return shard, min(page.first for page in pages if page.destination == shard) + counts[shard]
                counts[shard] += 1
        return None

    # --- what comes -----------------------------------------------------------------------------------------------

    def offer(self, raw: bytes, state: Layer) -> int:
        """Take in a parcel; return the number from which on more are wanted of its source. Raise TransactionRefused."""
        page = read_parcel(raw, self.group, self.number).page
        expected = self._expected(page.source, state)
        if page.first < expected:
            raise TransactionRefused(
                f"receipt {page.first} of shard {page.source} is known; the next one is {expected}",
                Refusal.ALREADY_KNOWN,
            )
        if page.first > expected:
            raise TransactionRefused(
                f"receipt {page.first} of shard {page.source} comes later; the next one is {expected}",
                Refusal.NONCE_TOO_HIGH,
            )
        waiting = self._waiting.setdefault(page.source, {})
        if len(waiting) >= WAITING_MAX:
            raise TransactionRefused(f"{WAITING_MAX} parcels of shard {page.source} wait", Refusal.MEMPOOL_FULL)
        waiting[page.first] = ParcelArrival(raw, page)
        return page.end

    def arrivals(self, state: Layer) -> list[ParcelArrival]:
        """Return what a block on top of `state` executes."""
        found: list[ParcelArrival] = []
        for source, waiting in sorted(self._waiting.items()):
            number = executed_of(state, source)
            for _ in range(EXECUTED_MAX):
                if number not in waiting:
                    break
                found.append(waiting[number])
                number = waiting[number].page.end
        return found

    def _expected(self, source: int, state: Layer) -> int:
        number, waiting = executed_of(state, source), self._waiting.get(source, {})
        while number in waiting:
            number = waiting[number].page.end
        return number

    # --- what leaves ----------------------------------------------------------------------------------------------

    def parcels(self, records: Sequence[BlockRecord], destination: int, first: int, state: Layer) -> list[bytes]:
        """Return parcels for a shard from receipt number `first` on, of final blocks alone: as many as fit.

        Raise InvalidInput if that shard is said to have executed more than was ever sent.
        """
        count = sent_to(state, destination)
        if first > count:
            raise InvalidInput(
                f"shard {destination} wants receipt {first}, and shard {self.number} has sent {count}: "
                "its data are an old copy"
            )
        pages = self._sent.get(destination, [])
        start = bisect_right(pages, first, key=lambda sent: sent.first) - 1
        final = records[-1].header.number - self.group.final_blocks
        found: list[bytes] = []
        for sent in pages[max(0, start) :]:
            if sent.block > final or sum(map(len, found)) > ANSWER_MAX:
                break
            if sent.first >= first:
                found.append(self._parcel(records[sent.block], sent.page))
        return found

    def _parcel(self, record: BlockRecord, index: int) -> bytes:
        assert record.crossing is not None
        block, pages, salt = record.header, record.crossing.pages, record.crossing.salt
        content = keccak(content_of(record.mints, record.entries, record.crossing.parcels))
        chain = self.group.chain_of(self.number)
        header = ShardHeader(block.parent, chain, block.number, block.time, salt, content, outbox_root(pages))
        assert header.hash == block.hash, "a block is signed as it is"
        return make_parcel(pages, index, header, self._key)

    def on_moved(self, kept: int, added: Sequence[BlockRecord], state: Layer) -> None:
        """The branch has `added` instead of what came after its first `kept` blocks."""
        for pages in self._sent.values():
            while pages and pages[-1].block >= kept:
                pages.pop()
        for record in added:
            for index, page in enumerate(record.crossing.pages if record.crossing else ()):
                self._remember(page, record.header.number, index)
        for source, waiting in self._waiting.items():
            number, reached = executed_of(state, source), dict[int, ParcelArrival]()
            while number in waiting:
                reached[number] = waiting[number]
                number = waiting[number].page.end
            self._waiting[source] = reached

    def _remember(self, page: ShardPage, block: int, index: int) -> None:
        pages = self._sent.setdefault(page.destination, [])
        before = pages[-1].refunded if pages else -1
        numbers = (receipt.refund_of for receipt in page.receipts if receipt.refund_of is not None)
        pages.append(_SentPage(page.first, block, index, max(numbers, default=before)))
