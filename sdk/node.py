"""The one object that a program needs: a node that owns its peers, its channels, its store and its view of the chain.

    async with open_node("alice", key=key, chain=chain) as node:
        channel = await node.open_channel(peer, deposit=1_000_000)
        receipt = await channel.pay(5)
        async for payment in node.incoming():
            ...

Tasks: the writer (group commit), the peers (links), the follower (chain, block by block, one commit each), the sender
(transactions), one tower client per tower. What must be done on chain is derived anew whenever a channel or the chain
changes (`duties`), so that no event can be lost. Everything outside is injected.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from tallystick.channels import core, resync
from tallystick.channels.core import Channel, Phase
from tallystick.channels.effects import ChannelChanged, CloseRequested, Event, OpenRequested, PaymentsReceived
from tallystick.channels.eip712 import channel_id
from tallystick.channels.engine import Engine, EngineStatistics
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.keys import PrivateKey, PublicKey, close_key, keccak
from tallystick.channels.limits import Policy
from tallystick.channels.messages import OpenRequest
from tallystick.channels.objects import NATIVE, Address, ChannelId, Terms, check_amount
from tallystick.channels.peers import Peers, PeerStatistics
from tallystick.channels.ports import Clock, Entropy, Network, PeerAddress, system_clock, system_entropy
from tallystick.channels.schema import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.session import ChainTime, Session
from tallystick.channels.store import Moment, Store, open_store
from tallystick.channels.transport import TcpNetwork, backoff
from tallystick.channels.writer import Writer
from tallystick.sdk.duties import DutyPolicy, Situation, duties, judge, statements
from tallystick.sdk.errors import OpeningFailed
from tallystick.sdk.handle import ChannelHandle
from tallystick.sdk.incoming import IncomingPayment, Journal
from tallystick.sdk.known_peers import PEERS_SCHEMA, PeerKnown, known_peers
from tallystick.sdk.watchers import Subscription, Watchers
from tallystick.settlement.chain import ApproveCall, Call, Chain, ChannelView, OpenCall
from tallystick.settlement.errors import ChainUnavailable
from tallystick.settlement.follower import BlockAdded, Follower, FollowerStatistics, Step
from tallystick.settlement.index import CLOSED, GONE, INDEX_SCHEMA, SETTLED, ChainIndex
from tallystick.settlement.moments import SCHEMA as SETTLEMENT_SCHEMA
from tallystick.settlement.moments import read_followed, step_moment
from tallystick.settlement.obligations import Obligation, Status
from tallystick.settlement.obligations import Policy as SenderPolicy
from tallystick.settlement.sender import Sender, SenderStatistics
from tallystick.settlement.transactions import gas_of, sign_call
from tallystick.watchtower.client import ClientPolicy, TowerClient, TowerClientStatistics
from tallystick.watchtower.schema import CLIENT_SCHEMA

SCHEMAS = (CHANNELS_SCHEMA, SETTLEMENT_SCHEMA, INDEX_SCHEMA, PEERS_SCHEMA, CLIENT_SCHEMA)
"""What a node keeps on disk."""

TIMES_KEPT = 256
"""Blocks whose times are remembered."""

ANSWER_SECONDS = 30.0
"""How long a peer may take to answer an opening."""

DUTY_NAMES = ("cooperative-close", "withdraw", "close", "challenge", "settle", "redeem", "register-secret")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How a node behaves. Times in seconds of chain time."""

    listen: tuple[str, int] | None = ("127.0.0.1", 0)
    """Where to accept peers (port 0: any free one); None: only dial."""
    confirmations: int = 3
    """Depth (1: in the head block) at which the chain's word on funds counts."""
    challenge_period: int = 86_400
    """Of the channels that this node opens."""
    channels: Policy = Policy()
    duties: DutyPolicy = DutyPolicy()
    start_block: int = 0
    """The first block to follow, for a node that is new; blocks before it cannot hold its channels."""
    towers: tuple[PeerAddress, ...] = ()
    """Watchtowers that guard the channels while this node is down."""
    tower_policy: ClientPolicy = ClientPolicy()
    keep_closing: bool = True
    """Whether to close for a peer that proved to have lost its data."""


