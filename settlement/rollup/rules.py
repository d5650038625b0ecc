"""The rules of a rollup: what each step does to a state, whose signatures it needs, and when it is wrong.

`apply` runs on a whole state, and on one of which a proof opens the leaves that the step looks at. A leaf is changed
before the next one of its tree is looked at, so that each can be proved against the root as it then is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from tallystick.channels.errors import InvalidSignature, TallystickError
from tallystick.channels.protocol.eip712 import digest_cooperative_close, domain_separator
from tallystick.channels.protocol.keys import HALF_ORDER, keccak, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, CooperativeClose
from tallystick.settlement.rollup.state import LeafStanding, RollupAccount, RollupChannel
from tallystick.settlement.rollup.steps import (
    EntryKind,
    NextEntry,
    QueueEntry,
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
)

_TRANSFER = keccak(b"Transfer(address payer,address payee,address asset,uint128 amount,uint64 nonce)")
_OPEN = keccak(b"OpenChannel(bytes32 channel,uint128 deposit,uint64 nonce)")
_FUND = keccak(b"FundChannel(bytes32 channel,uint128 amount,uint64 nonce)")
_EXIT = keccak(b"ExitAccount(address account,address asset,uint128 amount,uint64 nonce)")


class WrongStep(TallystickError):
    """A step that the rules do not allow: a batch with it is wrong, whatever root it claims."""


class Place(NamedTuple):
    """Which rollup it is: its signatures count nowhere else."""

    chain_id: int
    contract: Address

    @property
    def domain(self) -> bytes:
        """Of all that is signed for it (EIP-712)."""
        return domain_separator(self.chain_id, self.contract)


class StepContext(msgspec.Struct, frozen=True):
    """What a rule may know besides state and step."""

    place: Place
    time: int
    """Of the batch."""
    queue_end: int
    """How many entries of the chain's list are done after the batch."""
    entry: QueueEntry | None = None
    """The next one, if it is known."""


class Statement(NamedTuple):
    """What an account's owner must have signed."""

    signer: Address
    digest: bytes

    def is_signed(self, signature: bytes) -> bool:
        """Whether this signature (64 bytes, low s) is the signer's."""
        if len(signature) != 64 or int.from_bytes(signature[32:], "big") > HALF_ORDER:
            return False
        try:
            with_recovery_id(self.digest, signature, self.signer)
        except InvalidSignature:
            return False
        return True


class StepState(Protocol):
    """The state as rules see it."""

    head: int
    done: bytes

    def account(self, index: int) -> RollupAccount | None:
        """Look at an account."""

    def put_account(self, index: int, account: RollupAccount) -> None:
        """Change the account that was looked at last."""

    def channel(self, index: int) -> RollupChannel | None:
        """Look at a channel."""

    def put_channel(self, index: int, channel: RollupChannel) -> None:
        """Change the channel that was looked at last."""

    def mark(self) -> Callable[[], None]:
        """Return what undoes all that is changed from now on."""


Statements: TypeAlias = tuple[Statement, ...]


def channel_name(place: Place, first: Address, second: Address, index: int, asset: Address = NATIVE) -> ChannelId:
    """Return a channel's id (32 bytes), as the adjudicator makes them."""
    numbers = place.chain_id.to_bytes(32, "big"), index.to_bytes(32, "big")
    addresses = b"".join(bytes(12) + each for each in (place.contract, first, second, asset))
    return ChannelId(keccak(numbers[0] + addresses + numbers[1]))


def _digest(place: Place, kind: bytes, name: bytes, *numbers: int) -> bytes:
    fields = b"".join(number.to_bytes(32, "big") for number in numbers)
    return keccak(b"\x19\x01" + place.domain + keccak(kind + name + fields))


