"""Everything that a simulated node does to the outside passes a gate: it is counted, shown, and can be the node's last.

A node's *effects* are its commits, the messages that it sends and receives, and the transactions that it hands to the
chain. A gate numbers them from zero. Aimed at one of them, it ends the node's life just before that effect happens or
just after: a crash at every point that matters. A dead node's disk, links and chain refuse everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from tallystick.channels.errors import LinkClosed, StoreError
from tallystick.channels.ports import Link, Network, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.settlement.chain import Block, Call, ContractChannel, Header, History, SignedCall, TransactionReceipt
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.port import Chain, ChainFigures, ChannelsThere, Charge

STORE, SEND, RECEIVE, SUBMIT = "store", "send", "receive", "submit"
"""The kinds of effects."""


class Gate:
    """Counts one life's effects. `die` is called at the one that it is aimed at."""

    def __init__(self, die: Callable[[], None]) -> None:
        self.effects: list[str] = []
        self.dead = False
        self._die = die
        self._target: int | None = None
        self._after = False

    def aim(self, index: int, *, after: bool) -> None:
        """Die at the effect `index` from now on (0: the next one), before it happens or after."""
        self._target, self._after = len(self.effects) + index, after

    def disarm(self) -> None:
        """Aim at nothing."""
        self._target = None

    def close(self) -> None:
        """Let nothing through any more."""
        self.dead = True

    def enter(self, kind: str) -> bool:
        """Count an effect that is about to happen; return whether it may."""
        if self.dead:
            return False
        self.effects.append(kind)
        return not self._strikes(after=False)

    def leave(self) -> bool:
        """Say that it has happened; return whether its node is alive to see it."""
        return not self.dead and not self._strikes(after=True)

    def _strikes(self, *, after: bool) -> bool:
        if self._target == len(self.effects) - 1 and self._after is after:
            self._target, self.dead = None, True
            self._die()
        return self.dead


class Hooks:
    """What a gate shows to whoever watches a node: override what is wanted."""

    def on_stored(self, moments: Sequence[Moment]) -> None:
        """These moments are durable."""

    def on_sending(self, peer: PublicKey, messages: list[bytes]) -> list[bytes]:
        """These messages are about to leave for `peer`; return what leaves instead (an honest node: the same)."""
        return messages

    def on_submitting(self, raw: bytes) -> None:
        """This transaction is about to be handed to the chain."""


class GatedStore:
    """A node's store behind its gate."""

    def __init__(self, store: Store, gate: Gate, hooks: Hooks) -> None:
        self._store, self._gate, self._hooks = store, gate, hooks

    @property
    def commits(self) -> int:
        """How many transactions were committed since opening."""
        return self._store.commits

    def commit(self, moments: Sequence[Moment]) -> None:
        """Commit, if the node lives; raise StoreError in its last moment, also if that was just after the commit."""
        if not self._gate.enter(STORE):
            raise StoreError("the simulated node died before this commit")
        self._store.commit(moments)
        self._hooks.on_stored(moments)
        if not self._gate.leave():
            raise StoreError("the simulated node died after this commit")

    @property
    def healed(self) -> Sequence[str]:
        """What was dropped when it was opened."""
        return self._store.healed

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query over what is durable."""
        return self._store.read(query)

    def close(self) -> None:
        """Release the store."""
        self._store.close()


class GatedLink:
    """A node's link behind its gate."""

    def __init__(self, link: Link, gate: Gate, hooks: Hooks) -> None:
        self._link, self._gate, self._hooks = link, gate, hooks

    @property
    def peer(self) -> PublicKey:
        """The key that the peer proved to hold."""
        return self._link.peer

    @property
    def is_dialed(self) -> bool:
        """Whether this side opened the connection."""
        return self._link.is_dialed

    async def send(self, messages: list[bytes]) -> None:
        """Send, if the node lives."""
        messages = self._hooks.on_sending(self._link.peer, messages)
        if not self._gate.enter(SEND):
            raise LinkClosed("the simulated node died before it sent this")
        await self._link.send(messages)
        if not self._gate.leave():
            raise LinkClosed("the simulated node died after it sent this")

    async def receive(self) -> list[bytes]:
        """Receive, if the node lives: what a dying node takes off the wire is lost."""
        messages = await self._link.receive()
        if not self._gate.enter(RECEIVE):
            raise LinkClosed("the simulated node died before it read this")
        return messages

    async def aclose(self) -> None:
        """End the link."""
        await self._link.aclose()