class NodeStatistics(msgspec.Struct, frozen=True):
    """Counters since the start, and queue lengths."""

    engine: EngineStatistics
    peers: PeerStatistics
    chain: FollowerStatistics
    transactions: SenderStatistics
    towers: tuple[TowerClientStatistics, ...]


class Node:
    """See the module's docstring. Make one with `open_node`."""

    def __init__(
        self,
        key: PrivateKey,
        store: Store,
        chain: Chain,
        network: Network,
        config: Config,
        *,
        clock: Clock,
        entropy: Entropy,
        inline: bool = False,
    ) -> None:
        self.key = key
        self.store = store
        self.chain = chain
        self.config = config
        self.alarms: list[str] = []
        self.listening: PeerAddress | None = None
        self._rng = random.Random(int.from_bytes(entropy(16), "big"))
        self._asking: set[ChannelId] = set()
        """Channels that we are talking about with a peer, to open them."""
        self._watchers = Watchers()
        self._close_keys: dict[ChannelId, bytes] = {}
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.writer = Writer(store, inline=inline)
        self.index = ChainIndex(key.address, store)
        self.engine = Engine(
            key,
            self.writer,
            clock,
            config.channels,
            chain_id=chain.chain_id,
            contract=chain.contract,
            tell=self._tell,
            saved=self._guard,
        )
        self.towers = [self._tower_client(address, network, entropy) for address in config.towers]
        self.peers = Peers(self.engine, network, self._rng, self._tell)
        self.journal = Journal(store)
        followed = read_followed(store, chain.chain_id, config.start_block)
        self.follower = Follower(chain, followed, self._on_step, jitter=self._rng.random)
        self._times = {header.number: header.time for header in followed.headers}
        if followed.position is not None:
            self.index.head_number, self.index.head_time = followed.position.number, followed.position.time
        self.sender = Sender(
            key=key,
            chain=chain,
            store=store,
            commit=self.writer.commit,
            sign=sign_call,
            gas=gas_of,
            alarm=self._alarm,
            jitter=self._rng.random,
            policy=SenderPolicy(confirmations=config.confirmations),
            judge=judge,
        )

    def _tower_client(self, address: PeerAddress, network: Network, entropy: Entropy) -> TowerClient:
        return TowerClient(
            key=self.key,
            tower=address,
            network=network,
            store=self.store,
            commit=self.writer.commit,
            entropy=entropy,
            jitter=self._rng.random,
            alarm=self._alarm,
            policy=self.config.tower_policy,
        )

    def __repr__(self) -> str:
        return f"<Node 0x{self.address.hex()} channels={len(self.engine.sessions)} at block {self.index.head_number}>"

    @property
    def address(self) -> Address:
        """The node's identity: 20 bytes."""
        return self.key.address

    # --- life ----------------------------------------------------------------------------------------------------

    async def run(self, *, started: Callable[[], None]) -> None:
        """Run all tasks until cancelled; `started` is called once peers can connect."""
        bound = trio.Event()

        def listening(address: PeerAddress | None) -> None:
            self.listening = address
            bound.set()

        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.writer.run)
                self.writer.add(self._chain_changed())
                for address in known_peers(self.store):
                    if self.engine.has_business_with(address.key):
                        self.peers.keep(address)
                nursery.start_soon(self.follower.run)
                nursery.start_soon(self.sender.run)
                for tower in self.towers:
                    nursery.start_soon(tower.run)
                for session in self.engine.sessions.values():
                    self._guard(session.channel)

                await self._catch_up()

                async def accept() -> None:
                    await self.peers.run(self.config.listen, started=listening)

                nursery.start_soon(accept)
                await bound.wait()
                started()
                await trio.sleep_forever()
        finally:
            self.engine.stop()
            self._watchers.close()

    async def _catch_up(self) -> None:
        """Follow the chain to its head of now: before that, nobody is listened to.

        A node that was down may not know yet that a channel was closed or a lock has expired.
        """
        attempt = 0
        while True:
            try:
                head = await self.chain.head()
            except ChainUnavailable as error:
                self._alarm_once(f"the chain node cannot be reached, so no peer is connected to yet: {error}")
                await trio.sleep(backoff(attempt, self._rng, ceiling=5.0))
                attempt += 1
            else:
                return await self.follower.reached(head.number)

    def _alarm(self, text: str) -> None:
        self.alarms.append(text)
        del self.alarms[:-100]
        self._watchers.publish(Alarm(text))

    def _alarm_once(self, text: str) -> None:
        if text not in self.alarms:
            self._alarm(text)

    def _tell(self, event: Event) -> None:
        """Take an event of the engine or the peers, after its commit."""
        if isinstance(event, PaymentsReceived):
            self.journal.notify()
        elif isinstance(event, ChannelChanged):
            self._pursue([event.channel])
        elif isinstance(event, OpenRequested) and self._nursery is not None:
            self._nursery.start_soon(self._consider_opening, event)
        elif isinstance(event, CloseRequested) and self.config.keep_closing:
            self._close_for_peer(event.channel)
        self._watchers.publish(event)
        self._note_change()

    def _guard(self, channel: Channel) -> None:
        """Offer a channel's newest durable proofs to the towers."""
        if not self.towers:
            return
        if channel.phase in (Phase.SETTLED, Phase.GONE):
            for tower in self.towers:
                tower.forget(channel.id)
        elif channel.ours.statement or channel.theirs.statement:
            opener = self._close_key(channel)
            for tower in self.towers:
                tower.offer(channel.terms, opener, *statements(channel))

    def _close_key(self, channel: Channel) -> bytes:
        known = self._close_keys.get(channel.id)
        if known is None:
            known = self._close_keys[channel.id] = close_key(self.key, PublicKey(channel.peer_key), channel.id)
        return known

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event and each block."""
        while not condition():
            await self._changed.wait()

    # --- the chain -----------------------------------------------------------------------------------------------

    @property
    def final_number(self) -> int:
        """The newest block that counts as confirmed."""
        return self.index.head_number - self.config.confirmations + 1

    async def _on_step(self, step: Step) -> None:
        """Follow one block: its events, the channels' reactions, the duties and the position, in one commit."""
        moments: list[Moment] = [step_moment(self.chain.chain_id, step)]
        if isinstance(step, BlockAdded):
            more, _ = self.index.add(step.block)
            self._times[step.block.header.number] = step.block.header.time
            self._times.pop(step.block.header.number - TIMES_KEPT, None)
        else:
            more, _ = self.index.remove(step.header.number)
            self._times.pop(step.header.number, None)
            self.index.head_time = self._time_of(self.index.head_number)
        moments += more
        moments += self._chain_changed()
        await self.writer.commit(moments)
        self._note_change()

    def _chain_changed(self) -> list[Moment]:
        """Let every channel react to the chain as it is now; return the duties' moments."""
        final = self.final_number
        final_time = self._time_of(final)
        conditions = self.engine.pending_conditions()
        secrets = self.index.secrets(conditions, final)
        for session in self.engine.sessions.values():
            self._follow_chain(session)
        self.engine.chain_moved(ChainTime(self.index.head_time, final_time, secrets))
        return self._derive(list(self.engine.sessions))

    def _time_of(self, number: int) -> int:
        """Return the time of a recent block, 0 if it is older than what is kept: time never runs ahead of the truth."""
        return self._times.get(number, 0)

    def _follow_chain(self, session: Session) -> None:
        """Bring one channel's phase and funding in line with the chain."""
        channel = session.channel
        if channel.phase is Phase.GONE:
            return
        head = self.index.view(channel.id, self.index.head_number)
        final = self.index.view(channel.id, self.final_number)
        if head is not None and head.terms != channel.terms:
            self._alarm_once(f"channel {channel.id.hex()[:8]} was opened on other terms than agreed: it is not used")
            return
        if final is not None and channel.phase in (Phase.OPENING, Phase.OPEN, Phase.FROZEN):
            resync.set_funding(session, final.deposits, final.withdrawn)
        if head is not None and head.status in (CLOSED, SETTLED) and session.channel.phase not in _CLOSED_PHASES:
            session.enter(Phase.CLOSED)
        if final is not None and final.status == SETTLED and session.channel.phase is Phase.CLOSED:
            session.enter(Phase.SETTLED)
        if final is not None and final.status == GONE and session.channel.phase is not Phase.OPENING:
            session.enter(Phase.GONE)
        self.engine.touch(session)

    def _derive(self, channels: Sequence[ChannelId]) -> list[Moment]:
        """Take on what must be done on chain for these channels now, give up what need not; return what to store."""
        moments: list[Moment] = []
        for identity in channels:
            session = self.engine.sessions[identity]
            view = self.index.view(identity, self.index.head_number)
            if view is None:
                continue
            due: list[Obligation] = []
            if session.channel.phase is not Phase.GONE:
                due = duties(session.channel, self._situation(session, view), self.config.duties, self._close_key)
            for obligation in due:
                moments += self.sender.require(obligation)
            if self.index.view(identity, self.final_number) == view:  # what made a duty moot is confirmed
                moments += self._give_up(identity, {obligation.id for obligation in due})
        return moments

    def _give_up(self, channel: ChannelId, due: set[str]) -> list[Moment]:
        moments: list[Moment] = []
        for obligation in self.sender.obligations():
            waiting = obligation.channel == channel and obligation.status is Status.WAITING
            if waiting and obligation.id not in due and obligation.id.startswith(DUTY_NAMES):
                moments += self.sender.supersede(obligation.id, "the channel has moved on")
        return moments

    def _situation(self, session: Session, view: ChannelView) -> Situation:
        channel = session.channel
        conditions = {lock.condition for lock in (*channel.newest.locks, *channel.theirs.simplex.locks)}
        secrets = self.index.secrets(conditions, self.index.head_number) if conditions else {}
        redeemed = (self.index.redeemed_at(channel.id, 0), self.index.redeemed_at(channel.id, 1))
        return Situation(view, self.index.head_time, secrets, redeemed)

    def _pursue(self, channels: Sequence[ChannelId]) -> None:
        moments = self._derive(channels)
        if moments:
            self.writer.add(moments)

    def _close_for_peer(self, channel: ChannelId) -> None:
        session = self.engine.session(channel)
        if session.channel.phase in (Phase.OPEN, Phase.FROZEN):
            session.force_close()
            self.engine.touch(session)

    async def transact(self, name: str, call: Call, channel: ChannelId | None = None) -> None:
        """Get a call onto the chain and wait until it is confirmed; raise TallystickError with the reason if it fails."""
        moments = self.prepare(name, call, channel)
        await self.writer.commit(moments[1])
        await self.outcome(moments[0])

    def prepare(self, name: str, call: Call, channel: ChannelId | None = None) -> tuple[str, Sequence[Moment]]:
        """Take a call on as an obligation; return its id and what to commit."""
        identifier = f"{name}:{self._rng.getrandbits(64):016x}"
        obligation = Obligation(
            id=identifier, call=call, purpose=name, budget=self.config.duties.budget, channel=channel
        )
        return identifier, self.sender.require(obligation)

    async def outcome(self, identifier: str) -> None:
        """Wait for an obligation; raise TallystickError with the reason if it was not done."""
        done = await self.sender.wait(identifier)
        if done.status is not Status.DONE:
            raise TallystickError(f"the chain refused the {done.purpose}: {done.reason or done.trouble}")

    # --- channels ------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> list[ChannelHandle]:
        """All channels that this node knows, gone ones included."""
        return [ChannelHandle(self, session) for session in self.engine.sessions.values()]

    def channel(self, channel: ChannelId) -> ChannelHandle:
        """Return one channel; raise InvalidInput if it is unknown."""
        return ChannelHandle(self, self.engine.session(channel))

    async def connect(self, peer: PeerAddress | str) -> PublicKey:
        """Connect to a node, keep the connection from now on, and return its key once it stands."""
        address = PeerAddress.parse(peer) if isinstance(peer, str) else peer
        if address.key == bytes(self.key.public):
            raise InvalidInput("that is this node's own address")
        await self.writer.commit([PeerKnown(address.key, str(address))])
        self.peers.keep(address)
        await self.peers.wait_connected(address.key)
        return PublicKey(address.key)

    async def open_channel(
        self,
        peer: PeerAddress | PublicKey | str,
        deposit: int,
        *,
        asset: Address = NATIVE,
        challenge_period: int | None = None,
        wait: bool = True,
    ) -> ChannelHandle:
        """Open a channel with our deposit; return it once it is usable (`wait=False`: once it is on its way).

        Raise InvalidInput, OpeningFailed (the peer refused or the chain did; nothing is locked).
        """
        check_amount(deposit, "deposit", minimum=1)
        await self.require_balance(deposit, asset)
        key = peer if isinstance(peer, PublicKey) else await self.connect(peer)
        terms = await self._terms(key, asset, challenge_period or self.config.challenge_period)
        identity = channel_id(terms)
        if identity in self._asking or self._is_opening(identity):
            raise OpeningFailed("a channel with this peer is being opened already: wait until it is confirmed")
        self._asking.add(identity)
        try:
            session, identifier = await self._begin_opening(key, terms, deposit)
        finally:
            self._asking.discard(identity)
        handle = ChannelHandle(self, session)
        if wait:
            try:
                await self.outcome(identifier)
            except TallystickError as error:
                if core.never_used(session.channel) and self.index.view(handle.id, self.index.head_number) is None:
                    session.enter(Phase.GONE)
                    self.engine.touch(session)
                raise OpeningFailed(f"the channel was not opened, nothing is locked: {error}") from error
            await handle.wait_usable()
        return handle

    async def _begin_opening(self, peer: PublicKey, terms: Terms, deposit: int) -> tuple[Session, str]:
        """Agree with the peer, then store the channel and the intent to open it; return it and the obligation's id."""
        reserve = deposit * self.config.channels.reserve_ppm // 1_000_000
        await self._ask(peer, OpenRequest(terms, reserve, deposit))
        if terms.asset != NATIVE:
            await self.transact("approve", ApproveCall(terms.asset, deposit))
        side = terms.side_of(self.address)
        session = self.engine.add_channel(core.new_channel(terms, side, bytes(peer), reserve))
        identifier, moments = self.prepare("open", OpenCall(terms, deposit), session.channel.id)
        await self.writer.commit(moments)  # the channel and the intent to open it, in one commit
        return session, identifier

    def _is_opening(self, channel: ChannelId) -> bool:
        """Whether this node is on its way to the chain with that very channel."""
        unmined = (Status.WAITING, Status.SENT)
        return any(
            obligation.channel == channel and isinstance(obligation.call, OpenCall) and obligation.status in unmined
            for obligation in self.sender.obligations()
        )

    async def require_balance(self, amount: int, asset: Address) -> None:
        """Raise InsufficientFunds unless the account holds `amount` on chain, and something for fees."""
        if amount > await self.balance(asset):
            raise InsufficientFunds(f"account 0x{self.address.hex()} holds {await self.balance(asset)}, not {amount}")
        if asset != NATIVE and not await self.balance():
            raise InsufficientFunds(f"account 0x{self.address.hex()} has no native coin to pay fees with")

    async def _terms(self, peer: PublicKey, asset: Address, challenge_period: int) -> Terms:
        first, second = sorted((self.address, peer.address))
        number = await self.chain.channel_count(first, second, asset)
        chain_id, contract = self.chain.chain_id, self.chain.contract
        blank = Terms(chain_id, contract, (first, second), asset, number, challenge_period, bytes(32))
        close_hash = keccak(close_key(self.key, peer, channel_id(blank)))
        return msgspec.structs.replace(blank, close_hash=close_hash)

    async def _ask(self, peer: PublicKey, request: OpenRequest) -> None:
        answered = trio.Event()
        refusal: str | None = None

        def answer(text: str | None) -> None:
            nonlocal refusal
            refusal = text
            answered.set()

        self.engine.request_opening(bytes(peer), request, answer)
        try:
            with trio.move_on_after(ANSWER_SECONDS) as timeout:
                await answered.wait()
        finally:
            self.engine.forget_opening(channel_id(request.terms))
        if timeout.cancelled_caught:
            raise OpeningFailed("the peer did not answer; nothing is locked, try again later")
        if refusal is not None:
            raise OpeningFailed(f"the peer refused: {refusal}")

    async def _consider_opening(self, event: OpenRequested) -> None:
        """Answer a peer that wants to open a channel with us."""
        try:
            refusal = await self._objection(PublicKey(event.peer), event.request)
        except TallystickError as error:
            refusal = f"this node cannot check that now: {error}"
        self.engine.answer_opening(event.peer, event.request, refusal)

    async def _objection(self, peer: PublicKey, request: OpenRequest) -> str | None:
        """Return why we would not use such a channel, None if we would."""
        terms, policy = request.terms, self.config.channels
        if (terms.chain_id, terms.contract) != (self.chain.chain_id, self.chain.contract):
            return "it is on another chain or contract"
        if set(terms.participants) != {self.address, peer.address}:
            return "its participants are not the two of us"
        if terms.challenge_period < policy.challenge_period_min:
            return f"its challenge period must be at least {policy.challenge_period_min} s"
        if terms.close_hash != keccak(close_key(self.key, peer, channel_id(terms))):
            return "its close_hash is not the one that both of us derive"
        least = request.deposit * policy.reserve_ppm // 1_000_000
        if not least <= request.reserve <= max(least, request.deposit // 10):
            return f"its reserve must be from {least} to {max(least, request.deposit // 10)}"
        number = await self.chain.channel_count(*terms.participants, terms.asset)
        if terms.number != number:
            return f"its number must be {number}"
        identity = channel_id(terms)
        if self._is_opening(identity) or (identity in self._asking and self.address < peer.address):
            return "this node is opening that very channel itself: use it once it is confirmed"
        return None

    def not_connected(self, peer: PublicKey) -> ChannelNotReady:
        """The error for what needs the peer right now."""
        return ChannelNotReady(f"the peer 0x{peer.address.hex()} is not connected now: try again when it is")

    def offer_died(self, what: str) -> ChannelNotReady:
        """The error for an offer that expired before it was mined."""
        return ChannelNotReady(f"the {what} was not mined in time and is dead; the channel goes on, try again")

    # --- money in, events, figures -------------------------------------------------------------------------------

    def incoming(self, after: str = "", *, channel: ChannelId | None = None) -> AsyncIterator[IncomingPayment]:
        """Iterate over received payments for ever, each after its commit, in order of the commits.

        Every payment has a `cursor`; store the last one that you handled and pass it as `after` when you start again: then
        none is missed and none comes twice, across any crash. Without it, iteration starts with the very first one.
        """
        return self.journal.payments(after, channel)

    @property
    def cursor(self) -> str:
        """The cursor of the newest received payment: pass it to `incoming` to see only what comes from now on."""
        return self.journal.newest()

    def events(self) -> Subscription:
        """Return an async iterator (and context manager) over what happens from now on: channels, peers, locks, alarms.

        It holds a bounded number of events; a reader that falls behind gets an error instead of losing some silently.
        """
        return self._watchers.subscribe()

    async def balance(self, asset: Address = NATIVE) -> int:
        """Return what this node's account holds on chain, outside of channels."""
        return await self.chain.balance(self.address, asset)

    def statistics(self) -> NodeStatistics:
        """Return counters and queue lengths."""
        return NodeStatistics(
            self.engine.statistics(),
            self.peers.statistics(),
            self.follower.statistics(),
            self.sender.statistics(),
            tuple(tower.statistics() for tower in self.towers),
        )


class Alarm(msgspec.Struct, frozen=True):
    """Something that a person should know about."""

    text: str


_CLOSED_PHASES = (Phase.OPENING, Phase.CLOSED, Phase.SETTLED, Phase.GONE)


@asynccontextmanager
async def open_node(
    directory: str | Path,
    *,
    key: PrivateKey,
    chain: Chain,
    config: Config | None = None,
    network: Network | None = None,
    clock: Clock = system_clock,
    entropy: Entropy = system_entropy,
    store: Store | None = None,
    inline: bool = False,
) -> AsyncIterator[Node]:
    """Open the node that lives in `directory`, run it inside the block, and close it at the end.

    Raise StoreInUse if another process has it open. The last four parameters are for simulations.
    """
    own = store or open_store(Path(directory), SCHEMAS, owner=f"node 0x{key.address.hex()}")
    try:
        node = Node(
            key,
            own,
            chain,
            network or TcpNetwork(key, entropy),
            config or Config(),
            clock=clock,
            entropy=entropy,
            inline=inline,
        )
        async with trio.open_nursery() as nursery:
            started = trio.Event()

            async def run() -> None:
                await node.run(started=started.set)

            nursery.start_soon(run)
            await started.wait()
            try:
                yield node
            finally:
                nursery.cancel_scope.cancel()
    finally:
        if store is None:
            own.close()
