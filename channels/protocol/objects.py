"""The objects that two parties agree on: terms, balance proofs, locks, offers (PROTOCOL section 2).

All are frozen. Integers are unsigned, amounts are in the asset's smallest unit, times are chain time in Unix
seconds, hashes and ids are 32 bytes, addresses 20 bytes, signatures 64 bytes (r and s, low s; see `keys`).
Their digests are in `eip712`; what changes them is in `core`.
"""

from __future__ import annotations

from typing import Annotated, NewType, TypeAlias, cast

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import (
    AMOUNT_MAX,
    KEY_MAX,
    KIND_MAX,
    MEMO_MAX,
    ONION_MAX,
    PROOF_MAX,
    REASON_MAX,
    STREAM_LENGTH_MAX,
    UINT64_MAX,
)
from tallystick.channels.values.argument_rules import Hex, Memo, Raw, Real, Text, Whole, fits_checksum, refuse
from tallystick.channels.values.arguments import know

Address = NewType("Address", bytes)
"""20 bytes: the last 20 of keccak-256 of an uncompressed public key, as on Ethereum. The identity of a node."""

ChannelId = NewType("ChannelId", bytes)
"""32 bytes, see `eip712.channel_id`."""

Puzzle: TypeAlias = tuple[int, bytes]
"""Kind and condition of a lock: a proof that solves it pays all locks with that puzzle, and says nothing of others."""

