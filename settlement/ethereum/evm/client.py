"""A real chain: `EvmChain` implements `chain.Chain` by plain Ethereum JSON-RPC, over one node or several.

Rules:
- The branch is judged by headers that chain. Logs count if their block is among them; a block of the newest whose
  filter says that it may hold logs of the contract, and of which none came, is asked for again, of another node.
- What is read of accounts and of the contract is read at a block that is named by its hash (EIP-1898): a node that does
  not have that block says so, instead of answering by an older one.
- A transaction goes to all nodes. That one has it already, or has mined it, is success; words that nobody understands
  conclude nothing.
- A receipt says that a call failed, not why: it is made again as a question at the receipt's block.

    client ──▶ transactions ──▶ state ──▶ blocks ──▶ nodes ──▶ endpoint      the other modules of this room are pure
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx
import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.loops import require_trio
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.transport.retries import Jitter
from tallystick.channels.values.arguments import checked
from tallystick.settlement.chain import Block, Call, ContractChannel, Header, History, SignedCall, TransactionReceipt
from tallystick.settlement.errors import ChainUnavailable, RpcError, WrongChain
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.evm.abi import DOMAIN_SEPARATOR
from tallystick.settlement.ethereum.evm.blocks import BlockReader
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard
from tallystick.settlement.ethereum.evm.court import check_court, court_of, tellers_of
from tallystick.settlement.ethereum.evm.endpoint import TIMEOUT, Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.evidence import EvidenceReader
from tallystick.settlement.ethereum.evm.nodes import ChainNodes, NodeFigures, NodeState
from tallystick.settlement.ethereum.evm.profiles import ChainProfile, profile_of
from tallystick.settlement.ethereum.evm.questions import read_answer
from tallystick.settlement.ethereum.evm.refusals import client_of, is_revert
from tallystick.settlement.ethereum.evm.starting import tell_if_late
from tallystick.settlement.ethereum.evm.state import StateReader
from tallystick.settlement.ethereum.evm.transactions import TransactionDesk
from tallystick.settlement.ethereum.http import make_client
from tallystick.settlement.ethereum.rpc_shapes import read_bytes, read_quantity, to_hex
from tallystick.settlement.port import Chain, ChainFigures, ChannelsThere, Charge


class EvmPlace(NamedTuple):
    """Which contract on which real chain, and who tells of it."""

    urls: tuple[str, ...]
    """Of Ethereum nodes; the first is asked first."""
    at: Deployment
    start: int = 0
    """A block at or before that of the contract's deployment: what was before is never asked for."""
    court: Address | None = None
    """The court that the contract asks about apps, None: nothing is done with it, or there is none."""


@checked
@asynccontextmanager
async def open_evm_chain(
    urls: Sequence[str],
    at: Deployment,
    *,
    jitter: Jitter,
    profile: ChainProfile | None = None,
    start: int = 0,
    court: Address | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[EvmChain]:
    """Give the chain that the nodes at these URLs serve, the first being asked first; `at` says what it must be.

    The nodes may be down now: each is checked before anything that it says is used. `start` is a block at or before
    that of the contract's deployment: what was before is never asked for. `profile`: None takes the known one of that
    chain id. With `court`, the adjudicator must ask that one, and it and its rules be this version's; without it, locks
    of apps are neither signed nor taken. Raise InvalidInput outside of trio, or if there is no URL. `transport` carries
    the requests (None: TCP).
    """
    require_trio("open_evm_chain")
    if not urls:
        raise InvalidInput("a real chain needs the URL of one node at least")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(make_client(url, TIMEOUT, transport)) for url in urls]
        endpoints = [Endpoint(client) for client in clients]
        yield EvmChain(endpoints, at, profile or profile_of(at.chain_id), jitter, start, court)