def digest_transfer(
    place: Place, payer: Address, payee: Address, amount: int, nonce: int, asset: Address = NATIVE
) -> bytes:
    """Return what the payer signs (32 bytes)."""
    name, numbers = bytes(12) + payer, (int.from_bytes(payee, "big"), int.from_bytes(asset, "big"), amount, nonce)
    return _digest(place, _TRANSFER, name, *numbers)


def digest_open(place: Place, channel: ChannelId, deposit: int, nonce: int) -> bytes:
    """Return what the opener of a channel signs (32 bytes)."""
    return _digest(place, _OPEN, channel, deposit, nonce)


def digest_fund(place: Place, channel: ChannelId, amount: int, nonce: int) -> bytes:
    """Return what a side that pays in signs (32 bytes)."""
    return _digest(place, _FUND, channel, amount, nonce)


def digest_exit(place: Place, owner: Address, amount: int, nonce: int, asset: Address = NATIVE) -> bytes:
    """Return what an account's owner signs to take out what it holds (32 bytes)."""
    return _digest(place, _EXIT, bytes(12) + owner, int.from_bytes(asset, "big"), amount, nonce)


def apply(state: StepState, step: Step, context: StepContext) -> Statements:
    """Do a step to a state; return what must be signed for it. Raise WrongStep if the rules do not allow it.

    After an error the state is of no use.
    """
    match step:
        case NextEntry():
            _next(state, context)
            return ()
        case RollupTransfer():
            return _transfer(state, step, context.place)
        case RollupOpen():
            return _open(state, step, context.place)
        case RollupFund():
            return _fund(state, step, context.place)
        case RollupClose():
            return _close(state, step, context)
        case RollupExit():
            return _exit(state, step, context.place)


def _account(state: StepState, index: int) -> RollupAccount:
    found = state.account(index)
    if found is None:
        raise WrongStep(f"there is no account {index}")
    return found


def _charge(state: StepState, index: int, amount: int, nonce: int, exited: int = 0) -> RollupAccount:
    """Take coins from an account for a step that its owner signed; return it as it was."""
    account = _account(state, index)
    if nonce != account.nonce:
        raise WrongStep(f"account {index} signs number {account.nonce} next, not {nonce}")
    if amount > account.balance:
        raise WrongStep(f"account {index} has {account.balance}, not {amount}")
    left, taken = account.balance - amount, account.exited + exited
    state.put_account(index, replace(account, balance=left, nonce=nonce + 1, exited=taken))
    return account


def _credit(state: StepState, index: int, amount: int) -> RollupAccount:
    account = _account(state, index)
    state.put_account(index, replace(account, balance=account.balance + amount))
    return account


def _transfer(state: StepState, step: RollupTransfer, place: Place) -> Statements:
    if step.payer == step.payee:
        raise WrongStep("nobody pays oneself")
    payer = _charge(state, step.payer, step.amount, step.nonce)
    payee = _credit(state, step.payee, step.amount)
    _check_asset(payer, payee)
    digest = digest_transfer(place, payer.owner, payee.owner, step.amount, step.nonce, payer.asset)
    return (Statement(payer.owner, digest),)


def _check_asset(one: RollupAccount, other: RollupAccount) -> None:
    if one.asset != other.asset:
        raise WrongStep(f"one account holds 0x{one.asset.hex()}, the other one 0x{other.asset.hex()}")


def _open(state: StepState, step: RollupOpen, place: Place) -> Statements:
    if step.opener == step.other:
        raise WrongStep("a channel has two sides")
    opener = _charge(state, step.opener, step.deposit, step.nonce)
    other = _account(state, step.other)
    _check_asset(opener, other)
    if state.channel(step.channel) is not None:
        raise WrongStep(f"number {step.channel} is a channel's already")
    state.put_channel(step.channel, RollupChannel(step.opener, step.other, step.deposit))
    name = channel_name(place, opener.owner, other.owner, step.channel, opener.asset)
    return (Statement(opener.owner, digest_open(place, name, step.deposit, step.nonce)),)


