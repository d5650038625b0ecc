"""A chain node over JSON-RPC: `RpcChain` implements `chain.Chain` with httpx.

Rules:
- A fault that may pass (no connection, a timeout, HTTP 429 or 5xx) is tried three times with jittered, doubling
  pauses between, then it is ChainUnavailable. Every request may be repeated: to submit a transaction twice is harmless.
- An answer that cannot be right is a ChainError at once. Nothing from the node is used before it was checked.
- Before the first request, and the first after one that met a fault, the node must show that it serves the expected
  chain and contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, TypeVar

import httpx
import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.loops import require_trio
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.channels.values.arguments import checked
from tallystick.settlement.chain import (
    Block,
    Call,
    ContractChannel,
    Header,
    ModuleCall,
    ModuleEvent,
    SignedCall,
    TransactionReceipt,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused, WrongChain
from tallystick.settlement.ethereum.abi import Deployment, Signature
from tallystick.settlement.ethereum.http import NodeClient, make_client, post
from tallystick.settlement.ethereum.rpc_shapes import (
    quantity,
    read_address,
    read_block,
    read_bytes,
    read_header,
    read_module_events,
    read_quantity,
    read_receipt,
    to_hex,
)
from tallystick.settlement.ethereum.transactions import FIGURES, gas_of, sign_call, transaction_hash
from tallystick.settlement.ethereum.views import (
    ALLOWANCE,
    BALANCE_OF,
    CHANNEL,
    CHANNEL_COUNT,
    OWED,
    SECRET_TIME,
    decode_channel,
    read_revert_data,
)
from tallystick.settlement.port import ChainFigures, Charge, LedgerChain

T = TypeVar("T")

REQUEST_AGAIN = Pauses("a request to the chain node", 0.3, 5.0, tries=3)

TIMEOUT = 10.0
"""Seconds for one answer, from the question to its last byte."""

WAIT = 20
"""Seconds that the node is asked to wait for a new head."""

RESPONSE_MAX = 1024 * 1024
"""Bytes of one answer."""

BLOCKS_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of an answer with blocks."""


TEXT_MAX = 300
"""Characters of a chain node's own words that are passed on."""


BLOCKS = "tally_blocks"


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Answer)


