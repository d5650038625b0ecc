"""The interface to a chain, and what is known of one before it is asked: its pace, its depth, what each call takes.

It is simulated in process (`simulated`), asked of such a chain's node (`ethereum.rpc_client`), or of Ethereum nodes
(`ethereum.evm`): always the current best branch; following it, with reorganisations, is `follower`'s work.
Amounts are in the asset's smallest unit, fees in the native coin's smallest unit, times in Unix seconds.

Counts of blocks that stand for a time (how long something is tried, or not believed) are written for a chain with
`PACE` seconds between two blocks, and multiplied by `ChainFigures.pace` where blocks are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.settlement.chain import (
    BatchCall,
    Block,
    Call,
    ContractChannel,
    DepositCall,
    Header,
    History,
    ModuleCall,
    ModuleEvent,
    OpenCall,
    SignedCall,
    TransactionReceipt,
)

PACE = 12.0
"""Seconds between two blocks of the chain for which counts of blocks are written."""


PERMIT_SIZE = 4 * 32
"""Bytes of a permit that goes with a deposit."""


class Each(NamedTuple):
    """What every item of one field of a call adds: a lock, a step, a byte."""

    field: str
    """A sequence, or a number."""
    gas: int
    size: int = 0
    """Bytes."""
    most: int = 2**64
    """Items that count."""

    def count(self, call: Call) -> int:
        """Return how many there are in a call."""
        items = getattr(call, self.field)
        return min(items if isinstance(items, int) else len(items), self.most)


class Charge(NamedTuple):
    """What a transaction is given."""

    gas: int
    """The most gas that it may use: its limit."""
    data: int = 0
    """The native coin that is taken besides, for its bytes: it may be somewhat less or more when it is mined."""
    fails: bool = False
    """Whether the chain's node says that the call would fail now."""
    least: int = 0
    """If not 0, a limit that is enough as a rule: for who cannot pay for the other one."""


def _nothing(app: bytes) -> int:
    return 0


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What calls cost on a chain."""

    calls: Mapping[type[Call], int]
    """The most gas that each kind of call is charged for."""
    each: Mapping[type[Call], Each] = {}
    """What comes on top of it."""
    functions: Mapping[bytes, tuple[int, int]] = {}
    """Of rule modules, by address and selector: what a call is charged for, and what each byte of it adds."""
    app_gas: Callable[[bytes], int] = _nothing
    """What comes on top of a call of the court, by the app's id."""
    most: int = 2**64
    """Gas of any call at most."""
    sizes: Mapping[type[Call], int] = {}
    """Bytes of a transaction of each kind; needed only where a byte has a price."""
    data_price: int = 0
    """What a byte of a transaction costs now besides its gas, in the native coin."""
    permit: int = 0
    """Gas of a permit that goes with a deposit."""
    batched: int = 0
    """Gas that a call takes less in a batch than alone: it is no transaction of its own."""

    def gas(self, call: Call) -> int:
        """Return how much gas a call is charged for at most."""
        if isinstance(call, BatchCall):
            return min(self.calls[BatchCall] + sum(self.gas(member) - self.batched for member in call.calls), self.most)
        if isinstance(call, OpenCall | DepositCall) and call.permit:
            return min(self.calls[type(call)] + self.permit, self.most)
        if isinstance(call, ModuleCall):
            base, per_byte = self.functions.get(call.module + call.data[:4], (0, 0))
            return min(base + per_byte * len(call.data), self.most)
        each = self.each.get(type(call))
        rules = self.app_gas(call.terms.app) if isinstance(call, RegisterStateCall | CourtMoveCall) else 0
        return min(self.calls[type(call)] + (each.gas * each.count(call) if each else 0) + rules, self.most)

    def size(self, call: Call) -> int:
        """Return about how many bytes a transaction of this call has."""
        if isinstance(call, BatchCall):
            return self.sizes.get(BatchCall, 0) + sum(self.size(member) for member in call.calls)
        if isinstance(call, OpenCall | DepositCall) and call.permit and self.sizes:
            return self.sizes[type(call)] + PERMIT_SIZE
        each = self.each.get(type(call))
        return self.sizes.get(type(call), 0) + (each.size * each.count(call) if each else 0)

    def fee(self, call: Call, price: int) -> int:
        """Return what a call costs at most if a unit of gas costs `price`, in the native coin."""
        return self.gas(call) * price + self.size(call) * self.data_price

    def fee_of(self, kind: type[Call], price: int, items: int = 0) -> int:
        """Return the same for a call of a kind that is not there yet, with so many items (locks)."""
        each = self.each.get(kind)
        gas, size = self.calls[kind], self.sizes.get(kind, 0)
        if each is not None:
            gas, size = gas + each.gas * items, size + each.size * items
        return min(gas, self.most) * price + size * self.data_price


class ChainFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How a chain moves, and what it takes."""

    tariff: Tariff
    block_seconds: float = PACE
    """Between two blocks, as a rule."""
    final_blocks: int = 128
    """How deep a block is that no reorganisation reaches."""
    confirmations: int = 3
    """Depth (1: in the head block) at which little is relied on a block."""
    kinds: tuple[int, ...] | None = None
    """Kinds of locks that its contract decides; None: all that this program knows. Others go back to their senders."""
    has_evidence: bool = False
    """Whether what one node says of channels can be borne out otherwise (`Chain.evidence`), before it counts."""
    depths: tuple[tuple[int, int], ...] = ()
    """Pairs of what is at risk (in the native coin, rising) and how deep is enough for it. Empty: any depth is."""

    @property
    def pace(self) -> int:
        """How many of its blocks take as long as one of `PACE` seconds; 1 at least."""
        return max(1, round(PACE / self.block_seconds))


class ChannelsThere(NamedTuple):
    """Channels after one block, borne out."""

    channels: tuple[ContractChannel | None, ...]
    """In the order in which they were asked for; None: it was never opened."""
    denied: tuple[tuple[str, str], ...] = ()
    """Nodes that say otherwise, by URL, and what they say; those who bear it out are more than one."""


class Chain(Protocol):
    """A chain node. Methods raise ChainUnavailable (retry), ChainError (do not), or what they name themselves."""

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id."""

    @property
    def contract(self) -> Address:
        """Address of the adjudicator (the `verifyingContract` of all signatures)."""

    @property
    def figures(self) -> ChainFigures:
        """What is known of the chain before it is asked."""

    async def head(self) -> Header:
        """The newest block."""

    async def header(self, number: int) -> Header | None:
        """The block of that number on the best branch, None above the head."""

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        """Up to `limit` consecutive blocks of one branch, from number `first` on; empty above the head."""

    async def history(self, first: int) -> History | None:
        """A piece of what stays, from number `first` on; None if nothing does, or `blocks` has to tell every block."""
        return None

    async def final_number(self) -> int | None:
        """The newest block that no reorganisation reaches, None if the chain does not say."""
        return None

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`. May return early."""

    async def charge(self, account: Address, call: Call) -> Charge:
        """What a transaction of this call is to be given now. Raise as `sign` does."""

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        """Return `call` as a transaction at most `price` per unit of gas; `tip`: of the one it replaces, 0 if of none.

        `gas` is its limit (`charge`), 0 leaves it to the chain. Raise InvalidInput if it cannot be written,
        ChainUnavailable if what it needs is not told.
        """

    async def submit(self, raw: bytes) -> bytes:
        """Hand in a signed transaction and return its hash; a known one is fine. Raise TransactionRefused."""

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        """The receipt if the transaction is in a block of the best branch.

        Raise ReceiptUntold if it is, and it is not told what became of each call of a batch.
        """

    async def nonce(self, account: Address) -> int:
        """Number of the account's transactions in blocks: the next nonce to be mined."""

    async def fee_price(self) -> int:
        """What a transaction should offer per unit of gas to be mined within a few blocks."""

    async def data_price(self) -> int:
        """What a byte of a transaction costs now besides the gas of its call: 0 but on rollups."""

    async def balance(self, account: Address, asset: Address) -> int:
        """What the account holds."""

    async def owed(self, asset: Address, account: Address) -> int:
        """What the contract owes the account: payouts that it, or the token, refused. A `ClaimCall` takes all of it."""

    async def allowance(self, asset: Address, owner: Address) -> int:
        """What the adjudicator may take of the owner's tokens."""

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        """Whether the owner of `key` may deposit a token with a permit (EIP-2612) in the call, and approve nothing."""
        return False

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """The contract's state of a channel, None if it never existed."""

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        """What `channel` says of each of these, in their order."""
        return tuple([await self.channel(each) for each in channels])

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        """These channels after a block, as more than one node's word bears out; None if there is no more than that.

        Of locks it says nothing. Raise Contradicted if what was told of the block, or of them, is denied.
        """
        return None

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        """The blocks of a short range that hold events of a channel, as any of the chain's nodes tells them."""
        return ()

    def learn(self, terms: Terms) -> None:
        """Hear the terms of a channel: calls about it may have to say them, and need not search for them."""
        return None  # noqa: RET501 (without it mypy takes the method for abstract)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        """How many channels this pair, in either order, ever opened in this asset: the next `Terms.number`."""

    async def secret_time(self, digest: bytes) -> int | None:
        """Block time at which the secret of this sha256 digest was registered."""


class LedgerChain(Chain, Protocol):
    """A chain node of the simulated ledger, which has rule modules."""

    async def view(self, call: ModuleCall, caller: Address = NATIVE) -> bytes:
        """What a call of a module, or a look at it, would return now; raise Reverted as it would."""

    async def told(self, transaction: bytes) -> tuple[ModuleEvent, ...]:
        """What modules told in a transaction of the best branch; nothing if it is in none."""