class EvmChain(Chain):
    """A real chain. Make it with `open_evm_chain`."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        at: Deployment,
        profile: ChainProfile,
        jitter: Jitter,
        start: int,
        court: Address | None,
    ) -> None:
        self._at = at
        self._court = court
        self._start = start
        self._jitter = jitter
        self.profile = profile
        self._heard = heard = ChannelsHeard(at)
        self._nodes = ChainNodes(endpoints, self._identify, jitter)
        self._blocks = BlockReader(self._nodes, at, profile, heard, start, tellers_of(at, court))
        self._state = StateReader(self._nodes, at, self._blocks, heard)
        self._evidence = EvidenceReader(self._nodes, at)
        self._desk = TransactionDesk(self._nodes, at, profile, self._blocks, self._state, heard, court)

    def __repr__(self) -> str:
        return f"<EvmChain {self.profile.name} ({self.chain_id}) at {self._nodes!r}>"

    @property
    def chain_id(self) -> int:
        return self._at.chain_id

    @property
    def contract(self) -> Address:
        return self._at.contract

    @property
    def figures(self) -> ChainFigures:
        known = self.profile.figures
        return known if self._court is None else msgspec.structs.replace(known, kinds=(HASH, APP, STREAM))

    def nodes(self) -> tuple[NodeFigures, ...]:
        """Return how each node does."""
        return self._nodes.figures()

    async def head(self) -> Header:
        """Return the newest block's header: of all nodes' heads the one that counts."""
        return await self._blocks.head()

    async def header(self, number: int) -> Header | None:
        return await self._blocks.header(number)

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        return await self._blocks.blocks(first, limit)

    async def history(self, first: int) -> History | None:
        return await self._blocks.history(first)

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`: it is asked for again and again."""
        await self._blocks.wait(known)

    async def tell_if_late(self, alarm: OnAlarm) -> None:
        """Raise an alarm once a node says that the contract was there before the block from which on it is followed."""

        async def ask(questions: Sequence[NodeQuestion]) -> Sequence[Any]:
            told = [answers for _, answers in await self._nodes.ask_all(*questions)]
            return next((answers for answers in told if not isinstance(answers[0], RpcError)), told[0])

        await tell_if_late(ask, self.contract, self._start, alarm, self._jitter)

    async def tagged(self, tag: str) -> Header | None:
        """Return the block that the chain calls `safe` or `finalized`, None if a node knows no such tag."""
        return await self._blocks.tagged(tag)

    async def final_number(self) -> int:
        """Return the newest block that no reorganisation reaches: as the chain says, or by depth if it does not."""
        return await self._blocks.final_number()

    async def charge(self, account: Address, call: Call) -> Charge:
        """Return what a transaction of this call is to be given now, as a node estimates it. Raise as `sign` does."""
        return await self._desk.charge(account, call)

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        """Return `call` as a transaction at most `price` per unit of gas; `tip` is that of the one it replaces.

        `gas` is its limit, 0 takes what `charge` says. Raise InvalidInput if it cannot be written, ChainUnavailable if
        what it needs is not known now.
        """
        return await self._desk.sign(key, call, nonce, price, tip, gas)

    async def submit(self, raw: bytes) -> bytes:
        """Hand a signed transaction to all nodes and return its hash; raise TransactionRefused if none takes it."""
        return await self._desk.submit(raw)

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        return await self._desk.receipt(transaction)

    async def nonce(self, account: Address) -> int:
        return await self._state.nonce(account)

    async def fee_price(self) -> int:
        return await self._desk.fee_price()

    async def data_price(self) -> int:
        return await self._desk.data_price()

    async def balance(self, account: Address, asset: Address) -> int:
        return await self._state.balance(account, asset)

    async def owed(self, asset: Address, account: Address) -> int:
        return await self._state.owed(asset, account)

    async def allowance(self, asset: Address, owner: Address) -> int:
        return await self._state.allowance(asset, owner)

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        """Whether a token takes a permit (EIP-2612) of this owner: it is asked to take one for nothing."""
        return await self._desk.takes_permits(asset, key)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        return await self._state.channel(channel)

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        return await self._state.channels(channels)

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        """Return these channels after a block, as two nodes say, or as the block's hash proves; None if neither can."""
        return await self._evidence.read(block, terms)

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        """Return the blocks of a short range that hold events of a channel, as any of the nodes tells them."""
        return await self._blocks.events(channel, first, last)

    def learn(self, terms: Terms) -> None:
        self._heard.learn(terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        return await self._state.channel_count(first, second, asset)

    async def secret_time(self, digest: bytes) -> int | None:
        return await self._state.secret_time(digest)

    async def _identify(self, state: NodeState) -> None:
        """Raise WrongChain unless a node serves our chain, our contract on it, and our court if there must be one."""
        call = {"to": to_hex(self.contract), "data": to_hex(DOMAIN_SEPARATOR.encode_call())}
        endpoint = state.endpoint
        answers = await endpoint.ask(
            (
                NodeQuestion("eth_chainId"),
                NodeQuestion("eth_getCode", (to_hex(self.contract), "latest")),
                NodeQuestion("eth_call", (call, "latest")),
                NodeQuestion("web3_clientVersion"),
            )
        )
        found = read_answer(read_quantity, answers[0])
        if found != self.chain_id:
            raise WrongChain(f"the chain node at {endpoint.url} serves chain {found}, not {self.chain_id}")
        if not read_answer(read_bytes, answers[1]):
            raise WrongChain(f"the chain node at {endpoint.url} knows no contract at 0x{self.contract.hex()}")
        if isinstance(answers[2], RpcError) and not is_revert(answers[2]):
            raise ChainUnavailable(f"the chain node at {endpoint.url} does not say what the contract is: {answers[2]}")
        if isinstance(answers[2], RpcError) or answers[2] != to_hex(domain_separator(*self._at)):
            raise WrongChain(
                f"the contract at 0x{self.contract.hex()} is not Tallystick's adjudicator, says {endpoint.url}"
            )
        if self._court is not None:
            if await court_of(endpoint, self.contract) != self._court:
                raise WrongChain(
                    f"the adjudicator at 0x{self.contract.hex()} asks another court than the one that is named, "
                    f"0x{self._court.hex()}, or none"
                )
            await check_court(endpoint, self._court)
        state.client = client_of(answers[3]) if isinstance(answers[3], str) else ""
