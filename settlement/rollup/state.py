"""The state of a rollup: a tree of accounts, a tree of channels, and which entries of the chain's list are done.

Of the list it has how many there are and the running hash of them all: what was made for one list fits no other, in
which the chain has them in another order.

`RollupState` has all of it and never changes: a step gives another one, and old ones cost nothing. `OpenedState` has
the few leaves that one step touches, each proved against the root: what a contract sees. The rules run on both.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address
from tallystick.settlement.rollup.trees import DEPTH, Siblings, Tree, climb

ACCOUNT_TAG = keccak(b"tallystick: an account of a rollup")
CHANNEL_TAG = keccak(b"tallystick: a channel of a rollup")
STATE_TAG = keccak(b"tallystick: a state of a rollup")

NONCE_BITS = 64
"""Of the word of an account's leaf that has its nonce, and then its asset."""

STANDING_BITS = 8
"""Of the word of a channel's leaf that has its standing, and then what its second side has paid in."""

Words: TypeAlias = tuple[int, int, int, int]


class LeafStanding(enum.IntEnum):
    """What a channel's leaf says."""

    OPEN = 1
    CLOSED = 2
    """Its number is never used again, so no signature of it counts twice."""


class RollupAccount(msgspec.Struct, frozen=True):
    """A leaf of the accounts' tree."""

    owner: Address
    balance: int
    nonce: int = 0
    """Of its next signed step."""
    exited: int = 0
    """What it took out in all: what the chain has not yet paid of that, it pays."""
    asset: Address = NATIVE
    """What it holds: the chain's own coin, or a token."""

    @property
    def words(self) -> Words:
        """It as four numbers."""
        nonce = self.nonce | int.from_bytes(self.asset, "big") << NONCE_BITS
        return (int.from_bytes(self.owner, "big"), self.balance, nonce, self.exited)

    @classmethod
    def read(cls, words: Words) -> RollupAccount:
        """Return the account of four numbers; raise BadOpening if it is none."""
        owner, balance, nonce, exited = words
        if owner == 0 or owner >> 160 or nonce >> NONCE_BITS + 160:
            raise BadOpening("an account without an owner, or of no asset")
        asset = Address((nonce >> NONCE_BITS).to_bytes(20, "big"))
        return cls(Address(owner.to_bytes(20, "big")), balance, nonce & (1 << NONCE_BITS) - 1, exited, asset)

    @property
    def hash(self) -> bytes:
        """Its leaf."""
        return _leaf(ACCOUNT_TAG, self.words)


class RollupChannel(msgspec.Struct, frozen=True):
    """A leaf of the channels' tree."""

    first: int
    """The number of its opener's account."""
    second: int
    total: int
    """What both have paid in."""
    standing: int = LeafStanding.OPEN
    second_paid: int = 0
    """What of that the second side has paid in, as long as it is open."""

    @property
    def words(self) -> Words:
        """It as four numbers."""
        return (self.first, self.second, self.total, int(self.standing) | self.second_paid << STANDING_BITS)

    @classmethod
    def read(cls, words: Words) -> RollupChannel:
        """Return the channel of four numbers."""
        first, second, total, standing = words
        return cls(first, second, total, standing & (1 << STANDING_BITS) - 1, standing >> STANDING_BITS)

    def balance0(self, transferred0: int, transferred1: int) -> int:
        """Return what its first side gets if this is what its sides have given each other in all."""
        return min(max(self.total + transferred1 - self.second_paid - transferred0, 0), self.total)

    @property
    def closed(self) -> RollupChannel:
        """It once it is paid out."""
        return RollupChannel(self.first, self.second, 0, LeafStanding.CLOSED)

    @property
    def hash(self) -> bytes:
        """Its leaf."""
        return _leaf(CHANNEL_TAG, self.words)


def _leaf(tag: bytes, words: Words) -> bytes:
    try:
        return keccak(tag + b"".join(word.to_bytes(32, "big") for word in words))
    except OverflowError as error:  # above a leaf that was wrong already
        raise BadOpening("a number of a leaf is not within 256 bits") from error


def state_root(accounts: bytes, channels: bytes, head: int, done: bytes) -> bytes:
    """Return the hash of a whole state."""
    return keccak(STATE_TAG + accounts + channels + head.to_bytes(32, "big") + done)


