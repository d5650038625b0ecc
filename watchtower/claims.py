"""What solves a client's pending incoming locks, and what a tower does with it. Pure.

A *lock claim* is a pending lock of the peer's, with the secret or the deepest link that pays for it. A lock pays only
what was registered on chain by its expiry, so a client that sleeps past the expiry is not paid, unless a tower
registers it. The tower has them in two ways:

| what                                | who can read it                | registered                              |
| ----------------------------------- | ------------------------------ | --------------------------------------- |
| sealed, in the appointment          | nobody, before a lone close    | as soon as the channel is closed        |
| *timely*, beside it: for what pends | the tower, though not of which | `ClaimPolicy.margin` before the expiry, |
| when the appointment is sent        | channel it is                  | closed or not                           |

Without the second a peer would simply let the lock expire before it closes. Registering earns a tower nothing, so what
it gives away in a day is bounded: in all, and for each address that appointments come from.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import KIND_MAX, PROOF_MAX, UINT64_MAX
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.conditions import HASH, STREAM, kind_of, worth
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.hashchain import StreamProof
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.values.arguments import Options
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.chain import Call, RegisterLinkCall, RegisterProofCall, RegisterSecretCall
from tallystick.settlement.contract.verdicts import verdict_of
from tallystick.settlement.sending.obligations import Duty, Obligation

TIMELY_MAX = 32
"""Lock claims that a tower is told beside an appointment at most: those that expire first."""

DAY = 86_400

SHARE = 16
"""The claims of one address may cost what is left of the day's sum divided by this."""

_REGISTRATIONS: dict[type[Call], Duty] = {
    RegisterSecretCall: Duty.REGISTER_SECRET,
    RegisterLinkCall: Duty.REGISTER_LINK,
    RegisterProofCall: Duty.REGISTER_PROOF,
}