def _standing(state: StepState, index: int) -> RollupChannel:
    channel = state.channel(index)
    if channel is None or channel.standing != LeafStanding.OPEN:
        raise WrongStep(f"channel {index} is not open")
    return channel


def _fund(state: StepState, step: RollupFund, place: Place) -> Statements:
    if step.side > 1:
        raise WrongStep("a channel has two sides")
    channel = _standing(state, step.channel)
    paid = channel.second_paid + step.amount * step.side
    state.put_channel(step.channel, replace(channel, total=channel.total + step.amount, second_paid=paid))
    payer = _charge(state, (channel.first, channel.second)[step.side], step.amount, step.nonce)
    other = _account(state, (channel.second, channel.first)[step.side])
    sides = (other, payer) if step.side else (payer, other)
    name = channel_name(place, sides[0].owner, sides[1].owner, step.channel, payer.asset)
    return (Statement(payer.owner, digest_fund(place, name, step.amount, step.nonce)),)


def _close(state: StepState, step: RollupClose, context: StepContext) -> Statements:
    if context.time > step.valid_until:
        raise WrongStep(f"this close was valid until {step.valid_until}")
    channel = _standing(state, step.channel)
    if step.balance0 > channel.total:
        raise WrongStep(f"channel {step.channel} holds {channel.total}, not {step.balance0}")
    state.put_channel(step.channel, channel.closed)
    first = _credit(state, channel.first, step.balance0)
    second = _credit(state, channel.second, channel.total - step.balance0)
    name = channel_name(context.place, first.owner, second.owner, step.channel, first.asset)
    close = CooperativeClose(name, step.balance0, channel.total - step.balance0, step.valid_until)
    digest = digest_cooperative_close(context.place.domain, close)
    return (Statement(first.owner, digest), Statement(second.owner, digest))


def _exit(state: StepState, step: RollupExit, place: Place) -> Statements:
    account = _charge(state, step.account, step.amount, step.nonce, exited=step.amount)
    digest = digest_exit(place, account.owner, step.amount, step.nonce, account.asset)
    return (Statement(account.owner, digest),)


def _next(state: StepState, context: StepContext) -> None:
    """Carry out the chain's next entry, or do nothing if nothing follows from it."""
    if state.head >= context.queue_end:
        raise WrongStep(f"the batch says that it does {context.queue_end} entries in all")
    entry = context.entry
    if entry is None:
        raise WrongStep(f"there is no entry {state.head} in the chain's list")
    state.head += 1
    state.done = entry.follow(state.done)
    if entry.kind in (EntryKind.CLOSE, EntryKind.SETTLE):
        _ordered_close(state, entry)
        return
    account = state.account(entry.index)
    if entry.kind == EntryKind.DEPOSIT:
        held = account or RollupAccount(entry.first, 0, asset=entry.asset)
        state.put_account(entry.index, replace(held, balance=held.balance + entry.amount0))
    elif account is not None:
        state.put_account(entry.index, replace(account, balance=0, exited=account.exited + account.balance))


def ordered_balance(channel: RollupChannel, entry: QueueEntry) -> int | None:
    """Return what its first side gets of a channel by an entry that closes it; None if nothing follows from that."""
    if channel.standing != LeafStanding.OPEN:
        return None
    if entry.kind == EntryKind.SETTLE:
        return channel.balance0(entry.amount0, entry.amount1)
    return entry.amount0 if channel.total == entry.amount0 + entry.amount1 else None


def _ordered_close(state: StepState, entry: QueueEntry) -> None:
    undo = state.mark()
    channel = state.channel(entry.index)
    balance0 = None if channel is None else ordered_balance(channel, entry)
    if channel is None or balance0 is None:
        return
    state.put_channel(entry.index, channel.closed)
    first = _credit(state, channel.first, balance0)
    second = _credit(state, channel.second, channel.total - balance0)
    if (first.owner, second.owner, first.asset) != (entry.first, entry.second, entry.asset):
        undo()
