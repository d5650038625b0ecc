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

import functools
import random
from collections.abc import AsyncIterator, Callable, Mapping
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.alarms import Alarm, OnAlarm
from tallystick.channels.node.apps import Apps
from tallystick.channels.node.custody import CustodyStatistics
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers, PeerStatistics
from tallystick.channels.node.views import EngineStatistics
from tallystick.channels.ports import Clock, Elapsed, Entropy, Network, PeerAddress, steady_clock
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.hashchain import StreamProof
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
from tallystick.channels.session.effects import Event, StreamReceived
from tallystick.channels.storage.store import Store
from tallystick.channels.storage.writer import Writer
from tallystick.channels.values.arguments import checked
from tallystick.router.forwarding.service import RouterStatistics
from tallystick.router.network.invoicing import Invoicing
from tallystick.router.network.node import LocalNode
from tallystick.router.network.paying import Paying
from tallystick.router.network.routing import Routing
from tallystick.router.pathfinding.planner import warm_up
from tallystick.router.receiving.service import Paid, PaymentHeld
from tallystick.sdk.node.app_court import AppsInCourt, held_for_court
from tallystick.sdk.node.apps import AppDesk
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.incoming import IncomingPayment, Journal
from tallystick.sdk.node.news import News, Subscription
from tallystick.sdk.node.openings import Openings
from tallystick.sdk.node.options import Config, Period
from tallystick.sdk.node.reactions import Reactions
from tallystick.sdk.node.streams import NodeContext
from tallystick.sdk.node.towers import Outside, TowerManager, clients_of
from tallystick.sdk.node.virtual import VirtualDesk
from tallystick.sdk.node.whereabouts import Whereabouts
from tallystick.settlement.chain import OpenCall
from tallystick.settlement.enforcement.claims import close_keys
from tallystick.settlement.enforcement.following import EnforcingNode
from tallystick.settlement.enforcement.onchain import OnChain
from tallystick.settlement.following.checked import with_checks
from tallystick.settlement.following.follower import Step
from tallystick.settlement.following.vigil import FollowerStatistics
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.figures import SenderStatistics
from tallystick.watchtower.client import TowerClientStatistics

__all__ = ["Alarm", "Config", "Node", "NodeStatistics"]

P = ParamSpec("P")
R = TypeVar("R")


class NodeStatistics(msgspec.Struct, frozen=True):
    """Counters since the start, and queue lengths."""

    engine: EngineStatistics
    peers: PeerStatistics
    chain: FollowerStatistics
    transactions: SenderStatistics
    towers: tuple[TowerClientStatistics, ...]
    custody: CustodyStatistics
    router: RouterStatistics


def _done_by(part: str, method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Node, P], R]:
    """Return the method of a node that has a part of it do this: same name, arguments and words about it."""
    part_of = attrgetter(part)

    def done(node: Node, /, *arguments: P.args, **named: P.kwargs) -> R:
        return method(part_of(node), *arguments, **named)

    functools.update_wrapper(done, method)
    return done


