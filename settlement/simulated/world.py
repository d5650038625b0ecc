"""The whole state of the simulated ledger: one flat map from key to value, and layers of changes above it.

A key is one letter and what it names; a value is a number, or a channel's state. What is zero is absent.

| letter | then               | value                                                     |
| ------ | ------------------ | --------------------------------------------------------- |
| n      | account            | number of its transactions in blocks                      |
| b      | asset, account     | its balance                                               |
| a      | asset, owner       | how much of its tokens the adjudicator may take           |
| t      | asset              | how much of it exists                                     |
| c      | channel            | `ChannelStorage`                                            |
| d      | channel, sum       | what side 0 had deposited when both had that sum, plus 1  |
| o      | asset, account     | what the contract owes it, as it refused to be paid       |
| x      | asset, account     | 1 if the account refuses to be paid in it                 |
| p      | p0, p1, asset      | how many channels this pair has had in this asset         |
| s      | sha256 of a secret | block time of its registration                            |
| l      | stream's condition | what its deepest registered link is worth                 |
| k      | kind, condition    | what the verdict of any other kind of lock keeps of it;   |
|        |                    | with a + behind: what of that is above 128 bits           |
| q      | instance, what     | of an app in court: which numbers and which state stand   |
| m      | module, its key    | a word of a rule module's                                 |
| h      | see `crossing`     | which shard it is, and what crossed to and from others    |

A transaction runs in a `Layer` of its own, so that dropping the layer undoes it, and what it wrote is known exactly:
what a parallel executor needs to find conflicts, and a reorganisation to go back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.contract.state import ChannelStorage
from tallystick.settlement.errors import LedgerBroken, Revert, Reverted

Value: TypeAlias = int | ChannelStorage
World: TypeAlias = dict[bytes, Value]
Changes: TypeAlias = dict[bytes, Value | None]
"""New values; None removes the key."""
Entries: TypeAlias = Mapping[bytes, Value | None]


_NONCE, _BALANCE, _OWED, _SUPPLY = b"nbot"


def nonce_key(account: Address) -> bytes:
    """Key of an account's next nonce."""
    return b"n" + account


def balance_key(asset: Address, account: Address) -> bytes:
    """Key of what `account` holds of `asset`."""
    return _balances(asset) + account


def _balances(asset: Address) -> bytes:
    """How the keys of all that is held of `asset` begin."""
    return b"b" + asset


def allowance_key(asset: Address, owner: Address) -> bytes:
    """Key of what the adjudicator may take of the owner's tokens."""
    return b"a" + asset + owner


def supply_key(asset: Address) -> bytes:
    """Key of how much of `asset` exists; a token exists once some of it was minted."""
    return b"t" + asset


def channel_key(channel: ChannelId) -> bytes:
    """Key of a channel's state."""
    return b"c" + channel


def deposits_key(channel: ChannelId, total: int) -> bytes:
    """Key of how the deposits of a channel were shared when their sum was `total`."""
    return b"d" + channel + total.to_bytes(16, "big")


def owed_key(asset: Address, account: Address) -> bytes:
    """Key of what the adjudicator owes an account."""
    return b"o" + asset + account


def refusal_key(asset: Address, account: Address) -> bytes:
    """Key of whether an account refuses an asset: by its code, or because the token blocks it."""
    return b"x" + asset + account


def count_key(first: Address, second: Address, asset: Address) -> bytes:
    """Key of a pair's channel counter. The addresses are in ascending order."""
    return b"p" + first + second + asset


def court_key(instance: bytes, what: bytes) -> bytes:
    """Key of what the court keeps of an app's instance besides its stakes: numbers (n), the state's hash (h, l)."""
    return b"q" + instance + what


def module_key(module: Address, key: bytes) -> bytes:
    """Key of a word that a rule module keeps."""
    return b"m" + module + key


class Layer:
    """Changes above a world or above another layer. Reading sees through; writing stays here."""

    def __init__(self, below: Mapping[bytes, Value] | Layer) -> None:
        self._below = below
        self.changes: Changes = {}

    def get(self, key: bytes) -> Value | None:
        """Return the value as seen from here, None if there is none."""
        return self.changes[key] if key in self.changes else self._below.get(key)

    def put(self, key: bytes, value: Value) -> None:
        """Set a value; zero removes it."""
        self.changes[key] = value or None

    def number(self, key: bytes) -> int:
        """Return a number, 0 if there is none."""
        value = self.changes[key] if key in self.changes else self._below.get(key)
        if isinstance(value, int):
            return value
        if value is None:
            return 0
        raise LedgerBroken(f"the ledger's entry {key.hex()} is a channel where a number must be")

    def channel(self, channel: ChannelId) -> ChannelStorage | None:
        """Return a channel's state, None if it never existed."""
        value = self.get(channel_key(channel))
        if isinstance(value, int):
            raise LedgerBroken(f"the ledger's entry of channel {channel.hex()} is a number")
        return value

    def add(self, key: bytes, amount: int) -> None:
        """Add to a number; `amount` may be negative, the result may not."""
        total = self.number(key) + amount
        if total < 0:
            raise LedgerBroken(f"the ledger's entry {key.hex()} would fall below zero")
        self.changes[key] = total or None

    def before(self) -> Changes:
        """Return the values below of all that is changed here: what takes the changes back."""
        return {key: self._below.get(key) for key in self.changes}


def move(state: Layer, asset: Address, payer: Address, payee: Address, amount: int) -> None:
    """Move an amount from one account to another one; raise Reverted if the first holds less."""
    balances = _balances(asset)
    paying, paid = balances + payer, balances + payee
    held = state.number(paying)
    if held < amount:
        raise Reverted(Revert.INSUFFICIENT_BALANCE, f"0x{payer.hex()} holds {held} of the {amount} needed")
    state.put(paying, held - amount)
    state.put(paid, state.number(paid) + amount)


def apply_changes(world: World, changes: Entries) -> None:
    """Write changes into the world."""
    for key, value in changes.items():
        if value is None:
            world.pop(key, None)
        else:
            world[key] = value


def check_conservation(before: Entries, after: Entries, vault: Address) -> None:
    """Raise LedgerBroken unless going from `before` to `after` made or lost no unit of any asset.

    In both, each asset's supply must be the sum of its balances, and what the account `vault` (the adjudicator) holds
    must be the sum of what its channels hold and of what it owes. It is enough to give the entries that changed: what
    is checked is that both differences stay what they were; from an empty `before`, that they are zero.
    """
    supply: Counter[bytes] = Counter()
    vaulted: Counter[bytes] = Counter()
    for entries, sign in ((before, -1), (after, 1)):
        held: Counter[bytes] = Counter()
        for key, value in entries.items():
            kind = key[0]
            if kind == _NONCE:
                continue
            if isinstance(value, int):
                if kind == _BALANCE:  # first, and little done: a block changes thousands
                    held[key[1:21]] += value
                elif kind == _OWED:
                    vaulted[key[1:21]] -= sign * value
                elif kind == _SUPPLY:
                    supply[key[1:]] += sign * value
            elif value is not None:
                vaulted[value.terms.asset] -= sign * value.held
        for asset, total in held.items():
            supply[asset] -= sign * total
            in_vault = entries.get(balance_key(Address(asset), vault))
            vaulted[asset] += sign * in_vault if isinstance(in_vault, int) else 0
    for what, differences in (("coins in all accounts", supply), ("coins in all channels", vaulted)):
        for asset, difference in differences.items():
            if difference:
                raise LedgerBroken(f"{what}: {difference} units of asset 0x{asset.hex()} are unaccounted for")
