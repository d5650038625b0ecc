"""Towers: their bonds, the covers that are set apart of them, and accusations. The ledger's registry of towers.

The same rules as `contracts/Towers.vy`, in the same order; docs/watchtower.md says what they are for. Anybody may bond;
what no cover holds apart the tower takes out when it likes, and what one does it cannot touch before that cover's end:
so no client depends on what others are promised. Whoever accuses is paid nothing, and the client all of the cover.
"""

from __future__ import annotations

from tallystick.channels.protocol.keys import is_signed
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.covers import (
    BOND_MAX,
    TowerCover,
    TowerPromise,
    check_cover,
    check_guilt,
    digest_cover,
    digest_promise,
    end_of,
)
from tallystick.settlement.modules.interface import Module, ModuleState, refuse

TOWERS = Module("towers", "Watchtowers answer with a bond for what they promised to a client.")
VAULT = TOWERS.account_of(b"bonds")
"""The account that holds all bonds."""

ENDED = 2**127
"""In place of a cover's amount once it was paid out or released: it is never reserved again."""

SECONDS_MAX = 2**32 - 1
"""Of what a tower's terms say in seconds."""

BONDED = TOWERS.event("TowerBonded(address tower, uint128 bond)")
TERMS = TOWERS.event("TowerTerms(address tower, uint64 response, uint64 validity, uint64 period, uint128 price)")
WITHDRAWN = TOWERS.event("BondWithdrawn(address tower, uint128 amount)")
COVERED = TOWERS.event(
    "Covered(bytes32 cover, address tower, address client, bytes32 channel, uint128 amount, uint64 end)"
)
RELEASED = TOWERS.event("CoverReleased(bytes32 cover, address tower, uint128 amount)")
SLASHED = TOWERS.event("TowerSlashed(bytes32 cover, address tower, address client, bytes32 channel, uint128 amount)")

_COVER = (
    "bytes32 channel, address tower, address client, uint128 amount, uint64 until, uint64 response, uint128 price, "
    "uint64 offered"
)


def _grow(state: ModuleState, tower: Address, amount: int) -> None:
    bond = state.get(b"b" + tower) + amount
    refuse(bond > BOND_MAX, Revert.BAD_AMOUNT, "a bond stays below 2**120")
    state.put(b"b" + tower, bond)
    state.take(NATIVE, amount, VAULT)


def _free(state: ModuleState, tower: Address, amount: int) -> None:
    free = state.get(b"b" + tower) - state.get(b"r" + tower)
    refuse(amount > free, Revert.INSUFFICIENT_BALANCE, f"of the tower's bond {free} is free, less than {amount}")


def _end(state: ModuleState, name: bytes, cover: TowerCover) -> None:
    state.put(b"c" + name, ENDED)
    state.put(b"r" + cover.tower, state.get(b"r" + cover.tower) - cover.amount)


def _check_signature(digest: bytes, signature: bytes, tower: Address) -> None:
    good = len(signature) == 64 and is_signed(digest, signature, tower)
    refuse(not good, Revert.BAD_SIGNATURE, "the tower has not signed this (64 bytes, low s)")


def _held(state: ModuleState, cover: TowerCover) -> tuple[bytes, int]:
    """Return the name of a cover that is set apart, and the chain's number; raise Reverted if it is not."""
    channel = state.channel(cover.channel)
    chain_id = channel.terms.chain_id if channel is not None else 0
    name = digest_cover(chain_id, TOWERS.address, cover)
    is_held = state.get(b"c" + name) not in (0, ENDED)
    refuse(not is_held, Revert.UNKNOWN_ENTRY, "no such cover is set apart: it never was, or it has ended")
    return name, chain_id


@TOWERS.function("bond(uint128 amount)", gas=90_000)
def bond(state: ModuleState, amount: int) -> tuple[()]:
    """Add to the caller's bond."""
    refuse(amount == 0, Revert.BAD_AMOUNT, "bond some coins")
    _grow(state, state.caller, amount)
    state.emit(BONDED, state.caller, state.get(b"b" + state.caller))
    return ()


@TOWERS.function("announce(uint64 response, uint64 validity, uint64 period, uint128 price)", gas=70_000)
def announce(state: ModuleState, response: int, validity: int, period: int, price: int) -> tuple[()]:
    """Say on what terms the caller offers covers; what binds it is what it signs."""
    refuse(max(response, validity, period) > SECONDS_MAX, Revert.BAD_TERMS, "terms count in seconds below 2**32")
    for letter, number in ((b"s", response), (b"v", validity), (b"p", period), (b"f", price)):
        state.put(letter + state.caller, number)
    state.emit(TERMS, state.caller, response, validity, period, price)
    return ()


