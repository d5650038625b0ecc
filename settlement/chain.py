"""The chain as a node and a tower see it: headers, events, what the contract holds, and calls. `port.Chain` tells them.

Amounts are in the asset's smallest unit, fees in the native coin's smallest unit, times in Unix seconds.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from tallystick.channels.protocol.app_court import AppStands, CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    ChannelId,
    CooperativeClose,
    Lock,
    SignedProof,
    Terms,
    Voucher,
    Withdrawal,
)
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.errors import Revert

T = TypeVar("T")


class Header(msgspec.Struct, frozen=True, array_like=True):
    """One block's header."""

    number: int
    hash: bytes
    parent: bytes
    time: int


class ChannelOpened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A channel came to be. Deposits follow as events of their own."""

    channel: ChannelId
    terms: Terms


class Deposited(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`side` has deposited `total` into the channel in all."""

    channel: ChannelId
    side: int
    total: int


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """`side` has withdrawn `total` from the channel in all."""

    channel: ChannelId
    side: int
    total: int


class CooperativelyClosed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Both agreed; the balances are paid out and the channel is gone."""

    channel: ChannelId
    balance0: int
    balance1: int


class Closed(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A participant closed alone. Anyone may challenge while a block's time is at most `deadline`."""

    channel: ChannelId
    closer: int
    seq0: int
    seq1: int
    close_key: bytes
    deadline: int


