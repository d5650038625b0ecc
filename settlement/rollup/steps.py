"""What a rollup does: steps of one word (32 bytes) each, and entries that the chain orders it to carry out.

| step     | after its number (one byte) comes, each of so many bytes                     | signed by          |
| -------- | ---------------------------------------------------------------------------- | ------------------ |
| NEXT     |                                                                              | (the chain's list) |
| TRANSFER | payer 4, payee 4, amount 11, nonce 4                                         | the payer          |
| OPEN     | channel 4, opener 4, other 4, deposit 11, nonce 4                            | the opener         |
| FUND     | channel 4, side 1, amount 11, nonce 4                                        | that side          |
| CLOSE    | channel 4, balance of its first side 11, valid until 5                       | both sides         |
| EXIT     | account 4, amount 11, nonce 4                                                | the account        |

All else is zero. Accounts and channels are named by their numbers in the trees. Signatures are not in a word: whoever
posts it must show them when asked (`docs/rollup.md`). Amounts stay below 2**88.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address

WORD = 32
AMOUNT_BITS = 88
INDEX_MAX = 2**32 - 1


class Op(enum.IntEnum):
    """The numbers of the steps."""

    NEXT = 1
    TRANSFER = 2
    OPEN = 3
    FUND = 4
    CLOSE = 5
    EXIT = 6


class NextEntry(msgspec.Struct, frozen=True):
    """Carry out the next entry of the chain's list."""


class RollupTransfer(msgspec.Struct, frozen=True):
    """Move coins from an account to another one."""

    payer: int
    payee: int
    amount: int
    nonce: int


class RollupOpen(msgspec.Struct, frozen=True):
    """Open a channel under a number that none has had, with the opener's deposit."""

    channel: int
    opener: int
    other: int
    deposit: int
    nonce: int


class RollupFund(msgspec.Struct, frozen=True):
    """Add coins of one side to a channel."""

    channel: int
    side: int
    amount: int
    nonce: int


class RollupClose(msgspec.Struct, frozen=True):
    """Close a channel as both agree; its second side gets what the first one does not."""

    channel: int
    balance0: int
    valid_until: int
    """The last time at which it counts, in seconds."""


class RollupExit(msgspec.Struct, frozen=True):
    """Take coins out: once the batch is final, the account withdraws them on the chain."""

    account: int
    amount: int
    nonce: int


Step: TypeAlias = NextEntry | RollupTransfer | RollupOpen | RollupFund | RollupClose | RollupExit

_FORMS: dict[int, tuple[type[Any], tuple[int, ...]]] = {
    Op.NEXT: (NextEntry, ()),
    Op.TRANSFER: (RollupTransfer, (4, 4, 11, 4)),
    Op.OPEN: (RollupOpen, (4, 4, 4, 11, 4)),
    Op.FUND: (RollupFund, (4, 1, 11, 4)),
    Op.CLOSE: (RollupClose, (4, 11, 5)),
    Op.EXIT: (RollupExit, (4, 11, 4)),
}
_OPS = {kind: op for op, (kind, _) in _FORMS.items()}


def encode_step(step: Step) -> bytes:
    """Return a step as its word; raise InvalidInput if a number is too large for its place."""
    op = _OPS[type(step)]
    parts = [bytes([op])]
    for name, size in zip(step.__struct_fields__, _FORMS[op][1], strict=True):
        number = getattr(step, name)
        if not 0 <= number < 1 << 8 * size:
            raise InvalidInput(f"{name} must be from 0 to 2**{8 * size} - 1 in a rollup, not {number}")
        parts.append(number.to_bytes(size, "big"))
    return b"".join(parts).ljust(WORD, b"\0")


def decode_step(word: bytes) -> Step | None:
    """Return what a word says; None if it is no step."""
    form = _FORMS.get(word[0])
    if form is None:
        return None
    kind, sizes = form
    numbers, at = [], 1
    for size in sizes:
        numbers.append(int.from_bytes(word[at : at + size], "big"))
        at += size
    made: Step = kind(*numbers)
    return None if any(word[at:]) else made


class EntryKind(enum.IntEnum):
    """What the chain orders."""

    DEPOSIT = 1
    EXIT = 2
    CLOSE = 3
    """As both agreed."""
    SETTLE = 4
    """As one side's proofs say, which the other one could answer (`settlement/rollup/disputes.py`)."""


class QueueEntry(msgspec.Struct, frozen=True):
    """What the chain orders the rollup to do, in the order of its list; what is not meant is zero.

    It can always be carried out: an exit of nothing, or a close of what is closed already, does nothing.
    """

    kind: int
    index: int
    """Of the account, or of the channel to be closed."""
    first: Address
    """The account's owner; of a close the owner of its first side."""
    second: Address = NATIVE
    amount0: int = 0
    """What is deposited; the first side's balance; of a channel that one side closed what its first side has given."""
    amount1: int = 0
    asset: Address = NATIVE

    def follow(self, before: bytes) -> bytes:
        """Return the running hash of the list up to this entry, from that of all before it: what the chain keeps."""
        return keccak(before + b"".join(word.to_bytes(32, "big") for word in self.words))

    @property
    def words(self) -> tuple[int, ...]:
        """It as six numbers."""
        first, second, asset = (int.from_bytes(each, "big") for each in (self.first, self.second, self.asset))
        return (int(self.kind) | asset << KIND_BITS, self.index, first, second, self.amount0, self.amount1)


ENTRY_WORDS = 6

KIND_BITS = 8
"""Of the word of an entry that has its kind, and then its asset."""


def list_hash(entries: Iterable[QueueEntry]) -> bytes:
    """Return the running hash of these entries, from the first one on."""
    done = ZERO32
    for entry in entries:
        done = entry.follow(done)
    return done


def entry_of(words: tuple[int, ...]) -> QueueEntry:
    """Return the entry of six numbers that the chain keeps."""
    kind, index, first, second, amount0, amount1 = words
    addresses = [Address(each.to_bytes(32, "big")[12:]) for each in (first, second, kind >> KIND_BITS)]
    return QueueEntry(kind & (1 << KIND_BITS) - 1, index, addresses[0], addresses[1], amount0, amount1, addresses[2])
