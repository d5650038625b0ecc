"""The one object that a program needs: a node that owns its peers, its channels, its store and its view of the chain.

    async with open_node("alice", key=key, chain=chain) as node:
        channel = await node.open_channel(peer, deposit=1_000_000)
        receipt = await channel.pay(5)
        async for payment in node.incoming():
            ...

Tasks: the writer (group commit), the peers (links), the follower (chain, block by block, one commit each), the sender
(transactions), one tower client per tower. What must be done on chain is derived anew whenever a channel or the chain
changes (`onchain`), so that no event can be lost. Everything outside is injected.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidInput, TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.loops import require_trio
from tallystick.channels.node.peers import Peers, PeerStatistics
from tallystick.channels.node.work import EngineStatistics
from tallystick.channels.ports import (
    Clock,
    Elapsed,
    Entropy,
    Network,
    PeerAddress,
    SteadyClock,
    system_clock,
    system_elapsed,
    system_entropy,
)
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    Amount,
    AnyAddress,
    AnyChannel,
    ChannelId,
    to_address,
    to_channel,
)
from tallystick.channels.session.claims import owed_for
from tallystick.channels.session.effects import (
    ChannelChanged,
    CloseRequested,
    Event,
    OpenRequested,
    PaymentsReceived,
    PeerNotice,
    SecretLearned,
)
from tallystick.channels.session.inputs import ForceClose
from tallystick.channels.storage.identity import IDENTITY_SCHEMA, Identity, claim_directory, hold_identity
from tallystick.channels.storage.schema import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.storage.store import SqliteStore, Store, open_store
from tallystick.channels.storage.writer import Writer
from tallystick.channels.transport.links import TcpNetwork
from tallystick.channels.values.arguments import checked
from tallystick.router.forwarding.circuits import SCHEMA as CIRCUITS_SCHEMA
from tallystick.router.forwarding.service import RouterStatistics
from tallystick.router.gossip.schema import GOSSIP_SCHEMA
from tallystick.router.network.paid import PaidJournal
from tallystick.router.network.routing import Routing
from tallystick.router.onion.replay import SCHEMA as REPLAY_SCHEMA
from tallystick.router.pathfinding.liquidity_schema import SCHEMA as LIQUIDITY_SCHEMA
from tallystick.router.pathfinding.planner import warm_up
from tallystick.router.receiving.issued import SCHEMA as INVOICES_SCHEMA
from tallystick.router.receiving.service import Paid, PaymentHeld
from tallystick.router.sending.payments import SCHEMA as PAYMENTS_SCHEMA
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.incoming import IncomingPayment, Journal
from tallystick.sdk.node.known_peers import PEERS_SCHEMA
from tallystick.sdk.node.openings import Openings
from tallystick.sdk.node.options import Config, Period
from tallystick.sdk.node.towers import TowerManager
from tallystick.sdk.node.wallet import Wallet
from tallystick.sdk.node.watchers import Subscription, Watchers
from tallystick.sdk.node.whereabouts import Whereabouts
from tallystick.sdk.node.whose import said_by_node
from tallystick.settlement.chain import Chain, OpenCall
from tallystick.settlement.enforcement.onchain import CloseKeys, OnChain
from tallystick.settlement.following.checked import checked as cross_checked
from tallystick.settlement.following.follower import FollowerStatistics, Step
from tallystick.settlement.following.index import INDEX_SCHEMA
from tallystick.settlement.sending.moments import SCHEMA as SETTLEMENT_SCHEMA
from tallystick.settlement.sending.sender import SenderStatistics
from tallystick.watchtower.client import TowerClient, TowerClientStatistics
from tallystick.watchtower.schema import CLIENT_SCHEMA

__all__ = ["SCHEMAS", "Alarm", "Config", "Node", "NodeStatistics", "open_node"]

SCHEMAS = (
    IDENTITY_SCHEMA,
    CHANNELS_SCHEMA,
    SETTLEMENT_SCHEMA,
    INDEX_SCHEMA,
    PEERS_SCHEMA,
    CLIENT_SCHEMA,
    CIRCUITS_SCHEMA,
    REPLAY_SCHEMA,
    PAYMENTS_SCHEMA,
    INVOICES_SCHEMA,
    LIQUIDITY_SCHEMA,
    GOSSIP_SCHEMA,
)
"""What a node keeps on disk."""


class NodeStatistics(msgspec.Struct, frozen=True):
    """Counters since the start, and queue lengths."""

    engine: EngineStatistics
    peers: PeerStatistics
    chain: FollowerStatistics
    transactions: SenderStatistics
    towers: tuple[TowerClientStatistics, ...]
    router: RouterStatistics


class Node(Wallet):
    """See the module's docstring. Make one with `open_node`. What it pays and is paid over several hops: `wallet`."""

    @checked
    def __init__(
        self,
        key: PrivateKey,
        store: Store,
        chain: Chain,
        network: Network,
        config: Config,
        *,
        clock: Clock,
        elapsed: Elapsed,
        entropy: Entropy,
        alarm: OnAlarm,
        inline: bool = False,
    ) -> None:
        chain = cross_checked(chain)
        self.key = key
        self.store = store
        self.chain = chain
        self.config = config
        self.alarms: list[Alarm] = []
        """The newest hundred."""
        self.on_alarm: OnAlarm = alarm
        self.ready = trio.Event()
        """Set once the chain was followed to its head, and peers can connect."""
        rng = random.Random(int.from_bytes(entropy(16), "big"))
        self._watchers = Watchers()
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.writer = Writer(store, inline=inline)
        close_keys = CloseKeys(key)
        towers = [
            TowerClient(
                key=key,
                tower=address,
                network=network,
                store=store,
                commit=self.writer.commit,
                entropy=entropy,
                jitter=rng.random,
                alarm=self._alarm,
                clock=clock,
                policy=config.tower_policy,
            )
            for address in config.towers
        ]
        self.tower_manager = TowerManager(towers, close_keys)
        self.engine = Engine(
            key,
            self.writer,
            clock,
            config.channels,
            chain_id=chain.chain_id,
            contract=chain.contract,
            tell=self._tell,
            saved=self.tower_manager.offer,
        )
        self.peers = Peers(self.engine, network, rng, self._tell)
        self.journal = Journal(store)
        self.paid = PaidJournal(store)
        self.onchain = OnChain(
            key=key,
            chain=chain,
            writer=self.writer,
            engine=self.engine,
            duties=config.duties,
            confirmations=config.confirmations,
            start_block=config.start_block,
            close_keys=close_keys,
            rng=rng,
            alarm=self._alarm,
            changed=self._note_change,
            observe=self._on_step,
            clock=clock,
            elapsed=elapsed,
        )
        self.engine.trust_chain(lambda: self.onchain.fresh)
        self.engine.stop_paying(lambda: self.onchain.following.lost)
        self.routing = Routing(
            key=key,
            steady=SteadyClock(clock, trio.current_time),
            engine=self.engine,
            writer=self.writer,
            chain=chain,
            peers=self.peers,
            options=config.payments,
            forwarding=config.routing,
            clock=clock,
            entropy=entropy,
            jitter=rng.random,
            tell=self._tell_paid,
            alarm=self._alarm,
            claim_fee=lambda: self.onchain.claim_fee,
        )
        self.whereabouts = Whereabouts(self.engine, self.writer, self.peers, self.routing, config.announce_address)
        self.openings = Openings(
            key=key, chain=chain, engine=self.engine, writer=self.writer, onchain=self.onchain, config=config
        )

    def __repr__(self) -> str:
        number = self.onchain.index.head_number
        return f"<Node 0x{self.address.hex()} channels={len(self.engine.sessions)} at block {number}>"

    @property
    def listening(self) -> PeerAddress | None:
        """Where peers connect; None if this node only dials."""
        return self.whereabouts.listening

    @property
    def address(self) -> Address:
        """The node's identity: 20 bytes."""
        return self.key.address

    @property
    def peer_address(self) -> PeerAddress:
        """What others connect to; raise ChannelNotReady if this node listens nowhere (`Config.listen` is None)."""
        if self.listening is None:
            raise ChannelNotReady("this node only dials: set `listen` in its Config, or dial the other one from here")
        return self.listening

    # --- life ----------------------------------------------------------------------------------------------------

    @property
    def waiting_for(self) -> str:
        """What the node waits for before it speaks to peers; empty once peers can connect."""
        return "" if self.ready.is_set() else self.onchain.following.waiting_for or "its peers' door to open"

    @checked
    async def run(self, *, begun: Callable[[], None]) -> None:
        """Run all tasks until cancelled; `begun` is called once they run, and `ready` set once peers can connect."""
        bound = trio.Event()

        def listening(address: PeerAddress | None) -> None:
            self.whereabouts.listen(address)
            bound.set()

        async def meet_peers() -> None:
            await self.peers.run(self.config.listen, started=listening)

        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.writer.run)
                self.routing.load()
                self.writer.add(self.onchain.react())
                nursery.start_soon(self.onchain.following.run)
                nursery.start_soon(self.onchain.watch_fees)
                nursery.start_soon(self.onchain.sender.run)
                for tower in self.tower_manager.towers:
                    nursery.start_soon(tower.run)
                for session in self.engine.sessions.values():
                    self.tower_manager.offer(session.channel)
                self.whereabouts.begin()
                begun()
                await self.onchain.following.catch_up()
                self.openings.tidy()
                if self.config.payments.compiled:
                    await trio.to_thread.run_sync(warm_up)  # before peers come: compiling must not hold up the loop
                self.routing.start()
                nursery.start_soon(self.routing.run)
                nursery.start_soon(meet_peers)
                await bound.wait()
                self.ready.set()
                await trio.sleep_forever()
        finally:
            self.engine.stop()
            self._watchers.close()

    def _alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)
        del self.alarms[:-100]
        self.on_alarm(alarm)
        self._watchers.publish(alarm)

    def _on_step(self, step: Step) -> None:
        self.openings.tidy()
        self.routing.on_step(step)

    def _tell(self, event: Event) -> None:
        """Take an event of the engine or the peers, after its commit."""
        self.routing.on_event(event)
        if isinstance(event, PaymentsReceived):
            self.journal.notify()
        elif isinstance(event, ChannelChanged):
            self.onchain.pursue([event.channel])
            self.openings.remind(event.channel)
        elif isinstance(event, SecretLearned):
            self._claim_in_time(event)
        elif isinstance(event, OpenRequested) and self._nursery is not None:
            self._nursery.start_soon(self.openings.consider, event)
        elif isinstance(event, CloseRequested) and self.config.keep_closing:
            self._close_for_peer(event.channel)
        elif isinstance(event, PeerNotice) and event.ours and event.code == Fault.UNACKNOWLEDGED:
            self._warn_of_stuck(event.peer)
        elif isinstance(event, PeerNotice) and not event.ours and event.code == Fault.UNKNOWN_CHANNEL:
            self.openings.remind(ChannelId(event.channel), event.peer)
        self._watchers.publish(event)
        self._note_change()

    def _warn_of_stuck(self, peer: bytes) -> None:
        """Tell the owner of channels that another connection did not help."""
        for session in self.engine.sessions_with(peer):
            if session.patience.cuts > 1:
                text = (
                    f"the peer of channel {session.channel.id.hex()[:8]} acknowledges nothing, {session.patience.cuts} "
                    "connections in a row: no locks go over it, what is signed waits; close it alone if that goes on"
                )
                self._alarm(Alarm(AlarmKind.PEER_STUCK, text))

    def _claim_in_time(self, event: SecretLearned) -> None:
        """Go to the chain at once with a secret that was learned so late that the next block may be too late."""
        if event.lock.expiry - self.engine.chain.now <= self.config.duties.secret_margin:
            self.onchain.pursue(owed_for(self.engine.sessions.values(), event.lock.condition))

    def _tell_paid(self, event: Paid | PaymentHeld) -> None:
        """Take in what became of payments to us, after its commit."""
        self.paid.notify(event.payment_hash)
        self._watchers.publish(event)
        self._note_change()

    def _close_for_peer(self, channel: ChannelId) -> None:
        if self.engine.session(channel).channel.phase in (Phase.OPEN, Phase.FROZEN):
            self.engine.apply(channel, ForceClose())

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @checked
    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event and each block."""
        while not condition():
            await self._changed.wait()

    # --- channels ------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> list[ChannelHandle]:
        """All channels that this node knows, gone ones included."""
        return [ChannelHandle(self, session) for session in self.engine.sessions.values()]

    @checked
    def channel(self, channel: AnyChannel) -> ChannelHandle:
        """Return one channel; raise InvalidInput if it is unknown."""
        return ChannelHandle(self, self.engine.session(to_channel(channel)))

    @checked
    async def connect(self, peer: PeerAddress | str) -> PublicKey:
        """Connect to a node, and keep the connection from now on; return its key once it was reached there.

        Raise InvalidInput, or ChannelNotReady if the peer is not there within CONNECT_SECONDS: it is dialed on. An
        address at which it was reached before is replaced only once it was reached at this one, and a connection that
        there is goes on.
        """
        address = PeerAddress.parse(str(peer))  # the written form of one that was made is looked at, too
        if address.key == bytes(self.key.public):
            raise InvalidInput("that is this node's own address")
        await self.whereabouts.connect(address)
        return PublicKey(address.key)

    @checked
    async def open_channel(
        self,
        peer: PeerAddress | PublicKey | str,
        deposit: Amount,
        *,
        asset: AnyAddress = NATIVE,
        challenge_period: Period | None = None,
        wait: bool = True,
    ) -> ChannelHandle:
        """Open a channel with our deposit; return it once it is usable (`wait=False`: once it is on its way).

        Raise InvalidInput, InsufficientFunds, or OpeningFailed (the peer or the chain refused); nothing is locked then.
        """
        token = to_address(asset, "asset")
        period = self.openings.check_period(challenge_period)
        await self.onchain.require_balance(deposit, token, OpenCall)
        key = peer if isinstance(peer, PublicKey) else await self.connect(peer)
        session, identifier = await self.openings.begin(key, deposit, token, period)
        handle = ChannelHandle(self, session)
        if wait:
            await self.openings.finish(session, identifier)
            await handle.wait_usable()
        return handle

    @checked
    def not_connected(self, peer: PublicKey) -> ChannelNotReady:
        """The error for what needs the peer right now."""
        return ChannelNotReady(f"the peer 0x{peer.address.hex()} is not connected now: try again when it is")

    @checked
    def offer_died(self, what: str) -> ChannelNotReady:
        """The error for an offer that expired before it was mined."""
        return ChannelNotReady(f"the {what} was not mined in time and is dead; the channel goes on, try again")

    # --- money in, events, figures -------------------------------------------------------------------------------

    @checked
    def incoming(self, after: str = "", *, channel: AnyChannel | None = None) -> AsyncIterator[IncomingPayment]:
        """Iterate over received payments for ever, each after its commit, in order of the commits.

        Every payment has a `cursor`; store the last one that you handled and pass it as `after` when you start again:
        then none is missed and none comes twice, across any crash. Without it, you begin with the very first one.
        """
        return self.journal.payments(after, None if channel is None else to_channel(channel))

    @property
    def cursor(self) -> str:
        """The cursor of the newest received payment: pass it to `incoming` to see only what comes from now on."""
        return self.journal.newest()

    def events(self) -> Subscription:
        """Return an async iterator (and context manager) over what happens from now on: channels, peers, locks, alarms.

        It holds a bounded number of events; a reader that falls behind gets an error instead of losing some silently.
        """
        return self._watchers.subscribe()

    @checked
    async def balance(self, asset: AnyAddress = NATIVE) -> int:
        """Return what this node's account holds on chain, outside of channels."""
        return await self.chain.balance(self.address, to_address(asset, "asset"))

    def statistics(self) -> NodeStatistics:
        """Return counters and queue lengths."""
        return NodeStatistics(
            self.engine.statistics(),
            self.peers.statistics(),
            self.onchain.follower.statistics(),
            self.onchain.sender.statistics(),
            self.tower_manager.statistics(),
            self.routing.router.statistics(),
        )


