"""What accounts and the contract hold on a real chain, and what calls must say of a channel again.

Everything is read at a block that is named by its hash (EIP-1898): a node that does not have that block says so,
instead of answering by an older one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Terms
from tallystick.settlement.chain import BatchCall, Call, ContractChannel, RedeemCall, SettleCall, SingleCall
from tallystick.settlement.errors import ChainUnavailable, RpcError
from tallystick.settlement.ethereum.abi import Deployment, Signature, terms_values
from tallystick.settlement.ethereum.evm.abi import (
    CHANNEL_OF_TERMS,
    LOCKS_HELD,
    OPENED,
    CallContext,
    ChannelContext,
    HeldLocks,
)
from tallystick.settlement.ethereum.evm.blocks import BlockReader
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard, channel_of, standing
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.evm.nodes import ChainNodes
from tallystick.settlement.ethereum.evm.permits import NONCES, SEPARATOR, PermitDomain, read_domain
from tallystick.settlement.ethereum.evm.questions import read_answer
from tallystick.settlement.ethereum.evm.refusals import is_revert
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_quantity, to_hex
from tallystick.settlement.ethereum.views import (
    ALLOWANCE,
    BALANCE_OF,
    CHANNEL_COUNT,
    OWED,
    SECRET_TIME,
    decode_channel,
)

T = TypeVar("T")


class StateReader:
    """Part of `EvmChain`. Its methods raise ChainUnavailable and ChainError."""

    def __init__(self, nodes: ChainNodes, at: Deployment, blocks: BlockReader, heard: ChannelsHeard) -> None:
        self._nodes = nodes
        self._at = at
        self._blocks = blocks
        self._heard = heard

    async def nonce(self, account: Address) -> int:
        """Return the account's next nonce to be mined."""
        return await self._quantity("eth_getTransactionCount", to_hex(account))

    async def balance(self, account: Address, asset: Address) -> int:
        """Return what the account holds."""
        if asset == NATIVE:
            return await self._quantity("eth_getBalance", to_hex(account))
        return await self._read(_tokens, BALANCE_OF, asset, account)

    async def owed(self, asset: Address, account: Address) -> int:
        """Return what the contract owes an account."""
        return await self._number(OWED, self._at.contract, asset, account)

    async def allowance(self, asset: Address, owner: Address) -> int:
        """Return what the contract may take of the owner's tokens; more than any amount counts as the highest."""
        return min(await self._number(ALLOWANCE, asset, owner, self._at.contract), AMOUNT_MAX)

    async def permit_domain(self, asset: Address, owner: Address) -> PermitDomain | None:
        """Return what a token says that knows permits (EIP-2612), None if it knows none."""
        calls = ((SEPARATOR, ()), (NONCES, (owner,)))
        asked = [{"to": to_hex(asset), "data": to_hex(view.encode_call(*values))} for view, values in calls]
        answers = await self._nodes.ask(*(NodeQuestion("eth_call", (call, "latest")) for call in asked))
        if any(isinstance(answer, RpcError) and is_revert(answer) for answer in answers):
            return None
        separator, nonce = (read_answer(read_bytes, answer) for answer in answers)
        return read_domain(separator, nonce)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """Return the contract's state of a channel, None if it never existed."""
        terms = await self._terms(channel)
        return None if terms is None else await self._view(terms)

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        """Return the contract's state of these channels, searching for the terms of all that were not heard at once."""
        unknown = [each for each in channels if self._heard.terms(each) is None]
        if unknown:
            topics = (to_hex(OPENED), [to_hex(each) for each in unknown])
            await self._blocks.search(topics, lambda: all(self._heard.terms(each) is not None for each in unknown))
        terms = [self._heard.terms(each) for each in channels]
        known = [each for each in terms if each is not None]
        calls = [(CHANNEL_OF_TERMS, self._at.contract, terms_values(each)) for each in known]
        views = iter(await self._read_all(lambda data: decode_channel(data, self._at), calls))
        return tuple(None if each is None else next(views) for each in terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        """Return how many channels this pair (in either order) ever opened in this asset."""
        return await self._number(CHANNEL_COUNT, self._at.contract, min(first, second), max(first, second), asset)

    async def secret_time(self, digest: bytes) -> int | None:
        """Return the block time at which the secret of this sha256 digest was registered."""
        return await self._number(SECRET_TIME, self._at.contract, digest) or None

    async def _view(self, terms: Terms) -> ContractChannel | None:
        return await self._read(
            lambda data: decode_channel(data, self._at), CHANNEL_OF_TERMS, self._at.contract, terms_values(terms)
        )

    async def context(self, call: Call) -> CallContext:
        """Return what a call must say of its channel again; raise ChainUnavailable if the nodes do not tell it."""
        if isinstance(call, BatchCall):
            return tuple([await self._context(each) for each in call.calls])
        return await self._context(call)

    async def _context(self, call: SingleCall) -> ChannelContext | None:
        channel = channel_of(call)
        if channel is None:
            return None
        terms = await self._terms(channel)
        if terms is None:
            raise ChainUnavailable("the chain nodes do not know the channel of a transaction (yet)")
        if not isinstance(call, SettleCall | RedeemCall):
            return ChannelContext(terms)
        if isinstance(call, RedeemCall):
            side = call.sender
            await self._search(channel, lambda: self._heard.held(channel)[side] != HeldLocks())
            return ChannelContext(terms, self._heard.held(channel))
        view = await self._view(terms)
        kept = (ZERO32, ZERO32) if view is None else view.roots
        await self._search(channel, lambda: standing(self._heard.held(channel), kept) is not None)
        held = standing(self._heard.held(channel), kept)
        if held is None:
            raise ChainUnavailable("the chain nodes do not tell which locks a channel ended with (yet)")
        return ChannelContext(terms, held)

    async def _terms(self, channel: ChannelId) -> Terms | None:
        """Return a channel's terms: as they were heard, or as its logs tell when asked for."""
        await self._search(channel, lambda: self._heard.terms(channel) is not None)
        return self._heard.terms(channel)

    async def _search(self, channel: ChannelId, is_found: Callable[[], bool]) -> None:
        """Hear the logs of one channel until what is looked for was heard."""
        if not is_found():
            await self._blocks.search(([to_hex(OPENED), to_hex(LOCKS_HELD)], to_hex(channel)), is_found)

    async def _quantity(self, method: str, *params: Any) -> int:
        (found,) = await self._at_head(read_quantity, method, params)
        return found

    async def _number(self, view: Signature, to: Address, *values: Any) -> int:
        found: int = await self._read(lambda data: view.decode_result(data)[0], view, to, *values)
        return found

    async def _read(self, decode: Callable[[bytes], T], view: Signature, to: Address, *values: Any) -> T:
        (found,) = await self._read_all(decode, [(view, to, *values)])
        return found

    async def _read_all(self, decode: Callable[[bytes], T], calls: Sequence[tuple[Any, ...]]) -> list[T]:
        """Return what `decode` makes of each answer to these calls (view, contract, values)."""
        asked = [{"to": to_hex(to), "data": to_hex(view.encode_call(*values))} for view, to, *values in calls]
        return await self._at_head(lambda value: decode(read_bytes(value)), "eth_call", *((call,) for call in asked))

    async def _at_head(self, read: Callable[[Any], T], method: str, *asked: tuple[Any, ...]) -> list[T]:
        """Return what `read` makes of each answer about the state after the newest block, named by its hash (EIP-1898).

        `asked`: the parameters of each question, but for the block.
        """
        head = await self._blocks.head()
        questions = [NodeQuestion(method, (*params, {"blockHash": to_hex(head.hash)})) for params in asked]
        try:
            _, found = await self._nodes.read(
                lambda _, answers: [read_answer(read, answer) for answer in answers], *questions, at_least=head.number
            )
        except RpcError as error:  # it may not have that block any more, or not yet
            raise ChainUnavailable(f"no chain node says it of the newest block: {error}") from error
        return found


def _tokens(data: bytes) -> int:
    """Read what `balanceOf` answers. Where no code is, that is nothing at all: nobody holds anything of no token."""
    amount: int = BALANCE_OF.decode_result(data)[0] if data else 0
    return amount
