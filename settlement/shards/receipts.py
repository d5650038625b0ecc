"""What crosses from shard to shard: receipts on pages, and the signed header that a page is proven by. Pure.

Coins that leave a shard are burnt there, and a receipt for them goes onto a page of that block: one page for each
shard that they go to, or several if they are many. The receipts from one shard to another are numbered without gaps,
across blocks; a page says the number of its first. The root over all pages of a block is in the block's hash. When the
block is final, the shard signs its hash, and never that of another block in its place. A *parcel* is a page with all
that proves it: whoever knows the group's keys need not have seen any other block, and whoever carries it needs no key
and can change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.errors import InvalidSignature, MalformedMessage
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.shards.group import ShardGroup
from tallystick.settlement.shards.tree import DEPTH_MAX, ProofStep, climb, leaf_of, prove, root_of

PAGE_MAX = 500
"""Receipts on one page."""

PARCEL_MAX = 131_072
"""Bytes of a parcel."""

_FINAL = b"tallystick: a shard's final block"


class ShardReceipt(msgspec.Struct, frozen=True, array_like=True):
    """Coins that left an account on one shard for an account on another. Its number follows from its page."""

    asset: Address
    sender: Address
    to: Address
    amount: int
    expiry: int = 0
    """Executed in a block of a later time, it is refunded instead; 0: never."""
    refund_of: int | None = None
    """It returns what this receipt, of the opposite direction, could not pay."""


class ShardPage(msgspec.Struct, frozen=True, array_like=True):
    """Receipts of one block from a shard to another, in order; all of them, or PAGE_MAX of them."""

    source: int
    destination: int
    first: int
    """Number of the first: how many there were before, from this source to this destination."""
    receipts: tuple[ShardReceipt, ...]

    @property
    def end(self) -> int:
        """The number that follows that of the last."""
        return self.first + len(self.receipts)


class ShardHeader(msgspec.Struct, frozen=True, array_like=True):
    """What a block's hash is made of."""

    parent: bytes
    chain_id: int
    number: int
    time: int
    salt: int
    content: bytes
    """Hash of the transactions and of all else that came in from outside."""
    outbox: bytes
    """Root over the block's pages."""

    @property
    def hash(self) -> bytes:
        """The hash of the block."""
        return hash_block(self.parent, self.chain_id, self.number, self.time, self.salt, self.content, self.outbox)


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """A page, and what proves it."""

    page: ShardPage
    steps: tuple[ProofStep, ...]
    """From the page to the outbox' root."""
    header: ShardHeader
    signature: bytes
    """The source's signature (64 bytes) over the header's hash."""


_PAGES: Codec[ShardPage] = Codec(ShardPage)
_PARCELS: Codec[Parcel] = Codec(Parcel)


def hash_block(
    parent: bytes, chain_id: int, number: int, time: int, salt: int, content: bytes, outbox: bytes = b""
) -> bytes:
    """Return the hash of a block; `outbox` is empty where nothing leaves, as on a chain that is no shard."""
    numbers = b"".join(value.to_bytes(8, "big") for value in (chain_id, number, time, salt))
    return keccak(parent + numbers + content + outbox)


def outbox_root(pages: Sequence[ShardPage]) -> bytes:
    """Return the root over the pages of a block, nothing if there are none."""
    return root_of(_leaves(pages)) if pages else b""


def make_parcel(pages: Sequence[ShardPage], index: int, header: ShardHeader, key: PrivateKey) -> bytes:
    """Return, as it travels, the parcel of a page of a block that is final; `key` is the source's."""
    steps = prove(_leaves(pages), index)
    return _PARCELS.encode(Parcel(pages[index], steps, header, key.sign(_statement(header))))


def read_parcel(raw: bytes, group: ShardGroup, destination: int) -> Parcel:
    """Return a parcel that came from anywhere, once its page is proven; raise TransactionRefused, saying why not."""
    try:
        parcel = _PARCELS.decode(raw) if len(raw) <= PARCEL_MAX else None
    except MalformedMessage as error:
        raise _refused(f"the parcel cannot be read: {error}") from error
    if parcel is None or not _well_formed(parcel):
        raise _refused("the parcel has a part that is too long, too short, or out of range")
    page, header = parcel.page, parcel.header
    if page.destination != destination:
        raise TransactionRefused(f"the parcel is for shard {page.destination}, not {destination}", Refusal.WRONG_CHAIN)
    if page.source == destination or not 0 <= page.source < len(group):
        raise TransactionRefused(f"no parcels come from shard {page.source}", Refusal.WRONG_CHAIN)
    if header.chain_id != group.chain_of(page.source):
        raise TransactionRefused(f"its block is of chain {header.chain_id}, not its source's", Refusal.WRONG_CHAIN)
    if climb(leaf_of(_PAGES.encode(page)), parcel.steps) != header.outbox:
        raise _refused("the page is none of the block's")
    try:
        group.public_keys[page.source].verify(_statement(header), parcel.signature)
    except InvalidSignature as error:
        raise TransactionRefused(f"the block is not signed by shard {page.source}", Refusal.BAD_SIGNATURE) from error
    return parcel


def _well_formed(parcel: Parcel) -> bool:
    page, header = parcel.page, parcel.header
    numbers = (header.chain_id, header.number, header.time, header.salt, page.first, page.end)
    return (
        0 < len(page.receipts) <= PAGE_MAX
        and len(parcel.steps) <= DEPTH_MAX
        and all(len(step.sibling) == 32 for step in parcel.steps)
        and all(len(part) == 32 for part in (header.parent, header.content, header.outbox))
        and all(0 <= number <= UINT64_MAX for number in numbers)
        and all(_is_receipt(receipt) for receipt in page.receipts)
    )


def _is_receipt(receipt: ShardReceipt) -> bool:
    return (
        len(receipt.asset) == len(receipt.sender) == len(receipt.to) == 20
        and 0 < receipt.amount <= AMOUNT_MAX
        and 0 <= receipt.expiry <= UINT64_MAX
        and 0 <= (receipt.refund_of or 0) <= UINT64_MAX
    )


def _statement(header: ShardHeader) -> bytes:
    """Return the digest that a shard signs: no hash of a block or a transaction can be taken for it."""
    return keccak(_FINAL + header.hash)


def _refused(text: str) -> TransactionRefused:
    return TransactionRefused(text, Refusal.MALFORMED)


def _leaves(pages: Sequence[ShardPage]) -> list[bytes]:
    return [leaf_of(_PAGES.encode(page)) for page in pages]