class GatedNetwork:
    """A node's network behind its gate."""

    def __init__(self, network: Network, gate: Gate, hooks: Hooks) -> None:
        self._network, self._gate, self._hooks = network, gate, hooks

    async def dial(self, address: PeerAddress) -> Link:
        """Connect and authenticate."""
        return GatedLink(await self._network.dial(address), self._gate, self._hooks)

    async def serve(
        self,
        host: str,
        port: int,
        handler: Callable[[Link], Awaitable[None]],
        *,
        started: Callable[[PeerAddress], None],
    ) -> None:
        """Listen until cancelled."""

        async def gated(link: Link) -> None:
            await handler(GatedLink(link, self._gate, self._hooks))

        await self._network.serve(host, port, gated, started=started)


class GatedChain:
    """A node's access to the chain behind its gate; `down` makes the chain node silent."""

    def __init__(self, chain: Chain, gate: Gate, hooks: Hooks) -> None:
        self._chain, self._gate, self._hooks = chain, gate, hooks
        self.down = False

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id."""
        return self._chain.chain_id

    @property
    def contract(self) -> Address:
        """Address of the adjudicator."""
        return self._chain.contract

    @property
    def figures(self) -> ChainFigures:
        """What is known of the chain before it is asked."""
        return self._chain.figures

    async def _reach(self) -> Chain:
        await trio.lowlevel.checkpoint()
        if self.down or self._gate.dead:
            raise ChainUnavailable("the simulated chain node does not answer")
        return self._chain

    async def head(self) -> Header:
        """Return the newest block's header."""
        return await (await self._reach()).head()

    async def header(self, number: int) -> Header | None:
        """Return the header of that number."""
        return await (await self._reach()).header(number)

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        """Return up to `limit` blocks from `first` on."""
        return await (await self._reach()).blocks(first, limit)

    async def history(self, first: int) -> History | None:
        """Return what is known of blocks that stay."""
        return await (await self._reach()).history(first)

    async def final_number(self) -> int | None:
        """Return the newest block that no reorganisation reaches."""
        return await (await self._reach()).final_number()

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        """Return these channels after a block, as more than one node's word bears out."""
        return await (await self._reach()).evidence(block, terms)

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        """Return the blocks of a short range that hold events of a channel."""
        return await (await self._reach()).events(channel, first, last)

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`."""
        await (await self._reach()).wait(known)
        await self._reach()

    async def charge(self, account: Address, call: Call) -> Charge:
        """Return what a transaction is to be given."""
        return await self._chain.charge(account, call)

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        """Return a call as a transaction."""
        return await self._chain.sign(key, call, nonce, price, tip, gas)

    async def submit(self, raw: bytes) -> bytes:
        """Hand in a signed transaction."""
        chain = await self._reach()
        self._hooks.on_submitting(raw)
        if not self._gate.enter(SUBMIT):
            raise ChainUnavailable("the simulated node died before it submitted this")
        result = await chain.submit(raw)
        if not self._gate.leave():
            raise ChainUnavailable("the simulated node died after it submitted this")
        return result

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        """Return the receipt of a mined transaction."""
        return await (await self._reach()).receipt(transaction)

    async def nonce(self, account: Address) -> int:
        """Return the account's next nonce."""
        return await (await self._reach()).nonce(account)

    async def fee_price(self) -> int:
        """Return the price at which transactions are mined soon."""
        return await (await self._reach()).fee_price()

    async def data_price(self) -> int:
        """Return what a byte of a transaction costs."""
        return await self._chain.data_price()

    async def balance(self, account: Address, asset: Address) -> int:
        """Return what the account holds."""
        return await (await self._reach()).balance(account, asset)

    async def owed(self, asset: Address, account: Address) -> int:
        """Return what the contract owes the account."""
        return await (await self._reach()).owed(asset, account)

    async def allowance(self, asset: Address, owner: Address) -> int:
        """Return what the adjudicator may take of the owner's tokens."""
        return await (await self._reach()).allowance(asset, owner)

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        """Whether a token takes a permit of this owner."""
        return await (await self._reach()).takes_permits(asset, key)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """Return the contract's state of a channel."""
        return await (await self._reach()).channel(channel)

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        """Return what `channel` says of each."""
        return await (await self._reach()).channels(channels)

    def learn(self, terms: Terms) -> None:
        """Hear the terms of a channel that exists."""
        self._chain.learn(terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        """Return how many channels this pair ever opened."""
        return await (await self._reach()).channel_count(first, second, asset)

    async def secret_time(self, digest: bytes) -> int | None:
        """Return when the secret of this digest was registered."""
        return await (await self._reach()).secret_time(digest)