class LeafOpening(NamedTuple):
    """A leaf as a proof shows it: four numbers, all zero if it is empty, and the way to the root."""

    words: Words = (0, 0, 0, 0)
    siblings: Siblings = (ZERO32,) * DEPTH


class BadOpening(TallystickError):
    """A proof does not show what it says: nothing follows from it."""


class RollupState:
    """All of a state. `openings` are the leaves that were looked at since `begin`, as they were then."""

    def __init__(
        self,
        accounts: Tree[RollupAccount] | None = None,
        channels: Tree[RollupChannel] | None = None,
        head: int = 0,
        done: bytes = ZERO32,
    ) -> None:
        self.accounts: Tree[RollupAccount] = accounts or Tree()
        self.channels: Tree[RollupChannel] = channels or Tree()
        self.head = head
        """How many entries of the chain's list are done."""
        self.done = done
        """The running hash of these."""
        self.openings: list[LeafOpening] | None = None

    @property
    def root(self) -> bytes:
        """The hash of all of it."""
        return state_root(self.accounts.root, self.channels.root, self.head, self.done)

    def copy(self, *, note: bool = False) -> RollupState:
        """Return the same state, to be changed; `note`: what is looked at is written down."""
        copy = RollupState(self.accounts, self.channels, self.head, self.done)
        copy.openings = [] if note else None
        return copy

    def account(self, index: int) -> RollupAccount | None:
        """Look at an account."""
        found = self.accounts.get(index)
        if self.openings is not None:
            self.openings.append(LeafOpening(found.words if found else (0, 0, 0, 0), self.accounts.siblings(index)))
        return found

    def put_account(self, index: int, account: RollupAccount) -> None:
        """Change the account that was looked at last."""
        self.accounts = self.accounts.with_leaf(index, account.hash, account)

    def channel(self, index: int) -> RollupChannel | None:
        """Look at a channel."""
        found = self.channels.get(index)
        if self.openings is not None:
            self.openings.append(LeafOpening(found.words if found else (0, 0, 0, 0), self.channels.siblings(index)))
        return found

    def put_channel(self, index: int, channel: RollupChannel) -> None:
        """Change the channel that was looked at last."""
        self.channels = self.channels.with_leaf(index, channel.hash, channel)

    def mark(self) -> Callable[[], None]:
        """Return what undoes all that is changed from now on."""
        accounts, channels = self.accounts, self.channels

        def undo() -> None:
            self.accounts, self.channels = accounts, channels

        return undo


class OpenedState:
    """A state of which only a root is known, and the leaves that a proof opens, in the order in which rules look."""

    def __init__(
        self, accounts: bytes, channels: bytes, head: int, done: bytes, openings: Sequence[LeafOpening]
    ) -> None:
        self._accounts = accounts
        self._channels = channels
        self.head = head
        self.done = done
        self._openings = iter(openings)
        self._siblings: Siblings = ()

    @property
    def root(self) -> bytes:
        """The hash of all of it."""
        return state_root(self._accounts, self._channels, self.head, self.done)

    def account(self, index: int) -> RollupAccount | None:
        """Look at an account; raise BadOpening unless the proof shows it."""
        words = self._open(ACCOUNT_TAG, index, self._accounts)
        if words is None:
            return None
        return RollupAccount.read(words)

    def put_account(self, index: int, account: RollupAccount) -> None:
        """Change the account that was looked at last."""
        self._accounts = climb(account.hash, index, self._siblings)

    def channel(self, index: int) -> RollupChannel | None:
        """Look at a channel; raise BadOpening unless the proof shows it."""
        words = self._open(CHANNEL_TAG, index, self._channels)
        return None if words is None else RollupChannel.read(words)

    def put_channel(self, index: int, channel: RollupChannel) -> None:
        """Change the channel that was looked at last."""
        self._channels = climb(channel.hash, index, self._siblings)

    def mark(self) -> Callable[[], None]:
        """Return what undoes all that is changed from now on."""
        accounts, channels = self._accounts, self._channels

        def undo() -> None:
            self._accounts, self._channels = accounts, channels

        return undo

    def _open(self, tag: bytes, index: int, root: bytes) -> Words | None:
        words, self._siblings = next(self._openings, LeafOpening())
        leaf = _leaf(tag, words) if any(words) else ZERO32
        if climb(leaf, index, self._siblings) != root:
            raise BadOpening(f"leaf {index} is not what the proof says")
        return words if any(words) else None
