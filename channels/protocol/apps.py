"""What two players of an application agree on and sign: its terms, its numbered states, its outcome (kind 1 of locks).

An instance of an app stands beside channels, not in one: it names two *players* by their keys, and what each has at
stake. Each stake is a lock, in whatever channel leads from that player to the other, directly or over hubs, with

    condition of player i's stake = keccak("tallystick app stake" ‖ instance ‖ i)

and the outcome says how much of each stake goes to the other player: `paid = (of stake 0, of stake 1)`. As an amount
depends on the condition alone, whoever passes such locks on gets what it gives.

Signed are, as EIP-712 data under the adjudicator's domain: each state by its number, the mover first and then the
other; and the outcome, by both, which decides the locks off chain. What the players cannot agree on is decided by the
chain's court (docs/apps.md), which begins with the newest state that both signed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, NewType

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, UINT64_MAX
from tallystick.channels.protocol.eip712 import digest_of_struct, domain_separator, type_hash
from tallystick.channels.protocol.keys import is_signed, keccak
from tallystick.channels.protocol.objects import Address, Bytes32, Number

InstanceId = NewType("InstanceId", bytes)
"""32 bytes, see `instance_id`."""

APP = 1
"""The kind of locks that are an instance's stakes."""
STATE_MAX = 1_024
"""Bytes of a state."""
MOVE_MAX = 512
"""Bytes of a move."""
PERIOD_LEAST, PERIOD_MOST = 60, 604_800
"""Seconds that a player may be given for a move once the chain counts."""
PROOF_SIZE = 8 + 20 + 32 + 32 + 2 * 20 + 2 * 16 + 2 * 20 + 8 + 8 + 8 + 2 * 16 + 2 * 64
"""Bytes of an outcome's proof: terms, what is paid, signatures."""

_ID_DOMAIN = keccak(b"tallystick app instance")
_STAKE_DOMAIN = keccak(b"tallystick app stake")
_WORD_DOMAIN = keccak(b"tallystick app stake word")

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class AppTerms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an instance is, from its proposal on for ever. Player 0 is who proposed it."""

    chain_id: int
    contract: Address
    """The adjudicator that decides its locks."""
    app: bytes
    """32 bytes: `App.id`, the hash of its rules."""
    start: bytes
    """keccak of the state that it begins with, which also holds what its rules take as parameters."""
    players: tuple[Address, Address]
    stakes: tuple[int, int]
    """What each player locks; 0: nothing, and no lock."""
    assets: tuple[Address, Address]
    """Of the stakes."""
    expiry: int
    """Of the locks; until then the court takes up a dispute."""
    period: Annotated[int, msgspec.Meta(ge=PERIOD_LEAST, le=PERIOD_MOST)]
    """Seconds that whose turn it is has for a move, once the court counts."""
    nonce: int
    """Tells instances with the same terms apart: a pair of players never uses one twice."""

    def __post_init__(self) -> None:
        addresses = (self.contract, *self.players, *self.assets)
        if any(len(each) != 20 for each in addresses) or self.players[0] == self.players[1]:
            raise InvalidInput("an app has two players who differ; addresses have 20 bytes")
        if len(self.app) != 32 or len(self.start) != 32:
            raise InvalidInput("the id of an app, and the hash of its first state, have 32 bytes")
        if not all(0 <= stake <= AMOUNT_MAX for stake in self.stakes) or not any(self.stakes):
            raise InvalidInput("a stake is from 0 to 2**128 - 1, and at least one player has one")
        if not all(0 <= value <= UINT64_MAX for value in (self.chain_id, self.expiry, self.nonce)):
            raise InvalidInput("chain_id, expiry and nonce must be from 0 to 2**64 - 1")
        if not PERIOD_LEAST <= self.period <= PERIOD_MOST:
            raise InvalidInput(f"a move has from {PERIOD_LEAST} to {PERIOD_MOST} seconds in court, not {self.period}")

    def player_of(self, address: Address) -> int:
        """Return 0 or 1, the index of a player; raise InvalidInput if it is none."""
        if address not in self.players:
            raise InvalidInput(f"0x{address.hex()} does not play in this app")
        return self.players.index(address)


class AppState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A numbered state of an instance. 0 is the one that it begins with."""

    instance: Bytes32
    number: Number
    state: Bytes32
    """keccak of the state's bytes."""


class AppOutcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How an instance ended: how much of each player's stake goes to the other player."""

    instance: Bytes32
    paid: tuple[Number, Number]