Number = Annotated[int, msgspec.Meta(ge=0)]
Side = Annotated[int, msgspec.Meta(ge=0, le=1)]
Id = Annotated[ChannelId, msgspec.Meta(min_length=32, max_length=32)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

NATIVE = Address(bytes(20))
"""The asset that is the chain's own coin."""

ZERO32 = bytes(32)

# --- what arguments may be: see `arguments` ----------------------------------------------------------------------

Amount = Annotated[int, Whole(1, AMOUNT_MAX)]
"""At least one of the asset's smallest unit."""
Total = Annotated[int, Whole(0, AMOUNT_MAX)]
Time = Annotated[int, Whole(0, UINT64_MAX)]
"""Chain time, in Unix seconds."""
Seconds = Annotated[float, Real(0, 10**9)]
"""How long."""
Lifetime = Annotated[int, Whole(0, 2**40)]
"""Seconds of chain time."""
Whole64 = Annotated[int, Whole(0, UINT64_MAX)]
Count = Annotated[int, Whole(0, 2**62)]
"""How many, or at which position."""
PaymentKey = Annotated[str, Text(KEY_MAX)]
"""An idempotency key; empty: none."""

_ADDRESS = Hex(20, "an address", check=fits_checksum)
_CHANNEL_ID = Hex(32, "a channel's id")
_BYTES32 = Hex(32)
_MEMO = Memo(MEMO_MAX)
know(Address, _ADDRESS)
know(ChannelId, _CHANNEL_ID)

AnyAddress: TypeAlias = Annotated[Address | str, _ADDRESS]
"""20 bytes, or 40 hex digits with or without 0x: in one case, or with the checksum of EIP-55."""
AnyChannel: TypeAlias = Annotated[ChannelId | str, _CHANNEL_ID]
"""32 bytes, or 64 hex digits."""
AnyHash: TypeAlias = Annotated[bytes | str, _BYTES32]
"""32 bytes (a payment hash, a secret), or 64 hex digits."""
MaybeHash: TypeAlias = Annotated[bytes | str, Hex(32, empty=True)]
"""The same, or none at all."""
AnyMemo: TypeAlias = Annotated[bytes | str, _MEMO]
"""At most 256 bytes; text is written in UTF-8."""
Onion = Annotated[bytes, Raw(0, ONION_MAX)]
Reason = Annotated[bytes, Raw(0, REASON_MAX)]
Secret = Annotated[bytes, Raw(0, PROOF_MAX)]
"""What satisfies a lock's condition: a secret of 32 bytes, or the proof of a stream."""
Units = Annotated[int, Whole(1, STREAM_LENGTH_MAX)]
"""Of a stream."""
Depth = Annotated[int, Whole(0, STREAM_LENGTH_MAX)]
Kind = Annotated[int, Whole(0, KIND_MAX)]
"""Of a lock."""


def to_address(value: Address | str, name: str = "address") -> Address:
    """Return an address that was given in any way; raise InvalidInput if it is none."""
    return cast(Address, _ADDRESS.take(value, name))


def to_channel(value: ChannelId | str, name: str = "channel") -> ChannelId:
    """Return a channel's id that was given in any way; raise InvalidInput if it is none."""
    return cast(ChannelId, _CHANNEL_ID.take(value, name))


def to_hash(value: bytes | str, name: str = "hash") -> bytes:
    """Return 32 bytes that were given in any way; raise InvalidInput if they are none."""
    return cast(bytes, _BYTES32.take(value, name))


def to_memo(value: bytes | str) -> bytes:
    """Return the bytes of a memo; raise InvalidInput if it is none."""
    return cast(bytes, _MEMO.take(value, "memo"))


def to_text(memo: bytes | str) -> str:
    """Return a memo as text; raise InvalidInput if it is no memo, or no text."""
    try:
        return to_memo(memo).decode()
    except UnicodeDecodeError:
        raise InvalidInput("the memo of an invoice is text: these bytes are not UTF-8") from None


def check_amount(value: int, name: str = "amount", minimum: int = 0) -> int:
    """Return `value` if it is an int within `minimum` and 2**128 - 1; raise InvalidInput otherwise."""
    if type(value) is not int or not minimum <= value <= AMOUNT_MAX:
        raise refuse(name, Whole(minimum, AMOUNT_MAX).expects, value)
    return value


class Terms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a channel is, from its opening on for ever. `participants` are in ascending order of address."""

    chain_id: int
    contract: Address
    participants: tuple[Address, Address]
    asset: Address
    number: int
    """Counts this pair's channels in this asset, from 0."""
    challenge_period: int
    close_hash: bytes

    def __post_init__(self) -> None:
        first, second = self.participants
        if not (len(first) == len(second) == len(self.contract) == len(self.asset) == 20):
            raise InvalidInput("addresses must be 20 bytes long")
        if first >= second:
            raise InvalidInput("the participants of a channel must differ and be in ascending order of address")
        if len(self.close_hash) != 32:
            raise InvalidInput("close_hash must be 32 bytes long")
        if not all(0 <= v <= UINT64_MAX for v in (self.chain_id, self.number, self.challenge_period)):
            raise InvalidInput("chain_id, number and challenge_period must be from 0 to 2**64 - 1")

    def side_of(self, address: Address) -> int:
        """Return 0 or 1, the index of `address`; raise InvalidInput if it takes no part in this channel."""
        if address not in self.participants:
            raise InvalidInput(f"0x{address.hex()} takes no part in this channel")
        return self.participants.index(address)


class BalanceProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The cumulative, numbered total of one simplex: what its writer has given in all. Signed by both."""

    channel: Id
    sender: Side
    """0 or 1: whose simplex it is."""
    seq: Number = 0
    transferred: Number = 0
    """Cumulative; never falls."""
    locked: Number = 0
    """Sum of the pending locks' amounts."""
    locks_root: Bytes32 = ZERO32
    seen: Number = 0
    """The highest seq of this simplex whose countersignature the writer held when it signed (section 6)."""


class Lock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A conditional transfer: `amount` to the receiver if the condition holds by `expiry`, else back."""

    id: Number
    amount: Number
    expiry: Number
    kind: Number
    """See `conditions`."""
    condition: bytes

    @property
    def puzzle(self) -> Puzzle:
        """What has to be solved for it to be paid."""
        return self.kind, self.condition


class SignedProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A balance proof with both signatures: enforceable on chain by anyone who holds it."""

    proof: BalanceProof
    signature: bytes
    """By the simplex's writer (`proof.sender`)."""
    countersignature: bytes
    """By its receiver."""


class CooperativeClose(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Both sides' final balances. Signed by both it closes the channel at once, until `valid_until`."""

    channel: Id
    balance0: Number
    balance1: Number
    valid_until: Number


class Withdrawal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`participant` may have taken `total` out of the channel in all, until `valid_until`. Signed by both."""

    channel: Id
    participant: Side
    total: Number
    valid_until: Number


class Voucher(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A victim's promise: whoever `beneficiary` is, it earns the reward if its challenge convicts (section 6)."""

    channel: ChannelId
    beneficiary: Address
