"""What accounts and the contract hold on a real chain, and what calls must say of a channel again.

Everything is read at a block that is named by its hash (EIP-1898): a node that does not have that block says so,
instead of answering by an older one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Terms
from tallystick.settlement.chain import Call, ContractChannel, RedeemCall, SettleCall
from tallystick.settlement.errors import ChainUnavailable, RpcError
from tallystick.settlement.ethereum.abi import Deployment, Signature, terms_values
from tallystick.settlement.ethereum.evm.abi import CHANNEL_OF_TERMS, LOCKS_HELD, OPENED, ChannelContext, HeldLocks
from tallystick.settlement.ethereum.evm.blocks import BlockReader
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard, channel_of, standing
from tallystick.settlement.ethereum.evm.endpoint import Question
from tallystick.settlement.ethereum.evm.nodes import Nodes
from tallystick.settlement.ethereum.evm.questions import read_answer
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_quantity, to_hex
from tallystick.settlement.ethereum.views import BALANCE_OF, CHANNEL_COUNT, SECRET_TIME, decode_channel


class StateReader:
    """Part of `EvmChain`. Its methods raise ChainUnavailable and ChainError."""

    def __init__(self, nodes: Nodes, at: Deployment, blocks: BlockReader, heard: ChannelsHeard) -> None:
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
        return await self._number(BALANCE_OF, asset, account)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """Return the contract's state of a channel, None if it never existed."""
        terms = await self._terms(channel)
        return None if terms is None else await self._view(terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        """Return how many channels this pair (in either order) ever opened in this asset."""
        return await self._number(CHANNEL_COUNT, self._at.contract, min(first, second), max(first, second), asset)

    async def secret_time(self, digest: bytes) -> int | None:
        """Return the block time at which the secret of this sha256 digest was registered."""
        return await self._number(SECRET_TIME, self._at.contract, digest) or None

    async def _view(self, terms: Terms) -> ContractChannel | None:
        data = await self._read(CHANNEL_OF_TERMS, self._at.contract, terms_values(terms))
        return read_answer(lambda value: decode_channel(value, self._at), data)

    async def context(self, call: Call) -> ChannelContext | None:
        """Return what a call must say of its channel again; raise ChainUnavailable if the nodes do not tell it."""
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
        return read_answer(read_quantity, await self._at_head(method, *params))

    async def _number(self, view: Signature, to: Address, *values: Any) -> int:
        found: int = read_answer(view.decode_result, await self._read(view, to, *values))[0]
        return found

    async def _read(self, view: Signature, to: Address, *values: Any) -> bytes:
        call = {"to": to_hex(to), "data": to_hex(view.encode_call(*values))}
        return read_answer(read_bytes, await self._at_head("eth_call", call))

    async def _at_head(self, method: str, *params: Any) -> Any:
        """Return what a node says of the state after the newest block, named by its hash (EIP-1898)."""
        head = await self._blocks.head()
        where = {"blockHash": to_hex(head.hash)}
        state, (answer,) = await self._nodes.ask_one(Question(method, (*params, where)), at_least=head.number)
        if isinstance(answer, RpcError) and len(self._nodes) > 1:
            _, (answer,) = await self._nodes.ask_one(Question(method, (*params, where)), but=state)
        if isinstance(answer, RpcError):  # it may not have that block any more, or not yet
            raise ChainUnavailable(
                f"the chain node at {state.endpoint.url} cannot say it of the newest block: {answer}"
            )
        return answer