class Node:
    """A node: its peers, channels, store and view of the chain: see the module's docstring. Make one with
    `open_node`."""

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
        chain = with_checks(chain)
        self.key = key
        self.store = store
        self.chain = chain
        self.config = config
        self.news = News(alarm)
        """What is told: alarms, events, and that something has changed."""
        self.ready = trio.Event()
        """Set once the chain was followed to its head, and peers can connect."""
        rng = random.Random(int.from_bytes(entropy(16), "big"))
        self.writer = Writer(store, inline=inline)
        close_key = close_keys(key)
        clients = clients_of(config, key, self.writer, Outside(network, rng.random, clock, entropy), self.news.alarm)
        self.tower_manager = TowerManager(clients, config.custody, close_key, self._links)
        self.engine = Engine(
            key,
            self.writer,
            clock,
            msgspec.structs.replace(config.channels, kinds=chain.figures.kinds),
            chain_id=chain.chain_id,
            contract=chain.contract,
            tell=self._tell,
            saved=self.tower_manager.offer,
            fresh=lambda: self.onchain.fresh,
            lost=lambda: self.onchain.following.is_lost,
        )
        self.peers = Peers(
            self.engine, network, rng, self._tell, announced=self._announced_by, reached=self._on_reached
        )
        players = Apps(self.engine, changed=self._on_apps_changed)
        self.onchain = self._make_onchain(close_key, rng, clock, elapsed, players)
        self.routing = self._make_routing(rng, clock, entropy)
        players.stakes.use_hubs(self.routing.sent_locks)
        self._context = NodeContext(self.engine, self.onchain, players, self.news.until, self.news.until_of)
        self.apps = AppDesk(self._context, self.connect)
        """The apps that it plays, and what peers propose."""
        self._court = AppsInCourt(self.engine, players, self.onchain, config.app_patience)
        self.virtual = VirtualDesk(
            self._context,
            config,
            self.routing.sent_locks,
            changed=self._on_apps_changed,
            is_passed_on=self.routing.router.is_passed_on,
        )
        """Its virtual channels."""
        self.whereabouts = Whereabouts(self.engine, self.peers, self.routing, config.announce_address)
        self.openings = Openings(chain, self.engine, self.onchain, config)
        self.journal = Journal(store)
        self.paid = self.routing.invoicing.paid
        self._reactions = Reactions(
            self.engine, self.onchain, self.openings, self.routing, self.journal, self.news, config
        )

    def _links(self, channel: ChannelId) -> Mapping[int, StreamProof]:
        return self.engine.views.claims(channel)

    def _make_onchain(
        self, close_key: Callable[[Channel], bytes], rng: random.Random, clock: Clock, elapsed: Elapsed, players: Apps
    ) -> OnChain:
        node = EnforcingNode(
            chain=self.chain,
            engine=self.engine,
            policy=self.config.duties,
            confirmations=self.config.confirmations,
            depths=self.config.depths,
            start_block=self.config.start_block,
            close_key=close_key,
            rng=rng,
            alarm=self.news.alarm,
            clock=clock,
            elapsed=elapsed,
            apps=lambda: [held_for_court(held, split=players.is_split(held)) for held in players.held],
            virtuals=lambda: self.virtual.held_for_court,
        )
        return OnChain(node, changed=self.news.tell_changed, observe=self._on_step)

    def _make_routing(self, rng: random.Random, clock: Clock, entropy: Entropy) -> Routing:
        node = LocalNode(
            chain=self.chain,
            engine=self.engine,
            peers=self.peers,
            options=self.config.payments,
            clock=clock,
            steady=steady_clock(clock, trio.current_time),
            entropy=entropy,
            alarm=self.news.alarm,
        )
        return Routing(
            node,
            self.config.routing,
            jitter=rng.random,
            tell=self._tell_paid,
            claim_fee=lambda: self.onchain.claim_fee,
        )

    def __repr__(self) -> str:
        number = self.onchain.index.head_number
        return f"<Node 0x{self.address.hex()} channels={len(self.engine.views)} at block {number}>"

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

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.writer.run)
                nursery.start_soon(self.openings.run)
                await self.tower_manager.begin(self.engine, self.peers.end)
                self.routing.load()
                self.writer.add(self.onchain.enforcer.react())
                nursery.start_soon(self.onchain.run)
                nursery.start_soon(self.tower_manager.run)
                for channel in self.engine.views.channels:
                    self.tower_manager.offer(channel)
                    if not channel.is_virtual:
                        self.chain.learn(channel.terms)
                self.whereabouts.begin()
                begun()
                await self.onchain.following.catch_up()
                self.openings.tidy()
                if self.config.payments.compiled:
                    await trio.to_thread.run_sync(warm_up)  # before peers come: compiling must not hold up the loop
                self.routing.start()
                nursery.start_soon(self.routing.run)
                nursery.start_soon(functools.partial(self.peers.run, self.config.listen, started=listening))
                await bound.wait()
                self.ready.set()
                await trio.sleep_forever()
        finally:
            self.engine.stop()
            self.news.close()

    @property
    def alarms(self) -> list[Alarm]:
        """The newest ones."""
        return self.news.alarms

    def _on_apps_changed(self) -> None:
        self.onchain.on_apps_changed()

    def _on_step(self, step: Step) -> None:
        self.openings.tidy()
        self._court.on_block()
        self.virtual.on_block()
        self.routing.on_step(step)

    def _tell(self, event: Event) -> None:
        if isinstance(event, StreamReceived):
            self.tower_manager.offer(self.engine.views.channel(event.channel))
        self._reactions.on_event(event)

    def _tell_paid(self, event: Paid | PaymentHeld) -> None:
        self._reactions.on_paid(event)

    def _announced_by(self, peer: bytes) -> tuple[str, ...]:
        return self.whereabouts.announced_by(peer)

    def _on_reached(self, address: PeerAddress) -> None:
        self.whereabouts.on_reached(address)

    @checked
    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; it is looked at after each event and each block."""
        await self.news.until(condition)

    # --- channels ------------------------------------------------------------------------------------------------

    @property
    def channels(self) -> list[ChannelHandle]:
        """All channels that this node knows, gone ones included."""
        return [ChannelHandle(self._context, view) for view in self.engine.views]

    @checked
    def channel(self, channel: AnyChannel) -> ChannelHandle:
        """Return one channel; raise InvalidInput if it is unknown."""
        return ChannelHandle(self._context, self.engine.view(to_channel(channel)))

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
        await self.onchain.account.require_balance(deposit, token, OpenCall)
        key = peer if isinstance(peer, PublicKey) else await self.connect(peer)
        identity, identifier = await self.openings.begin(key, deposit, token, period)
        handle = self.channel(identity)
        if wait:
            await self.openings.finish(identity, identifier)
            await handle.wait_usable()
        return handle

    open_virtual = _done_by("virtual", VirtualDesk.open)

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
        return self.news.subscribe()

    @checked
    async def balance(self, asset: AnyAddress = NATIVE) -> int:
        """Return what this node's account holds on chain, outside of channels."""
        return await self.chain.balance(self.address, to_address(asset, "asset"))

    async def owed(self) -> dict[Address, int]:
        """Return what the contract owes this node, by asset: payouts that were refused, to be taken by `claim`."""
        return await self.onchain.account.owed()

    @checked
    async def claim(self, asset: AnyAddress = NATIVE, to: AnyAddress | None = None) -> int:
        """Take all that the contract owes this node of an asset; return how much, once the chain has confirmed it.

        It goes to `to`, or to this node's own account. Raise InsufficientFunds if nothing is owed.
        """
        target = self.address if to is None else to_address(to, "to")
        return await self.onchain.account.claim(to_address(asset, "asset"), target)

    def statistics(self) -> NodeStatistics:
        """Return counters and queue lengths."""
        return NodeStatistics(
            self.engine.statistics(),
            self.peers.statistics(),
            self.onchain.follower.statistics(),
            self.onchain.sender.statistics(),
            self.tower_manager.statistics(),
            self.tower_manager.custody_statistics(),
            self.routing.router.statistics(),
        )

    # --- payments over several hops ------------------------------------------------------------------------------

    create_invoice = _done_by("routing.invoicing", Invoicing.create_invoice)
    invoice = _done_by("routing.invoicing", Invoicing.invoice)
    invoices = _done_by("routing.invoicing", Invoicing.invoices)
    refusal = _done_by("routing.invoicing", Invoicing.refusal)
    paid_invoices = _done_by("routing.invoicing", Invoicing.paid_invoices)
    settle_invoice = _done_by("routing.invoicing", Invoicing.settle_invoice)
    cancel_invoice = _done_by("routing.invoicing", Invoicing.cancel_invoice)
    pay = _done_by("routing.paying", Paying.pay)
    keysend = _done_by("routing.paying", Paying.keysend)
    rebalance = _done_by("routing.paying", Paying.rebalance)
    probe = _done_by("routing.paying", Paying.probe)
    estimate = _done_by("routing.paying", Paying.estimate)
    payment = _done_by("routing.paying", Paying.payment)
    payments = _done_by("routing.paying", Paying.payments)
    forwards = _done_by("routing", Routing.forwards)
    forwards_after = _done_by("routing", Routing.forwards_after)
    policy = _done_by("routing", Routing.policy)
    set_policy = _done_by("routing", Routing.set_policy)
    unlock = _done_by("routing", Routing.unlock)

    open_app = _done_by("apps", AppDesk.open_with)
