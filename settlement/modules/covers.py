"""What a tower answers for with its bond: covers and promises, what is signed of them, and who is guilty. Pure.

A *cover* sets a part of a tower's bond apart for one client in one channel; the registry of towers keeps it until its
end. A *tower's promise* under a cover names the numbers of the proofs that the tower holds. The tower signs both, as
EIP-712 typed data in the registry's domain. `check_guilt` is all that decides about an accusation;
`contracts/Towers.vy` says the same in the same order, and docs/watchtower.md why it is so.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.protocol.eip712 import digest_of_struct, domain_separator
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.interface import KeptChannel

TYPES = {
    "TowerCover": (
        "bytes32 channel,address tower,address client,uint128 amount,uint64 until,uint64 response,uint128 price,"
        "uint64 offered"
    ),
    "TowerPromise": "bytes32 cover,uint64 since,uint64 seq0,uint64 seq1",
}
"""What is signed, as EIP-712 names it."""

ACCUSE_TIME = 7 * 86_400
"""Seconds for which a cover stays apart after the last window that it is about could have ended."""

VALIDITY_MAX = 366 * 86_400
"""Seconds from its reservation for which a cover can be about closes."""

BOND_MAX = 2**120 - 1
"""Of a tower's bond, and of a cover, in the chain's own coin."""


class TowerCover(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a tower offers to answer for. Amounts are in the chain's own coin, times those of blocks."""

    channel: ChannelId
    tower: Address
    client: Address
    """The participant that is paid if the tower fails."""
    amount: int
    """What it is paid then."""
    until: int
    """The last time of a close that it is about."""
    response: int
    """Seconds that a window must have for the tower to answer."""
    price: int
    """What whoever reserves it pays the tower."""
    offered: int
    """Until when it can be reserved."""


class TowerPromise(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """That no close from `since` on settles with lower numbers than these: the tower holds both proofs."""

    cover: bytes
    """The digest of the cover."""
    since: int
    """The first time of a close that it is about."""
    seq0: int
    seq1: int


def _struct(name: str, *words: int | bytes) -> bytes:
    packed = (word.rjust(32, b"\0") if isinstance(word, bytes) else word.to_bytes(32, "big") for word in words)
    return _HASHES[name] + b"".join(packed)


_HASHES = {name: keccak(f"{name}({fields})".encode()) for name, fields in TYPES.items()}


def digest_cover(chain_id: int, registry: Address, cover: TowerCover) -> bytes:
    """Return what a tower signs of a cover (32 bytes), which is its name, too."""
    domain = domain_separator(chain_id, registry)
    return digest_of_struct(domain, _struct("TowerCover", *msgspec.structs.astuple(cover)))


def digest_promise(chain_id: int, registry: Address, promise: TowerPromise) -> bytes:
    """Return what a tower signs of a promise (32 bytes)."""
    domain = domain_separator(chain_id, registry)
    return digest_of_struct(domain, _struct("TowerPromise", *msgspec.structs.astuple(promise)))


def end_of(cover: TowerCover, challenge_period: int) -> int:
    """Return the last block time up to which a cover stays apart: nobody can be too late who accuses by then."""
    return cover.until + challenge_period + ACCUSE_TIME


def check_cover(cover: TowerCover, channel: KeptChannel | None, time: int) -> KeptChannel:
    """Return the channel of a cover that can be reserved now; or raise Reverted. Its signature comes after."""
    if time > cover.offered:
        raise Reverted(Revert.EXPIRED, f"the cover was offered until {cover.offered}; ask the tower for another one")
    if not 1 <= cover.amount <= BOND_MAX:
        raise Reverted(Revert.BAD_AMOUNT, "a cover is of an amount from 1 to 2**120 - 1")
    if not cover.offered <= cover.until <= time + VALIDITY_MAX:
        raise Reverted(Revert.BAD_TERMS, f"a cover lasts beyond its offer, and for {VALIDITY_MAX} seconds at most")
    if channel is None:
        raise Reverted(Revert.UNKNOWN_CHANNEL, f"there is no channel {cover.channel.hex()} on this chain")
    if not channel.is_open:
        raise Reverted(Revert.WRONG_STATUS, "a cover is for a channel that is open")
    if cover.client not in channel.terms.participants:
        raise Reverted(Revert.NOT_A_PARTICIPANT, "the client is no participant of the channel")
    if channel.terms.challenge_period < cover.response:
        why = f"its windows have {channel.terms.challenge_period} s, less than the {cover.response} s to answer"
        raise Reverted(Revert.BAD_TERMS, f"no close of this channel would count: {why}")
    return channel


def check_guilt(cover: TowerCover, promise: TowerPromise, channel: KeptChannel, time: int) -> None:
    """Return if what the adjudicator keeps of the channel convicts the tower; raise Reverted if it does not.

    Once the window is over nothing changes what is looked at, so this needs no settlement, and has time.
    """
    if channel.is_open or not channel.deadline:
        raise Reverted(Revert.WRONG_STATUS, "nobody has closed the channel alone: there was nothing to answer")
    if time <= channel.deadline:
        raise Reverted(Revert.WINDOW_OPEN, f"the tower has until {channel.deadline} to answer; accuse after that")
    if channel.terms.participants[1 - channel.closer] != cover.client:
        raise Reverted(Revert.NOT_ALLOWED, "the client closed it by itself; a tower answers for what the peer does")
    closed = channel.deadline - channel.terms.challenge_period
    if not promise.since <= closed <= cover.until:
        raise Reverted(Revert.EXPIRED, f"it was closed at {closed}, which is not within the promised time")
    first, second = channel.seqs
    if first >= promise.seq0 and second >= promise.seq1:
        raise Reverted(Revert.NOT_NEWER, f"what stood ({first}, {second}) is what the tower promised, or newer")