@TOWERS.function("withdraw(uint128 amount)", gas=90_000)
def withdraw(state: ModuleState, amount: int) -> tuple[()]:
    """Take out of the caller's bond what no cover holds apart."""
    refuse(amount == 0, Revert.BAD_AMOUNT, "withdraw some coins")
    _free(state, state.caller, amount)
    state.put(b"b" + state.caller, state.get(b"b" + state.caller) - amount)
    state.emit(WITHDRAWN, state.caller, amount)
    state.give(NATIVE, amount, VAULT, state.caller)
    return ()


@TOWERS.function(f"reserve({_COVER}, bytes signature)", gas=160_000)
def reserve(
    state: ModuleState,
    channel: bytes,
    tower: Address,
    client: Address,
    amount: int,
    until: int,
    response: int,
    price: int,
    offered: int,
    signature: bytes,
) -> tuple[()]:
    """Set a cover apart that a tower has offered, and pay its price into the tower's bond."""
    cover = TowerCover(ChannelId(channel), tower, client, amount, until, response, price, offered)
    found = check_cover(cover, state.channel(cover.channel), state.time)
    name = digest_cover(found.terms.chain_id, TOWERS.address, cover)
    _check_signature(name, signature, tower)
    refuse(state.get(b"c" + name) != 0, Revert.ALREADY_REGISTERED, "this cover was reserved already; ask for another")
    _free(state, tower, amount)
    _grow(state, tower, price)
    end = end_of(cover, found.terms.challenge_period)
    state.put(b"c" + name, amount)
    state.put(b"e" + name, end)
    state.put(b"r" + tower, state.get(b"r" + tower) + amount)
    state.emit(COVERED, name, tower, client, channel, amount, end)
    return ()


@TOWERS.function(f"release({_COVER})", gas=90_000)
def release(
    state: ModuleState,
    channel: bytes,
    tower: Address,
    client: Address,
    amount: int,
    until: int,
    response: int,
    price: int,
    offered: int,
) -> tuple[()]:
    """Give a cover whose time is over back to the tower's free bond."""
    cover = TowerCover(ChannelId(channel), tower, client, amount, until, response, price, offered)
    name, _ = _held(state, cover)
    end = state.get(b"e" + name)
    refuse(state.time <= end, Revert.WINDOW_OPEN, f"the cover is set apart up to {end}; release it after that")
    _end(state, name, cover)
    state.emit(RELEASED, name, cover.tower, cover.amount)
    return ()


@TOWERS.function(f"accuse({_COVER}, uint64 since, uint64 seq0, uint64 seq1, bytes signature)", gas=190_000)
def accuse(
    state: ModuleState,
    channel: bytes,
    tower: Address,
    client: Address,
    amount: int,
    until: int,
    response: int,
    price: int,
    offered: int,
    since: int,
    seq0: int,
    seq1: int,
    signature: bytes,
) -> tuple[()]:
    """Show a promise that a tower broke: all of the cover is paid to the client."""
    cover = TowerCover(ChannelId(channel), tower, client, amount, until, response, price, offered)
    name, chain_id = _held(state, cover)
    promise = TowerPromise(name, since, seq0, seq1)
    _check_signature(digest_promise(chain_id, TOWERS.address, promise), signature, tower)
    found = state.channel(cover.channel)
    if found is None:
        raise Reverted(Revert.UNKNOWN_CHANNEL, f"there is no channel {channel.hex()} on this chain")
    check_guilt(cover, promise, found, state.time)
    _end(state, name, cover)
    state.put(b"b" + tower, state.get(b"b" + tower) - amount)
    state.emit(SLASHED, name, tower, client, channel, amount)
    state.give(NATIVE, amount, VAULT, client)
    return ()


@TOWERS.view(
    "tower(address tower)",
    "uint128 bond, uint128 reserved, uint64 response, uint64 validity, uint64 period, uint128 price",
)
def tower_of(state: ModuleState, account: Address) -> tuple[int, ...]:
    """Return a tower's bond, what of it is set apart, and its terms: all zero if it never said any."""
    return tuple(state.get(letter + account) for letter in (b"b", b"r", b"s", b"v", b"p", b"f"))


@TOWERS.view("cover(bytes32 cover)", "uint128 amount, uint64 end, bool ended")
def cover_of(state: ModuleState, name: bytes) -> tuple[int, int, bool]:
    """Return what is set apart for a cover and until when; `ended`: it was, and nothing is any more."""
    word = state.get(b"c" + name)
    return (0 if word == ENDED else word), state.get(b"e" + name), word == ENDED
