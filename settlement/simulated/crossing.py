"""What crosses between shards, within a block of one of them: who may leave, and what comes in, once.

A transaction to the outbox takes its coins from the sender alone, so that such transactions meet nowhere. All the rest
happens at the end of the block, in order: parcels are executed, each only if it is the next of its source, and what
left is burnt and numbered. No receipt can fail: what cannot be paid, or came too late, goes back as a receipt of its
own.

Of each other shard and asset the ledger keeps what ever left for it and what ever came from it, modulo 2**128: the
difference, taken on both shards, is what is in flight. So that no shard can hold more than there are numbers, each
may make a share of them only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import LedgerBroken, Revert, Reverted
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.modules.table import MODULES_AT
from tallystick.settlement.shards.group import ShardGroup
from tallystick.settlement.shards.outbox import decode_sending
from tallystick.settlement.shards.receipts import PAGE_MAX, ShardPage, ShardReceipt
from tallystick.settlement.simulated.world import (
    Changes,
    Entries,
    Layer,
    balance_key,
    owed_key,
    refusal_key,
    supply_key,
)

NUMBERS = AMOUNT_MAX + 1
"""Sums over all time are kept modulo this."""

_GROUP, _COUNT, _NUMBER = b"hg", b"hn", b"hi"


class ParcelArrival(msgspec.Struct, frozen=True):
    """A proven page that waits to be executed."""

    raw: bytes
    """The parcel it came in."""
    page: ShardPage


class Crossing(msgspec.Struct, frozen=True, array_like=True):
    """What crossed in a block."""

    pages: tuple[ShardPage, ...]
    """What left."""
    parcels: tuple[bytes, ...]
    """What was executed."""
    salt: int
    """As in the block's hash."""


def begin_shard(group: ShardGroup, number: int) -> Changes:
    """Return what makes a new ledger that shard of the group."""
    group.chain_of(number)
    return {_GROUP: group.fingerprint, _COUNT: len(group), _NUMBER: number or None}


def check_shard(state: Layer, group: ShardGroup, number: int) -> None:
    """Raise InvalidInput unless the ledger is that shard of the group."""
    for key, value in begin_shard(group, number).items():
        if state.number(key) != (value or 0):
            raise InvalidInput("the data is of another shard, or another group of them: use its own directory")


def is_shard(state: Layer) -> bool:
    """Whether the ledger is a shard of some group."""
    return state.number(_COUNT) > 0


def sent_to(state: Layer, shard: int) -> int:
    """Return how many receipts ever left for a shard: the next one's number."""
    return state.number(_key(b"o", shard))


def executed_of(state: Layer, shard: int) -> int:
    """Return how many receipts of a shard were executed: the next one's number."""
    return state.number(_key(b"d", shard))


def left_for(state: Layer, shard: int, asset: Address) -> int:
    """Return what ever left for a shard of an asset, modulo NUMBERS."""
    return state.number(_key(b"s", shard, asset))


def came_from(state: Layer, shard: int, asset: Address) -> int:
    """Return what ever came from a shard of an asset, modulo NUMBERS."""
    return state.number(_key(b"r", shard, asset))


def minted(state: Layer, asset: Address) -> int:
    """Return how much of an asset was ever made on this ledger, wherever it is now."""
    away = sum(left_for(state, other, asset) - came_from(state, other, asset) for other in _others(state))
    return (state.number(supply_key(asset)) + away) % NUMBERS


def mint_limit(state: Layer) -> int:
    """Return how much of an asset this ledger may make in all."""
    return AMOUNT_MAX // max(1, state.number(_COUNT))


def take_leave(state: Layer, contract: Address, caller: Address, envelope: Envelope) -> None:
    """Take from the caller what a transaction sends to another shard; raise Reverted."""
    sending = decode_sending(envelope)
    count, here = state.number(_COUNT), state.number(_NUMBER)
    if not sending.shard < count or sending.shard == here:
        what = f"shard {here} of {count}" if count else "no shard"
        raise Reverted(Revert.UNKNOWN_CALL, f"this chain is {what}; nothing can be sent from it to {sending.shard}")
    if sending.amount == 0:
        raise Reverted(Revert.BAD_AMOUNT, "nothing is sent")
    if sending.to in (contract, sending.asset, NATIVE, *MODULES_AT):
        raise Reverted(Revert.TRANSFER_FAILED, f"nobody could take it out of 0x{sending.to.hex()} again")
    key = balance_key(sending.asset, caller)
    held = state.number(key)
    if held < sending.amount:
        raise Reverted(Revert.INSUFFICIENT_BALANCE, f"0x{caller.hex()} holds {held} of the {sending.amount} to be sent")
    state.put(key, held - sending.amount)


