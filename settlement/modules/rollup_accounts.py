"""Ways into a rollup and out of it, and what everybody does when its operator does not do what it must."""

from __future__ import annotations

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.objects import NATIVE, Address, CooperativeClose
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.interface import ModuleState, refuse
from tallystick.settlement.modules.rollups import (
    BURNT,
    ROLLUPS,
    Books,
    due_key,
    entry_key,
    open_books,
    open_named,
    owner_key,
    root_key,
)
from tallystick.settlement.rollup.rules import Statement, channel_name, ordered_balance
from tallystick.settlement.rollup.state import BadOpening, RollupAccount, RollupChannel, state_root
from tallystick.settlement.rollup.steps import AMOUNT_BITS, ENTRY_WORDS, INDEX_MAX, EntryKind, QueueEntry, entry_of
from tallystick.settlement.rollup.trees import DEPTH, climb

__all__ = ("ROLLUPS",)

WITHDRAWAL_WORDS = 8 + DEPTH
"""Accounts, channels, head; the account's number and leaf; what leads to the root."""

_AMOUNT_MAX = 2**AMOUNT_BITS - 1

ENTRY_ORDERED = ROLLUPS.event(
    "EntryOrdered(address first, uint64 rollup, uint64 index, uint64 kind, uint64 leaf, address second, "
    "address asset, uint128 amount0, uint128 amount1, uint64 due)"
)
ROLLUP_WITHDRAWN = ROLLUPS.event("RollupWithdrawn(address account, uint64 rollup, address asset, uint128 amount)")
ROLLUP_FROZEN = ROLLUPS.event("RollupFrozen(bytes32 root, uint64 rollup, uint64 count)")


def order(books: Books, entry: QueueEntry) -> tuple[()]:
    """Put an entry into the list; raise Reverted if everything has stopped, unless it ends a channel."""
    # that is taken to the end: without it what is in a channel would be nobody's
    stopped = bool(books.get(b"frozen")) and entry.kind not in (EntryKind.CLOSE, EntryKind.SETTLE)
    refuse(stopped, Revert.WRONG_STATUS, "the rollup is frozen")
    index, due = books.get(b"queue"), books.state.time + books.get(b"order")
    books.put_hash(entry_key(index), entry.follow(books.done(index)))
    books.put(due_key(index), due)
    books.put(b"queue", index + 1)
    told = (entry.kind, entry.index, entry.second, entry.asset, entry.amount0, entry.amount1, due)
    books.state.emit(ENTRY_ORDERED, entry.first, books.rollup, index, *told)
    return ()


@ROLLUPS.function("deposit(uint64 rollup, address vault, address owner, uint128 amount)", gas=120_000)
def deposit(state: ModuleState, rollup: int, vault: Address, owner: Address, amount: int) -> tuple[()]:
    """Move coins of the caller to an account in the rollup, which is made if it is new."""
    return _deposit(open_named(state, rollup, vault), owner, NATIVE, amount)


@ROLLUPS.function(
    "depositToken(uint64 rollup, address vault, address owner, address asset, uint128 amount)", gas=120_000
)
def deposit_token(
    state: ModuleState, rollup: int, vault: Address, owner: Address, asset: Address, amount: int
) -> tuple[()]:
    """Move tokens of the caller to an account in the rollup, which is made if it is new."""
    refuse(asset == NATIVE, Revert.BAD_TERMS, "the chain's own coin is no token")
    return _deposit(open_named(state, rollup, vault), owner, asset, amount)


def _deposit(books: Books, owner: Address, asset: Address, amount: int) -> tuple[()]:
    total = books.get(owner_key(b"h", NATIVE, asset)) + amount
    refuse(not 0 < amount <= total <= _AMOUNT_MAX, Revert.BAD_AMOUNT, "deposits are positive, and below 2**88 in all")
    refuse(owner == NATIVE, Revert.BAD_TERMS, "the zero address has no account")
    books.put(owner_key(b"h", NATIVE, asset), total)
    books.add(b"deposited", amount)
    number = books.number_of(owner, asset)
    if not number:
        number = books.get(b"accounts") + 1
        refuse(number > INDEX_MAX, Revert.BAD_TERMS, "the rollup has no room for another account")
        books.put(b"accounts", number)
        books.put(owner_key(b"a", owner, asset), number)
    books.state.take(asset, amount, books.vault)
    return order(books, QueueEntry(EntryKind.DEPOSIT, number - 1, owner, amount0=amount, asset=asset))