class SignedState(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A state with both signatures, in order of player: the court prefers it to all with lower numbers."""

    state: AppState
    signatures: tuple[Signature, Signature]

    def holds(self, terms: AppTerms) -> bool:
        """Whether both players of that instance signed it."""
        digest = digest_state(terms, self.state)
        return self.state.instance == instance_id(terms) and _is_by_both(terms, digest, self.signatures)


class OutcomeProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What decides an instance's locks off chain, in any channel: the outcome that both players signed."""

    terms: AppTerms
    paid: tuple[Number, Number]
    signatures: tuple[Signature, Signature]
    """In order of player."""

    def holds(self) -> bool:
        """Whether it pays no more than was staked, and both players signed it."""
        outcome = AppOutcome(instance_id(self.terms), self.paid)
        within = all(paid <= stake for paid, stake in zip(self.paid, self.terms.stakes, strict=True))
        return within and _is_by_both(self.terms, digest_outcome(self.terms, outcome), self.signatures)

    def encode(self) -> bytes:
        """Return the bytes that an unlock carries, PROOF_SIZE of them."""
        paid = b"".join(amount.to_bytes(16, "big") for amount in self.paid)
        return _packed(self.terms) + paid + b"".join(self.signatures)

    @classmethod
    def decode(cls, data: bytes) -> OutcomeProof:
        """Return the proof; raise InvalidInput if these bytes are none."""
        if len(data) != PROOF_SIZE:
            raise InvalidInput(f"the proof of an app's outcome has {PROOF_SIZE} bytes, this one has {len(data)}")
        at = 0

        def take(size: int) -> bytes:
            nonlocal at
            at += size
            return data[at - size : at]

        def number(size: int) -> int:
            return int.from_bytes(take(size), "big")

        def addresses() -> tuple[Address, Address]:
            return Address(take(20)), Address(take(20))

        terms = AppTerms(
            chain_id=number(8),
            contract=Address(take(20)),
            app=take(32),
            start=take(32),
            players=addresses(),
            stakes=(number(16), number(16)),
            assets=addresses(),
            expiry=number(8),
            period=number(8),
            nonce=number(8),
        )
        return cls(terms, (number(16), number(16)), (take(64), take(64)))


@lru_cache(maxsize=4096)
def instance_id(terms: AppTerms) -> InstanceId:
    """Return keccak(abi.encode(keccak("tallystick app instance"), every field of the terms in order)): 32 bytes."""
    words = (
        _ID_DOMAIN,
        terms.chain_id,
        terms.contract,
        terms.app,
        terms.start,
        *terms.players,
        *terms.stakes,
        *terms.assets,
        terms.expiry,
        terms.period,
        terms.nonce,
    )
    return InstanceId(keccak(b"".join(_word(word) for word in words)))


@lru_cache(maxsize=4096)
def stake_condition(instance: bytes, player: int) -> bytes:
    """Return the condition (32 bytes) of the locks that are this player's stake."""
    return keccak(_STAKE_DOMAIN + instance + _word(player))


@lru_cache(maxsize=4096)
def stake_word(instance: bytes) -> bytes:
    """Return what a stake's onion says to its receiver (32 bytes): who passes it on knows the condition alone."""
    return keccak(_WORD_DOMAIN + instance)


def digest_state(terms: AppTerms, state: AppState) -> bytes:
    """Return the digest (32 bytes) that both players sign for a state."""
    fields = _STATE + state.instance + _word(state.number) + state.state
    return digest_of_struct(domain_separator(terms.chain_id, terms.contract), fields)


def digest_outcome(terms: AppTerms, outcome: AppOutcome) -> bytes:
    """Return the digest (32 bytes) that both players sign for an outcome."""
    fields = _OUTCOME + outcome.instance + _word(outcome.paid[0]) + _word(outcome.paid[1])
    return digest_of_struct(domain_separator(terms.chain_id, terms.contract), fields)


_STATE, _OUTCOME = type_hash("AppState"), type_hash("AppOutcome")


def _is_by_both(terms: AppTerms, digest: bytes, signatures: tuple[bytes, bytes]) -> bool:
    return all(is_signed(digest, *signed) for signed in zip(signatures, terms.players, strict=True))


def _packed(terms: AppTerms) -> bytes:
    stakes = b"".join(stake.to_bytes(16, "big") for stake in terms.stakes)
    times = b"".join(value.to_bytes(8, "big") for value in (terms.expiry, terms.period, terms.nonce))
    head = terms.chain_id.to_bytes(8, "big") + terms.contract + terms.app + terms.start
    return head + b"".join(terms.players) + stakes + b"".join(terms.assets) + times


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")