class Challenged(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A newer proof of simplex `sender` replaced the one that stood. `convicts`: it proved the closer's fraud."""

    channel: ChannelId
    sender: int
    seq: int
    by: Address
    convicts: bool


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The window is over: `net` was paid to each side (`reward` to a tower); `pot` waits for each simplex's locks."""

    channel: ChannelId
    net0: int
    net1: int
    reward: int
    pot0: int
    pot1: int
    convicted: bool


class Redeemed(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Locks of simplex `sender` were decided: paid to the receiver, refunded to the sender; `root` is of those left."""

    channel: ChannelId
    sender: int
    paid: int
    refunded: int
    root: bytes


class SecretRegistered(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The secret of `digest` (its sha256) is public since the block time `time`."""

    digest: bytes
    secret: bytes
    time: int


class LinkRegistered(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The deepest link so far of that stream is public since the block time `time`; after its expiry none is taken."""

    condition: bytes
    link: bytes
    depth: int
    tip: bytes
    unit: int
    length: int
    time: int


class ProofRegistered(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=11):
    """What solves a puzzle of that kind and condition is public since the block time `time`, better than before."""

    condition: bytes
    kind: int
    proof: bytes
    time: int


class Owed(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A payout was refused, by its receiver or by the token: the contract keeps it until the account claims it."""

    account: Address
    asset: Address
    amount: int


class Claimed(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """All that was owed to an account of an asset was paid, to whom it named."""

    account: Address
    asset: Address
    to: Address
    amount: int


ChannelEvent: TypeAlias = (
    ChannelOpened | Deposited | Withdrawn | CooperativelyClosed | Closed | Challenged | Settled | Redeemed
)
RegistryEvent: TypeAlias = SecretRegistered | LinkRegistered | ProofRegistered | AppStands
AccountEvent: TypeAlias = Owed | Claimed
Event: TypeAlias = ChannelEvent | RegistryEvent | AccountEvent


class ModuleEvent(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """What a rule module told, as a log has it. No block tells it to those who follow channels: ask for logs."""

    module: Address
    topics: tuple[bytes, ...]
    data: bytes


LedgerEvent: TypeAlias = Event | ModuleEvent
"""What a transaction of the simulated ledger may tell."""


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A header and the events of the adjudicator and the registry in that block, in order."""

    header: Header
    events: tuple[Event, ...]


class History(msgspec.Struct, frozen=True):
    """Blocks that no reorganisation reaches, in order up to `last`, without those that hold no events."""

    blocks: tuple[Block, ...]
    last: Header


class FailedCall(msgspec.Struct, frozen=True, array_like=True):
    """One call of a batch did nothing; the others are none the worse for it."""

    index: int
    """Which one, from 0."""
    reason: str
    """Why, as a sentence."""
    revert: Revert | None = None
    """Which rule refused it, None if none did, or none that we know."""


class TransactionReceipt(msgspec.Struct, frozen=True, array_like=True):
    """What became of a transaction that is in a block of the best branch."""

    transaction: bytes
    block: Header
    success: bool
    fee: int
    """Paid, in the native coin."""
    reason: str = ""
    """Why it failed, as a sentence; empty on success."""
    revert: Revert | None = None
    """Which rule refused the call, None if none did, or none that we know."""
    failures: tuple[FailedCall, ...] = ()
    """Of a batch: its calls that did nothing, in order. All others were done, if it is a success."""

    @property
    def why(self) -> str:
        """The rule and the sentence, for people; empty on success."""
        return f"{self.revert}: {self.reason}" if self.revert else self.reason


class SignedCall(NamedTuple):
    """A call as a signed transaction."""

    raw: bytes
    tip: int
    """Offered per unit of gas above what the block itself asks for; where a chain knows no such thing, the price."""


OPEN, CLOSED, SETTLED, GONE = range(4)
"""The values of `ContractChannel.status`. CLOSED: the window runs, or waits for the settlement; SETTLED: locks wait."""


class ContractChannel(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's state of one channel at the head."""

    terms: Terms
    status: int
    deposits: tuple[int, int]
    withdrawn: tuple[int, int]
    closer: int | None = None
    deadline: int | None = None
    seqs: tuple[int, int] = (0, 0)
    roots: tuple[bytes, bytes] = (bytes(32), bytes(32))
    pots: tuple[int, int] = (0, 0)
    convicted: bool = False


class OpenCall(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Open a channel, with the caller's first deposit (0 is allowed). The caller must be a participant.

    `terms.number` must be the next of this pair and asset, so that `close_hash` is known beforehand.
    """

    terms: Terms
    deposit: int
    permit: bool = False
    """Whether the token hears by a permit (EIP-2612) in the call, made when that is signed, what may be taken of it."""


class DepositCall(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Add the caller's `amount` to `side`'s deposit: any time while the channel is open, anyone may pay.

    `asset` must be the channel's: it says whether the amount travels as the transaction's value or as tokens.
    """

    channel: ChannelId
    side: int
    amount: int
    asset: Address = NATIVE
    permit: bool = False
    """As in `OpenCall`."""


class WithdrawCall(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Take an amount that both signed. Signatures are 64 bytes, in order of side."""

    withdrawal: Withdrawal
    signature0: bytes
    signature1: bytes


class CooperativeCloseCall(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Close at once with balances that both signed."""

    close: CooperativeClose
    signature0: bytes
    signature1: bytes


class CloseCall(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Close alone: the caller's newest proofs (None: genesis) and the key that opens `close_hash`."""

    channel: ChannelId
    proof0: SignedProof | None
    proof1: SignedProof | None
    close_key: bytes


class ChallengeCall(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Replace a simplex's proof by one of higher seq. A voucher's beneficiary earns the reward if it convicts."""

    proof: SignedProof
    voucher: Voucher | None = None
    voucher_signature: bytes = b""


class SettleCall(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Pay out after the challenge window. Anyone may."""

    channel: ChannelId


class RedeemCall(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Decide the pending locks of simplex `sender` after settlement: all that make up the stored root. Anyone may."""

    channel: ChannelId
    sender: int
    locks: tuple[Lock, ...]


class RegisterSecretCall(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Make a secret (32 bytes) public: it satisfies every hash lock on it that expires no earlier than that block."""

    secret: bytes


class TransferCall(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Pay `amount` of `asset` to an account."""

    asset: Address
    to: Address
    amount: int


class ApproveCall(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Let the adjudicator take up to `amount` of the caller's tokens, for deposits. Not needed for the native coin."""

    asset: Address
    amount: int


class RegisterLinkCall(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Make a link of a stream public, up to its expiry: the deepest one says what the stream's locks pay."""

    link: bytes
    depth: int
    tip: bytes
    unit: int
    length: int
    expiry: int


class RegisterProofCall(Discreet, msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Make public what solves a puzzle of a kind that has no call of its own."""

    kind: int
    condition: bytes
    proof: bytes


class ClaimCall(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Take all that the contract owes the caller of an asset, at any account."""

    asset: Address
    to: Address


class ModuleCall(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Call a function of a rule module of the simulated ledger, with its calldata."""

    module: Address
    data: bytes
    value: int = 0
    """The most native coin that may leave the caller by it."""


RegistryCall: TypeAlias = RegisterSecretCall | RegisterLinkCall | RegisterProofCall

SingleCall: TypeAlias = (
    OpenCall
    | DepositCall
    | WithdrawCall
    | CooperativeCloseCall
    | CloseCall
    | ChallengeCall
    | SettleCall
    | RedeemCall
    | RegistryCall
    | RegisterStateCall
    | CourtMoveCall
    | ClaimCall
    | TransferCall
    | ApproveCall
    | ModuleCall
)


class BatchCall(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Calls of the contract by one account, in one transaction and without coins: one that fails stops no other."""

    calls: tuple[SingleCall, ...]


BATCH_MAX = 100
"""Calls in one batch."""

BATCHED_SIZE = 1_024
"""Bytes of calldata of each of them, at most."""

Call: TypeAlias = SingleCall | BatchCall


def moved_by(call: Call) -> tuple[Address, int]:
    """Return the asset that a call of a user is about, and how much of it moves besides the fee."""
    match call:
        case OpenCall(terms, deposit):
            return terms.asset, deposit
        case DepositCall(asset=asset, amount=amount) | TransferCall(asset=asset, amount=amount):
            return asset, amount
        case ModuleCall(value=value):
            return NATIVE, value
        case _:
            return getattr(call, "asset", NATIVE), 0


def value_of(call: Call) -> int:
    """Return how much native coin travels with a call."""
    asset, amount = moved_by(call)
    return amount if asset == NATIVE else 0


def with_side(pair: tuple[T, T], side: int, value: T) -> tuple[T, T]:
    """Return a pair that is in order of side, with another value for one."""
    return (value, pair[1]) if side == 0 else (pair[0], value)