def leave(books: Books, asset: Address, amount: int) -> None:
    """So much of an asset is in no account and in no channel any more."""
    books.add(owner_key(b"h", NATIVE, asset), -amount)
    books.add(b"deposited", -amount)


@ROLLUPS.function("forceExit(uint64 rollup, address asset)", gas=100_000)
def force_exit(state: ModuleState, rollup: int, asset: Address) -> tuple[()]:
    """Order all that the caller's account of an asset holds out: the operator must do it, or everything stops."""
    books = open_books(state, rollup)
    number = books.number_of(state.caller, asset)
    refuse(not number, Revert.NOT_A_PARTICIPANT, "the caller has no account of this asset in this rollup")
    return order(books, QueueEntry(EntryKind.EXIT, number - 1, state.caller, asset=asset))


@ROLLUPS.function(
    "forceClose(uint64 rollup, uint64 channel, address first, address second, uint128 balance0, uint128 balance1, "
    "uint64 validUntil, address asset, bytes signatures)",
    gas=250_000,
)
def force_close(
    state: ModuleState,
    rollup: int,
    channel: int,
    first: Address,
    second: Address,
    balance0: int,
    balance1: int,
    valid_until: int,
    asset: Address,
    signatures: bytes,
) -> tuple[()]:
    """Order a close that both have signed (64 bytes each): the operator must do it, or everything stops.

    Then `reclaimClose` pays it out.
    """
    books = open_books(state, rollup)
    large = channel > INDEX_MAX or max(balance0, balance1) > _AMOUNT_MAX
    refuse(large, Revert.BAD_AMOUNT, "the channel's number or a balance is too large for a rollup")
    refuse(state.time > valid_until, Revert.EXPIRED, f"this close was valid until {valid_until}")
    name = channel_name(books.place, first, second, channel, asset)
    close = CooperativeClose(name, balance0, balance1, valid_until)
    digest = digest_cooperative_close(books.place.domain, close)
    for at, signer in enumerate((first, second)):
        good = signer != NATIVE and Statement(signer, digest).is_signed(signatures[64 * at : 64 * at + 64])
        refuse(not good, Revert.BAD_SIGNATURE, f"signature {at} is not that of 0x{signer.hex()}")
    return order(books, QueueEntry(EntryKind.CLOSE, channel, first, second, balance0, balance1, asset))


@ROLLUPS.view(
    "accountOf(uint64 rollup, address owner, address asset)",
    "bool exists, uint64 number, uint128 withdrawn, uint128 owed",
)
def account_of(state: ModuleState, rollup: int, owner: Address, asset: Address) -> tuple[bool, int, int, int]:
    """Return the number of an account, what was paid out to it, and what its owner may claim of the asset."""
    books = open_books(state, rollup)
    number = books.number_of(owner, asset)
    paid, owed = (books.get(owner_key(name, owner, asset)) for name in (b"w", b"o"))
    return (number > 0, max(number - 1, 0), paid, owed)


def _roots(books: Books, number: int, words: list[int]) -> list[bytes]:
    """Return a proof's words as bytes; raise Reverted unless they begin with what a final batch ends in."""
    refuse(number >= books.get(b"final"), Revert.WINDOW_OPEN, f"batch {number} is not final")
    refuse(len(words) != WITHDRAWAL_WORDS, Revert.BAD_PROOF, f"a proof has {WITHDRAWAL_WORDS} numbers")
    raw = [word.to_bytes(32, "big") for word in words]
    root = state_root(raw[0], raw[1], words[2], books.done(words[2]))
    refuse(root != books.hash(root_key(number)), Revert.BAD_PROOF, "the batch ends in another state")
    return raw


