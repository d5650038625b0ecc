"""What two players of a virtual channel agree on and sign: its terms, and how it ended (kind 3 of locks).

A virtual channel is a channel without a deposit on chain: what each side puts in is a *stake*, a lock in whatever
channel leads from that player to the other, mostly over hubs. All that is paid in it are balance proofs under its id,
as in any channel. Four conditions belong to it:

    condition i = keccak("tallystick virtual stake" ‖ id ‖ i)

    0, 1   the stake of side i: what the channel moved from side i to the other goes over
    2, 3   a settlement by side i - 2: pays only by an outcome, and so replaces what would go over of a stake

Off chain all of a lock goes over or nothing where hubs pass it on (docs/forwarding.md): so a channel that moved a part
of a stake ends by a settlement lock of just that part, and an outcome by which it pays and both stakes go back. What
the two cannot agree on is decided by the chain's court, which takes the newest balance proofs (docs/virtual.md).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.eip712 import digest_of_struct, digest_proof, domain_separator, type_hash
from tallystick.channels.protocol.keys import is_signed, keccak
from tallystick.channels.protocol.objects import (
    Address,
    BalanceProof,
    ChannelId,
    Number,
    SignedProof,
    Terms,
)

VIRTUAL = 3
"""The kind of locks that stand for a virtual channel."""
PERIOD_LEAST, PERIOD_MOST = 600, 604_800
"""Seconds for which the court takes newer proofs, once it has heard of a channel."""
OUTCOME, BALANCES = 0, 1
"""First byte of what decides such locks: an outcome that both signed, or the newest balance proofs."""

HUBS_MOST = 5
"""Hubs that locks of a virtual channel go over at most, one after the other."""
WAYS_MOST = 4
"""Channels that a player names at most as ways to it."""

Amounts: TypeAlias = tuple[Number, Number, Number, Number]
"""How much goes to the other player by each of the four conditions."""

_ID_DOMAIN = keccak(b"tallystick virtual channel")
_STAKE_DOMAIN = keccak(b"tallystick virtual stake")
_OUTCOME = type_hash("VirtualOutcome")

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class WayIn(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel over which a lock may come to whoever names it, perhaps one that the network is not told of."""

    hub: Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
    """Public key of whoever it is with."""
    channel: Annotated[ChannelId, msgspec.Meta(min_length=32, max_length=32)]


class VirtualTerms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a virtual channel is, from its proposal on for ever. Side 0 is the player with the lower address."""

    chain_id: int
    contract: Address
    """The adjudicator that decides its locks."""
    players: tuple[Address, Address]
    """In ascending order."""
    asset: Address
    stakes: tuple[int, int]
    """What each side puts in; 0: nothing, and no lock."""
    expiry: int
    """Of the locks; until then the court takes up a dispute."""
    period: Annotated[int, msgspec.Meta(ge=PERIOD_LEAST, le=PERIOD_MOST)]
    """Seconds from the first call on for which the court takes newer proofs."""
    nonce: int
    """Tells channels with the same terms apart: a pair of players never uses one twice."""

    def __post_init__(self) -> None:
        if any(len(each) != 20 for each in (self.contract, *self.players, self.asset)):
            raise InvalidInput("addresses have 20 bytes")
        if self.players[0] >= self.players[1]:
            raise InvalidInput("the players of a virtual channel differ, and are in ascending order of address")
        if min(self.stakes) < 0 or not 0 < sum(self.stakes) <= AMOUNT_MAX:
            raise InvalidInput("at least one side puts something in, and both together at most 2**128 - 1")
        if not all(0 <= value <= UINT64_MAX for value in (self.chain_id, self.expiry, self.nonce)):
            raise InvalidInput("chain_id, expiry and nonce must be from 0 to 2**64 - 1")
        if not PERIOD_LEAST <= self.period <= PERIOD_MOST:
            raise InvalidInput(f"the court takes proofs for {PERIOD_LEAST} to {PERIOD_MOST} seconds, not {self.period}")

    def side_of(self, address: Address) -> int:
        """Return 0 or 1, the index of a player; raise InvalidInput if it is none."""
        if address not in self.players:
            raise InvalidInput(f"0x{address.hex()} takes no part in this virtual channel")
        return self.players.index(address)

    @property
    def channel_terms(self) -> Terms:
        """The same as the terms of any channel, without a key that a close on chain would have to show."""
        return Terms(self.chain_id, self.contract, self.players, self.asset, self.nonce, self.period, bytes(32))


class VirtualOutcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a virtual channel ended: what goes to the other player by each condition. A player signs one, ever."""

    channel: ChannelId
    paid: Amounts


class EndingProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What decides the locks off chain, in any channel, and at once in court: the outcome that both signed."""

    terms: VirtualTerms
    paid: Amounts
    signatures: tuple[Signature, Signature]
    """In order of side."""

    def holds(self) -> bool:
        """Whether it pays no more than was staked, and both players signed it."""
        digest = digest_outcome(self.terms, self.paid)
        within = self.paid[0] <= self.terms.stakes[0] and self.paid[1] <= self.terms.stakes[1]
        return within and all(
            is_signed(digest, *signed) for signed in zip(self.signatures, self.terms.players, strict=True)
        )

    def encode(self) -> bytes:
        """Return the bytes that an unlock carries."""
        paid = b"".join(amount.to_bytes(16, "big") for amount in self.paid)
        return bytes([OUTCOME]) + _packed(self.terms) + paid + b"".join(self.signatures)


class BalancesProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is brought to court where there is no outcome: the newest balance proofs, of one side or of both."""

    terms: VirtualTerms
    proofs: tuple[SignedProof | None, SignedProof | None]
    """By side whose simplex it is. None: that side has paid nothing, or nothing newer."""

    def holds(self) -> bool:
        """Whether there is a proof, and both players signed each for this channel."""
        found = [(side, proof) for side, proof in enumerate(self.proofs) if proof is not None]
        return bool(found) and all(self._is_signed(side, proof) for side, proof in found)

    def _is_signed(self, side: int, statement: SignedProof) -> bool:
        terms, proof = self.terms, statement.proof
        if proof.channel != virtual_id(terms) or proof.sender != side or proof.seq == 0:
            return False
        digest = digest_proof(domain_separator(terms.chain_id, terms.contract), proof)
        return is_signed(digest, statement.signature, terms.players[side]) and is_signed(
            digest, statement.countersignature, terms.players[1 - side]
        )

    def encode(self) -> bytes:
        """Return the bytes that a registration carries."""
        present = sum(1 << side for side, proof in enumerate(self.proofs) if proof is not None)
        packed = b"".join(_packed_proof(proof) for proof in self.proofs if proof is not None)
        return bytes([BALANCES]) + _packed(self.terms) + bytes([present]) + packed


VirtualProof: TypeAlias = EndingProof | BalancesProof


def decode_proof(data: bytes) -> VirtualProof:
    """Return the proof that these bytes are; raise InvalidInput if they are none. There is one way to write each."""
    reader = _Reader(data)
    tag = reader.number(1)
    terms = reader.terms()
    if tag == OUTCOME:
        paid = (reader.number(16), reader.number(16), reader.number(16), reader.number(16))
        found: VirtualProof = EndingProof(terms, paid, (reader.take(64), reader.take(64)))
    elif tag == BALANCES:
        present, channel = reader.number(1), virtual_id(terms)
        if not 1 <= present <= 3:
            raise InvalidInput("balance proofs of a virtual channel are of one side, or of both")
        first = reader.proof(channel, 0) if present & 1 else None
        found = BalancesProof(terms, (first, reader.proof(channel, 1) if present & 2 else None))
    else:
        raise InvalidInput(f"the first byte of what decides a virtual channel is 0 or 1, not {tag}")
    reader.end()
    return found


@lru_cache(maxsize=4096)
def virtual_id(terms: VirtualTerms) -> ChannelId:
    """Return keccak(abi.encode(keccak("tallystick virtual channel"), every field of the terms in order)): 32 bytes.

    No channel with a deposit has such an id: what is hashed for theirs has six words.
    """
    words = (
        _ID_DOMAIN,
        terms.chain_id,
        terms.contract,
        *terms.players,
        terms.asset,
        *terms.stakes,
        terms.expiry,
        terms.period,
        terms.nonce,
    )
    return ChannelId(keccak(b"".join(_word(word) for word in words)))


@lru_cache(maxsize=4096)
def conditions_of(channel: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the four conditions (32 bytes each) of a virtual channel's locks: two stakes, two settlements."""
    first, second, third, fourth = (keccak(_STAKE_DOMAIN + channel + _word(index)) for index in range(4))
    return first, second, third, fourth


def digest_outcome(terms: VirtualTerms, paid: Amounts) -> bytes:
    """Return the digest (32 bytes) that both players sign for an outcome."""
    fields = _OUTCOME + virtual_id(terms) + b"".join(_word(amount) for amount in paid)
    return digest_of_struct(domain_separator(terms.chain_id, terms.contract), fields)


def moved(stakes: tuple[int, int], transferred: tuple[int, int]) -> tuple[int, int]:
    """Return how much of each stake goes over when the sides have given so much in all: of one of them, at most.

    With the newest of both nothing is ever cut off, as each update was within what its writer had; old ones are cut
    off at what is there, as the adjudicator does it.
    """
    total = sum(stakes)
    balance = min(max(0, stakes[0] - transferred[0] + transferred[1]), total)
    return max(0, stakes[0] - balance), max(0, balance - stakes[0])


class _Reader:
    """Reads fields of a fixed size."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise InvalidInput("what should decide a virtual channel is too short")
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def address(self) -> Address:
        return Address(self.take(20))

    def terms(self) -> VirtualTerms:
        return VirtualTerms(
            chain_id=self.number(8),
            contract=self.address(),
            players=(self.address(), self.address()),
            asset=self.address(),
            stakes=(self.number(16), self.number(16)),
            expiry=self.number(8),
            period=self.number(8),
            nonce=self.number(8),
        )

    def proof(self, channel: ChannelId, side: int) -> SignedProof:
        seq, transferred, locked = self.number(8), self.number(16), self.number(16)
        proof = BalanceProof(channel, side, seq, transferred, locked, self.take(32), self.number(8))
        return SignedProof(proof, self.take(64), self.take(64))

    def end(self) -> None:
        if self._at != len(self._data):
            raise InvalidInput("what should decide a virtual channel is too long")


def _packed(terms: VirtualTerms) -> bytes:
    stakes = b"".join(stake.to_bytes(16, "big") for stake in terms.stakes)
    times = b"".join(value.to_bytes(8, "big") for value in (terms.expiry, terms.period, terms.nonce))
    return terms.chain_id.to_bytes(8, "big") + terms.contract + b"".join(terms.players) + terms.asset + stakes + times


def _packed_proof(statement: SignedProof) -> bytes:
    proof = statement.proof
    amounts = proof.seq.to_bytes(8, "big") + proof.transferred.to_bytes(16, "big") + proof.locked.to_bytes(16, "big")
    seen = proof.seen.to_bytes(8, "big")
    return amounts + proof.locks_root + seen + statement.signature + statement.countersignature


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