class _Outgoing:
    """Receipts that leave in one block."""

    def __init__(self, state: Layer) -> None:
        self._state = state
        self._receipts: dict[int, list[ShardReceipt]] = {}

    def add(self, shard: int, receipt: ShardReceipt) -> None:
        self._receipts.setdefault(shard, []).append(receipt)

    def burn(self) -> tuple[ShardPage, ...]:
        """Burn what leaves, and number it."""
        state, here, pages = self._state, self._state.number(_NUMBER), list[ShardPage]()
        for shard, receipts in sorted(self._receipts.items()):
            first = sent_to(state, shard)
            pages += [
                ShardPage(here, shard, first + at, tuple(receipts[at : at + PAGE_MAX]))
                for at in range(0, len(receipts), PAGE_MAX)
            ]
            state.put(_key(b"o", shard), first + len(receipts))
            for asset, amount in _sums(receipts).items():
                state.add(supply_key(asset), -amount)
                state.put(_key(b"s", shard, asset), (left_for(state, shard, asset) + amount) % NUMBERS)
        return tuple(pages)


def cross(
    state: Layer,
    contract: Address,
    time: int,
    salt: int,
    leaving: Iterable[tuple[Address, Envelope]],
    arrivals: Sequence[ParcelArrival],
) -> Crossing | None:
    """End a block of `time`: number what is `leaving` (transactions that did `take_leave`), execute what arrived.

    What is not the next of its source is left out. Return None if nothing crossed.
    """
    outgoing = _Outgoing(state)
    for caller, envelope in leaving:
        sending = decode_sending(envelope)
        outgoing.add(sending.shard, ShardReceipt(sending.asset, caller, sending.to, sending.amount, sending.expiry))
    executed = [arrival.raw for arrival in arrivals if _execute(state, contract, time, arrival.page, outgoing)]
    pages = outgoing.burn()
    return Crossing(pages, tuple(executed), salt) if pages or executed else None


def _execute(state: Layer, contract: Address, time: int, page: ShardPage, outgoing: _Outgoing) -> bool:
    """Execute the receipts of a page if it is the next of its source, and fits; return whether it was executed.

    What does not fit was made by no honest group, and waits, with all that comes after it of its source.
    """
    if page.first != executed_of(state, page.source):
        return False
    if any(state.number(supply_key(asset)) + amount > AMOUNT_MAX for asset, amount in _sums(page.receipts).items()):
        return False
    for number, receipt in enumerate(page.receipts, page.first):
        _pay(state, contract, time, page.source, number, receipt, outgoing)
    state.put(_key(b"d", page.source), page.end)
    for asset, amount in _sums(page.receipts).items():
        state.add(supply_key(asset), amount)
        state.put(_key(b"r", page.source, asset), (came_from(state, page.source, asset) + amount) % NUMBERS)
    return True


def _pay(
    state: Layer, contract: Address, time: int, source: int, number: int, receipt: ShardReceipt, outgoing: _Outgoing
) -> None:
    asset, to, amount = receipt.asset, receipt.to, receipt.amount
    refused = to in (contract, *MODULES_AT) or state.number(refusal_key(asset, to)) > 0
    if receipt.refund_of is None and (refused or 0 < receipt.expiry < time):
        outgoing.add(source, ShardReceipt(asset, to, receipt.sender, amount, refund_of=number))
    elif refused:  # by whom it came from: the contract keeps it until it is claimed
        state.add(balance_key(asset, contract), amount)
        state.add(owed_key(asset, to), amount)
    else:
        state.add(balance_key(asset, to), amount)


def check_flow(before: Entries, after: Entries, made: Iterable[tuple[Address, int]]) -> None:
    """Raise LedgerBroken unless what exists changed by what was `made`, what came and what left, and nothing else.

    In both are the entries of a block that changed, as in `check_conservation`.
    """
    differences: Counter[bytes] = Counter()
    for entries, sign in ((before, -1), (after, 1)):
        for key, value in entries.items():
            if isinstance(value, int):
                if key[:1] == b"t":
                    differences[key[1:]] += sign * value
                elif key[:2] in (b"hs", b"hr"):
                    differences[key[10:]] += sign * value if key[:2] == b"hs" else -sign * value
    for minted_asset, amount in made:
        differences[minted_asset] -= amount
    for what, difference in differences.items():
        if difference % NUMBERS:
            raise LedgerBroken(f"{difference} units of asset 0x{what.hex()} came from no shard")


def _key(letter: bytes, shard: int, asset: bytes = b"") -> bytes:
    return b"h" + letter + shard.to_bytes(8, "big") + asset


def _others(state: Layer) -> list[int]:
    return [shard for shard in range(state.number(_COUNT)) if shard != state.number(_NUMBER)]


def _sums(receipts: Iterable[ShardReceipt]) -> Counter[Address]:
    sums: Counter[Address] = Counter()
    for receipt in receipts:
        sums[receipt.asset] += receipt.amount
    return sums