def _shown(books: Books, number: int, words: list[int]) -> RollupAccount:
    """Return an account as a final batch has it; raise Reverted if the proof does not show that."""
    raw = _roots(books, number, words)
    try:
        account = RollupAccount.read((words[4], words[5], words[6], words[7]))
    except BadOpening as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
    refuse(climb(account.hash, words[3], raw[8:]) != raw[0], Revert.BAD_PROOF, "the account is another one")
    return account


def shown_channel(books: Books, number: int, words: list[int], index: int) -> RollupChannel:
    """Return a channel as a final batch has it; raise Reverted if the proof does not show that."""
    raw = _roots(books, number, words)
    channel = RollupChannel.read((words[4], words[5], words[6], words[7]))
    is_other = words[3] != index or climb(channel.hash, index, raw[8:]) != raw[1]
    refuse(is_other, Revert.BAD_PROOF, "the channel is another one")
    return channel


def check_sides(books: Books, channel: RollupChannel, first: Address, second: Address, asset: Address) -> None:
    """Raise Reverted unless these are the owners of a channel's accounts, and this is its asset."""
    sides = (books.number_of(first, asset), books.number_of(second, asset))
    refuse(sides != (channel.first + 1, channel.second + 1), Revert.NOTHING_OWED, "the channel is of others")


def _pay_out(books: Books, account: RollupAccount, total: int) -> tuple[()]:
    """Pay an account what of a total was not paid yet."""
    owner, asset = account.owner, account.asset
    key = owner_key(b"w", owner, asset)
    amount = total - books.get(key)
    refuse(amount <= 0, Revert.NOTHING_OWED, f"all of this was paid to 0x{owner.hex()} already")
    refuse(total > AMOUNT_MAX, Revert.BAD_AMOUNT, "no account holds so much")
    books.put(key, total)
    leave(books, asset, amount)
    books.state.give(asset, amount, books.vault, owner)
    books.state.emit(ROLLUP_WITHDRAWN, owner, books.rollup, asset, amount)
    return ()


@ROLLUPS.function("withdraw(uint64 rollup, uint64 number, uint256[] proof)", gas=150_000, gas_per_byte=16)
def withdraw(state: ModuleState, rollup: int, number: int, proof: list[int]) -> tuple[()]:
    """Pay an account what it took out, as a final batch shows. Anybody may ask for it."""
    books = open_books(state, rollup)
    books.finalise()
    account = _shown(books, number, proof)
    return _pay_out(books, account, account.exited)


@ROLLUPS.function("claim(uint64 rollup, address asset)", gas=60_000)
def claim(state: ModuleState, rollup: int, asset: Address) -> tuple[()]:
    """Pay the caller what it is owed: rewards, fees, a bond, and what `reclaimClose` gave."""
    books = open_books(state, rollup)
    key = owner_key(b"o", state.caller, asset)
    amount = books.get(key)
    refuse(not amount, Revert.NOTHING_OWED, "nothing is owed to the caller")
    books.put(key, 0)
    state.give(asset, amount, books.vault, state.caller)
    return ()


@ROLLUPS.function("freeze(uint64 rollup)", gas=60_000)
def freeze(state: ModuleState, rollup: int) -> tuple[()]:
    """Stop a rollup of which an entry is overdue. What stands can still be convicted, and then everybody leaves.

    It costs the operator half of its bond; whoever calls gets what a demand costs of it, the rest is burnt. The
    operator itself may stop at any time, and loses nothing if nothing is overdue.
    """
    books = open_books(state, rollup)
    refuse(bool(books.get(b"frozen")), Revert.WRONG_STATUS, "the rollup is frozen already")
    overdue, is_operator = books.is_overdue, state.caller == books.address(b"operator")
    refuse(not overdue and not is_operator, Revert.WINDOW_OPEN, "no entry of the list is overdue")
    books.put(b"frozen", state.time)
    if overdue:
        books.put(b"late", 1)
        lost = books.get(b"bonded") // 2
        reward = min(books.get(b"fee"), lost)
        books.add(b"bonded", -lost)
        books.owe(state.caller, reward)
        books.owe(BURNT, lost - reward)
    state.emit(ROLLUP_FROZEN, books.root, rollup, books.get(b"count"))
    return ()