class LockClaim(Discreet, msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A pending lock of the peer's, and what pays for it."""

    lock: Lock
    proof: Annotated[bytes, msgspec.Meta(max_length=PROOF_MAX)]

    @property
    def is_sane(self) -> bool:
        """Whether its numbers fit, and its kind is one that is registered: nothing is said of the proof."""
        lock = self.lock
        return lock.kind <= KIND_MAX and lock.expiry <= UINT64_MAX and lock.kind in (HASH, STREAM)

    @property
    def steps(self) -> int:
        """How many hashes it takes at most to find out what it is worth."""
        return kind_of(self.lock).steps(self.proof)

    @property
    def worth(self) -> int:
        """What it pays, in the channel's asset, 0 if nothing. Costs `steps` hashes."""
        return worth(self.lock, self.proof)


class ClaimPolicy(Options, frozen=True, kw_only=True):
    """What a tower does for its clients' locks. Amounts are in the native coin's smallest unit."""

    margin: int = 240
    """Seconds of chain time before a lock's expiry at which its secret is registered, closed or not: after the time by
    which an honest payer of a stream pays (300), and before the client's own node would register it (120)."""
    budget: int = 10**16
    """The most to pay in fees for one registration."""
    daily: int = 10**17
    """The most to pay for registrations in one day of chain time: one address's appointments get a part of what is
    left of it (`SHARE`)."""


class ClaimLeft(enum.StrEnum):
    """Why a lock claim is left, as it is now: its lock may be registered yet."""

    PAYS_NOTHING = "pays-nothing"
    """It says to be worth nothing, or nothing that is registered, or its proof is found to pay nothing."""
    FEE_ABOVE_WORTH = "fee-above-worth"
    """The fee is more than it brings in, or than what may be paid for one."""
    DAY_SPENT = "day-spent"
    """The day's sum, or its address's part of it, is used up."""
    TOO_MANY_HASHES = "too-many-hashes"
    """No more hashes are followed with this block."""
    TOO_LATE = "too-late"
    """Its lock had expired when the tower was up again."""


class FreeClaims:
    """What is left of a day's sum for registrations, and who had how much of it."""

    def __init__(self, daily: int) -> None:
        self._daily = daily
        self._day, self._spent = 0, 0
        self._by: dict[bytes, int] = {}

    def take(self, source: bytes, fee: int, now: int) -> bool:
        """Count a fee against an address's part of the day; return whether it fits."""
        if now // DAY != self._day:
            self._day, self._spent = now // DAY, 0
            self._by.clear()
        held = self._by.get(source, 0)
        if held + fee > (self._daily - self._spent) // SHARE:
            return False
        self._by[source], self._spent = held + fee, self._spent + fee
        return True


TIMELY: Codec[tuple[bool, tuple[LockClaim, ...]]] = Codec(tuple[bool, tuple[LockClaim, ...]])
"""What is timely beside an appointment: whether it is of the chain's coin, and the claims."""

_CLAIMS: Codec[tuple[LockClaim, ...]] = Codec(tuple[LockClaim, ...])


def encode_claims(claims: tuple[LockClaim, ...]) -> bytes:
    """Return the encoding of claims, empty for none."""
    return _CLAIMS.encode(claims) if claims else b""


def decode_claims(data: bytes) -> tuple[LockClaim, ...]:
    """Return what was encoded; raise MalformedMessage."""
    return _CLAIMS.decode(data) if data else ()


def mark_of(claims: tuple[LockClaim, ...]) -> bytes:
    """Return what tells these claims from others: 16 bytes, empty for none."""
    return keccak(encode_claims(claims))[:16] if claims else b""


def said_worth(claim: LockClaim) -> int:
    """Return what a claim says to be worth: no hash is followed."""
    if claim.lock.kind != STREAM:
        return claim.lock.amount
    try:
        return min(StreamProof.decode(claim.proof).amount, claim.lock.amount)
    except InvalidInput:
        return 0


def claims_of(channel: Channel, links: Mapping[int, StreamProof]) -> tuple[LockClaim, ...]:
    """Return what pays for the peer's pending locks, by what the node holds: the first to expire first."""
    held = [(known.lock, known.secret) for known in channel.secrets]
    held += [(number, link.encode()) for number, link in links.items() if link.depth]
    found = [
        LockClaim(lock, proof)
        for number, proof in held
        for lock in [channel.theirs.simplex.lock(number)]
        if lock is not None and lock.kind in (HASH, STREAM)
    ]
    return tuple(sorted(found, key=_urgency))


def _urgency(claim: LockClaim) -> tuple[int, int, int]:
    return claim.lock.expiry, -said_worth(claim), claim.lock.id


def fitting(claims: Sequence[LockClaim], room: int) -> tuple[LockClaim, ...]:
    """Return as many claims as `room` bytes take, those of the highest worth; in their order."""
    chosen: set[int] = set()
    room -= 3
    for at in sorted(range(len(claims)), key=lambda at: -said_worth(claims[at])):
        size = len(encode_claims((claims[at],)))
        if size <= room:
            chosen.add(at)
            room -= size
    return tuple(claim for at, claim in enumerate(claims) if at in chosen)


def timely(claims: Iterable[LockClaim]) -> tuple[LockClaim, ...]:
    """Return what of claims a tower is told openly: no ids, and of hash locks no more than the size of the amount."""
    return tuple(_coarse(claim) for claim in sorted(claims, key=_urgency)[:TIMELY_MAX])


def _coarse(claim: LockClaim) -> LockClaim:
    lock = claim.lock
    amount = 1 << (lock.amount.bit_length() - 1) if lock.kind == HASH and lock.amount else lock.amount
    return LockClaim(msgspec.structs.replace(lock, id=0, amount=amount), claim.proof)


def registration(claim: LockClaim, budget: int, channel: ChannelId | None) -> Obligation | None:
    """Return the duty to register what pays for a lock, None if that cannot be. Each secret has one, for all locks."""
    verdict = verdict_of(claim.lock)
    try:
        call = verdict.registration(claim.lock, claim.proof)
    except InvalidInput:
        return None
    kind = _REGISTRATIONS[type(call)]
    return Obligation(
        id=f"{kind}:{claim.lock.condition.hex()}{verdict.mark(claim.proof)}",
        duty=kind,
        call=call,
        purpose=f"{kind} for a client, by {claim.lock.expiry}",
        budget=budget,
        channel=channel,
        deadline=claim.lock.expiry,
    )