@checked
@asynccontextmanager
async def open_node(
    directory: str | Path,
    *,
    key: PrivateKey,
    chain: Chain,
    config: Config | None = None,
    alarm: OnAlarm = lambda alarm: None,
    at_once: bool = False,
    network: Network | None = None,
    clock: Clock = system_clock,
    elapsed: Elapsed = system_elapsed,
    entropy: Entropy = system_entropy,
    store: Store | None = None,
    inline: bool = False,
    sole: bool = False,
) -> AsyncIterator[Node]:
    """Open the node that lives in `directory`, run it inside the block, and close it at the end.

    Raise InvalidInput outside of trio, StoreInUse if another process has it open, StoreForeign if it is another key's,
    chain's or contract's, StoreDamaged if a row is not what was written, WrongChain if the chain node serves another
    chain, StoreError if its disk refuses while it runs. What the block raises comes out as it is.

    `alarm` is told of every alarm. `at_once`: do not wait for the chain node; until it is `ready`, a node speaks to no
    peer. `sole`: refuse to run beside another process of this machine that is the same node, as of a copy of the
    directory; daemons do. The six parameters before it are for simulations.
    """
    require_trio("open_node")
    own = store or open_store(Path(directory), SCHEMAS, owner=f"node 0x{key.address.hex()}")
    failure: Exception | None = None
    alone = contextlib.ExitStack()
    try:
        ours = Identity(key.address, chain.chain_id, chain.contract)
        claim_directory(own, ours, said_by_node(own), str(directory))
        if sole:
            alone.enter_context(hold_identity("node", ours))
        node = Node(
            key,
            own,
            chain,
            network or TcpNetwork(key, entropy),
            config or Config(),
            clock=clock,
            elapsed=elapsed,
            entropy=entropy,
            alarm=alarm,
            inline=inline,
        )
        for text in own.healed if isinstance(own, SqliteStore) else ():
            node._alarm(Alarm(AlarmKind.DATA_HEALED, text))
        async with trio.open_nursery() as nursery:
            await nursery.start(_run, node)
            if not at_once:
                await node.ready.wait()
            try:
                yield node
            except Exception as error:
                failure = error
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) or group from None
    finally:
        alone.close()
        if store is None:
            own.close()
    if failure is not None:
        raise failure


async def _run(node: Node, *, task_status: trio.TaskStatus[None]) -> None:
    await node.run(begun=task_status.started)


def _only(group: BaseExceptionGroup[BaseException]) -> TallystickError | None:
    """Return the one error that ended a node, None if there are several or it is none of ours."""
    inner = group
    while len(inner.exceptions) == 1:
        first = inner.exceptions[0]
        if isinstance(first, TallystickError):
            return first
        if not isinstance(first, BaseExceptionGroup):
            return None
        inner = first
    return None