def _check_ended(books: Books) -> None:
    """Raise Reverted unless the rollup is frozen, and all that stands is final."""
    books.finalise()
    refuse(not books.get(b"frozen"), Revert.WRONG_STATUS, "the rollup is not frozen")
    refuse(books.get(b"final") != books.get(b"count"), Revert.WINDOW_OPEN, "a batch can still be convicted")


@ROLLUPS.function("escape(uint64 rollup, uint256[] proof)", gas=150_000, gas_per_byte=16)
def escape(state: ModuleState, rollup: int, proof: list[int]) -> tuple[()]:
    """Pay an account all that it held and took out by the last batch of a frozen rollup.

    If something was overdue, the operator's bond pays who brings the proof as much as the account gets, and no more
    than what a demand costs: an account of dust is worth dust, and one of a token nothing.
    """
    books = open_books(state, rollup)
    _check_ended(books)
    count = books.get(b"count")
    refuse(not count, Revert.WRONG_STATUS, "the rollup has no batch")
    account = _shown(books, count - 1, proof)
    total = account.balance + account.exited
    gets = max(total - books.get(b"w" + account.owner), 0) if account.asset == NATIVE else 0
    reward = min(books.get(b"fee"), books.get(b"bonded"), gets) if books.get(b"late") else 0
    books.add(b"bonded", -reward)
    books.owe(state.caller, reward)
    return _pay_out(books, account, total)


def _ordered(books: Books, index: int, words: list[int], *kinds: EntryKind) -> QueueEntry:
    """Return an entry of the list by its words; raise Reverted unless they are those of one of these kinds."""
    fits = len(words) == ENTRY_WORDS and index < books.get(b"queue")
    made = entry_of(tuple(words)) if fits else None
    is_it = made is not None and made.words == tuple(words) and made.follow(books.done(index)) == books.done(index + 1)
    if made is None or not is_it or made.kind not in kinds:
        raise Reverted(Revert.BAD_PROOF, f"entry {index} is another one")
    return made


@ROLLUPS.function("reclaim(uint64 rollup, uint64 index, uint256[] entry)", gas=100_000)
def reclaim(state: ModuleState, rollup: int, index: int, entry: list[int]) -> tuple[()]:
    """Give back a deposit that no batch of a frozen rollup has."""
    books = open_books(state, rollup)
    _check_ended(books)
    refuse(index < books.queue_end, Revert.WRONG_STATUS, f"entry {index} was carried out")
    made, key = _ordered(books, index, entry, EntryKind.DEPOSIT), b"z" + index.to_bytes(8, "big")
    refuse(bool(books.get(key)), Revert.NOTHING_OWED, f"deposit {index} was given back already")
    books.put(key, 1)
    leave(books, made.asset, made.amount0)
    state.give(made.asset, made.amount0, books.vault, made.first)
    return ()


@ROLLUPS.function(
    "reclaimClose(uint64 rollup, uint64 index, uint256[] entry, uint256[] proof)", gas=150_000, gas_per_byte=16
)
def reclaim_close(state: ModuleState, rollup: int, index: int, entry: list[int], proof: list[int]) -> tuple[()]:
    """Owe both sides of a channel what is theirs, if no batch of a frozen rollup has the order to close it.

    That is what both have signed, or what came of a close by one side.
    """
    books = open_books(state, rollup)
    _check_ended(books)
    count = books.get(b"count")
    refuse(not count or index < books.queue_end, Revert.WRONG_STATUS, f"entry {index} was carried out")
    made = _ordered(books, index, entry, EntryKind.CLOSE, EntryKind.SETTLE)
    channel, key = shown_channel(books, count - 1, proof, made.index), b"x" + made.index.to_bytes(4, "big")
    balance0 = ordered_balance(channel, made)
    if balance0 is None or books.get(key):
        raise Reverted(Revert.NOTHING_OWED, "the channel was closed, or is not as the close says")
    check_sides(books, channel, made.first, made.second, made.asset)
    books.put(key, 1)
    leave(books, made.asset, channel.total)
    books.owe(made.first, balance0, made.asset)
    books.owe(made.second, channel.total - balance0, made.asset)
    return ()