@checked
@asynccontextmanager
async def open_rpc_chain(
    url: str,
    *,
    jitter: Jitter,
    expected: Deployment | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[RpcChain]:
    """Give the chain that the node at `url` serves.

    With `expected` the node may be down now; it is checked before anything it says is used. Without, it is asked at
    once which chain and contract it serves. Raise ChainUnavailable, ChainError for another chain, or InvalidInput
    outside of trio. `jitter` returns numbers in [0, 1). `transport` carries the requests (None: TCP).
    """
    require_trio("open_rpc_chain")
    async with make_client(url, TIMEOUT, transport) as client:
        node = _NodeRequests(client, jitter)
        if expected is None:
            expected = await node.deployment()
            node.checked = True
        node.expected = expected
        yield RpcChain(node, expected)


class RpcChain(LedgerChain):
    """The chain that a node serves. Make it with `open_rpc_chain`."""

    def __init__(self, node: _NodeRequests, at: Deployment) -> None:
        self._node = node
        self._at = at

    @property
    def chain_id(self) -> int:
        return self._at.chain_id

    @property
    def contract(self) -> Address:
        return self._at.contract

    @property
    def figures(self) -> ChainFigures:
        return FIGURES

    def __repr__(self) -> str:
        return f"<RpcChain {self.chain_id} at {self._node.url}>"

    async def head(self) -> Header:
        header = await self._header("eth_getBlockByNumber", "latest")
        if header is None:
            raise ChainError("the chain node has no newest block")
        return header

    async def header(self, number: int) -> Header | None:
        header = await self._header("eth_getBlockByNumber", quantity(number))
        if header is not None and header.number != number:
            raise ChainError(f"the chain node was asked for block {number} and sent {header.number}")
        return header

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        answer = await self._node.call(BLOCKS, quantity(max(first, 0)), quantity(max(limit, 0)))
        if not isinstance(answer, list) or len(answer) > limit:
            raise ChainError("the chain node did not answer with a list of blocks, or with too many")
        blocks = tuple(_checked(lambda block: read_block(block, self._at), block) for block in answer)
        if blocks and blocks[0].header.number != max(first, 0):
            raise ChainError(f"the chain node was asked for block {first} and sent {blocks[0].header.number}")
        for before, after in pairwise(blocks):
            if after.header.parent != before.header.hash or after.header.number != before.header.number + 1:
                raise ChainError(f"the chain node's block {after.header.number} does not follow the one before it")
        return blocks

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`, or after WAIT seconds."""
        await self._node.call("tally_waitHead", to_hex(known), quantity(WAIT), timeout=WAIT + TIMEOUT)

    async def charge(self, account: Address, call: Call) -> Charge:
        return Charge(gas_of(call))

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        return SignedCall(sign_call(key, self.chain_id, self.contract, call, nonce, price), price)

    async def submit(self, raw: bytes) -> bytes:
        answer = _checked(read_bytes, await self._node.call("eth_sendRawTransaction", to_hex(raw)))
        if answer != transaction_hash(raw):
            raise ChainError("the chain node calls the transaction by another hash than its own")
        return answer

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        answer = await self._node.call("eth_getTransactionReceipt", to_hex(transaction))
        if answer is None:
            return None
        hash = _checked(lambda receipt: read_bytes(receipt.get("blockHash"), "blockHash", 32), answer)
        header = await self._header("eth_getBlockByHash", to_hex(hash))
        if header is None:  # the block left the best branch in between
            return None
        receipt = _checked(lambda value: read_receipt(value, header), answer)
        if receipt.transaction != transaction or header.hash != hash:
            raise ChainError("the chain node sent the receipt of another transaction, or another block")
        return receipt

    async def nonce(self, account: Address) -> int:
        return await self._quantity("eth_getTransactionCount", to_hex(account), "latest")

    async def fee_price(self) -> int:
        return await self._quantity("eth_gasPrice")

    async def data_price(self) -> int:
        return 0

    async def balance(self, account: Address, asset: Address) -> int:
        if asset == NATIVE:
            return await self._quantity("eth_getBalance", to_hex(account), "latest")
        return await self._number(BALANCE_OF, asset, account)

    async def owed(self, asset: Address, account: Address) -> int:
        return await self._number(OWED, self.contract, asset, account)

    async def allowance(self, asset: Address, owner: Address) -> int:
        return await self._number(ALLOWANCE, asset, owner, self.contract)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        data = await self._view(CHANNEL, self.contract, channel)
        return _checked(lambda value: decode_channel(value, self._at), data)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        return await self._number(CHANNEL_COUNT, self.contract, first, second, asset)

    async def view(self, call: ModuleCall, caller: Address = NATIVE) -> bytes:
        what = {"from": caller, "to": call.module, "data": call.data}
        asked = {**{name: to_hex(each) for name, each in what.items()}, "value": quantity(call.value)}
        return _checked(read_bytes, await self._node.call("eth_call", asked, "latest"))

    async def told(self, transaction: bytes) -> tuple[ModuleEvent, ...]:
        answer = await self._node.call("eth_getTransactionReceipt", to_hex(transaction))
        return () if answer is None else _checked(read_module_events, answer)

    async def secret_time(self, digest: bytes) -> int | None:
        return await self._number(SECRET_TIME, self.contract, digest) or None

    async def ask(self, method: str, *params: Any) -> Any:
        """Return what the node answers to a method that not every chain has. Raises as all the others do."""
        return await self._node.call(method, *params)

    # --- for development chains ---------------------------------------------------------------------------------

    async def mine(self, count: int = 1) -> Header:
        """Have blocks mined now; return the new head. Raise ChainError if the node does not allow it."""
        return _checked(read_header, await self._node.call("tally_mine", quantity(count)))

    async def mint(self, account: Address, amount: int, asset: Address = NATIVE) -> None:
        """Have coins made in the next block. Raise ChainError if the node does not allow it."""
        await self._node.call("tally_mint", to_hex(account), quantity(amount), to_hex(asset))

    # --- asking -------------------------------------------------------------------------------------------------

    async def _header(self, method: str, which: str) -> Header | None:
        answer = await self._node.call(method, which, False)
        return None if answer is None else _checked(read_header, answer)

    async def _quantity(self, method: str, *params: Any) -> int:
        return _checked(read_quantity, await self._node.call(method, *params))

    async def _view(self, view: Signature, to: Address, *values: Any) -> bytes:
        call = {"to": to_hex(to), "data": to_hex(view.encode_call(*values))}
        return _checked(read_bytes, await self._node.call("eth_call", call, "latest"))

    async def _number(self, view: Signature, to: Address, *values: Any) -> int:
        result: int = _checked(view.decode_result, await self._view(view, to, *values))[0]
        return result


class _NodeRequests:
    """Requests to one chain node, with retries, and the check of its identity before the first."""

    def __init__(self, client: NodeClient, jitter: Jitter) -> None:
        self._client = client
        self._jitter = jitter
        self.checked = False
        self.expected: Deployment | None = None

    @property
    def url(self) -> str:
        return self._client.shown

    async def call(self, method: str, *params: Any, timeout: float = TIMEOUT) -> Any:
        """Return the result of one method; raise ChainUnavailable, ChainError or TransactionRefused."""
        if not self.checked:
            found = await self.deployment()
            if found != self.expected:
                raise WrongChain(f"the chain node at {self.url} serves {found}, not {self.expected}; use another node")
            self.checked = True
        return await self._call(method, params, timeout)

    async def deployment(self) -> Deployment:
        """Return which chain and contract the node serves."""
        chain_id = _checked(read_quantity, await self._call("eth_chainId", (), TIMEOUT))
        return Deployment(chain_id, _checked(read_address, await self._call("tally_contract", (), TIMEOUT)))

    async def _call(self, method: str, params: tuple[Any, ...], timeout: float) -> Any:
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        most = BLOCKS_BYTES_MAX if method == BLOCKS else RESPONSE_MAX

        async def ask() -> Any:
            reply = await post(self._client, body, timeout, most)
            if reply.status == 429 or reply.status >= 500:
                raise ChainUnavailable(f"HTTP status {reply.status}")
            if reply.status != 200:
                raise ChainError(f"the chain node at {self.url} answers with HTTP status {reply.status}")
            return _result(reply.body)

        def on_fault(error: Exception) -> None:
            self.checked = False

        retry, passing = Retry(REQUEST_AGAIN, self._jitter), (httpx.RequestError, httpx.StreamError, ChainUnavailable)
        try:
            return await retry.until_done(ask, *passing, on_fault=on_fault)
        except passing as fault:
            why = (str(fault) or type(fault).__name__)[:TEXT_MAX]
            raise ChainUnavailable(f"the chain node at {self.url} does not answer: {why}") from fault


def _result(body: bytes) -> Any:
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ChainError(f"the chain node's answer is no JSON-RPC: {error}") from error
    if answer.error is None:
        return answer.result
    refusal = answer.error.data.get("refusal") if isinstance(answer.error.data, dict) else None
    if refusal in set(Refusal):
        raise TransactionRefused(answer.error.message[:TEXT_MAX], Refusal(refusal))
    reverted = read_revert_data(answer.error.data)
    if reverted is not None:
        raise reverted
    raise ChainError(f"the chain node refuses the request ({answer.error.code}): {answer.error.message[:TEXT_MAX]}")


def _checked(read: Callable[[Any], T], value: Any) -> T:
    """Return what `read` makes of the node's `value`; what is malformed is a ChainError."""
    try:
        return read(value)
    except (InvalidInput, AttributeError, TypeError) as error:
        raise ChainError(f"the chain node's answer cannot be right: {error}") from error
