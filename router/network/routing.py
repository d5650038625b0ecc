"""The payment network, as one node takes part in it: pay, be paid, forward, and know the graph.

    router       decides about every lock that comes with an onion (`router.forwarding.service`)
    paying       what its owner asks for; `outgoing`: the payments that follow
    invoicing    the invoices that others pay; `receiving`: what comes for them
    gossip       tells and hears what channels there are, and what they ask for
    maps         a graph for each asset, drawn by gossip, on which payments find their ways (`asset_graphs`)

Everything is stored before it has consequences, as everywhere; after a restart payments go on by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress

import trio

from tallystick.channels.errors import InvalidInput, InvalidUpdate
from tallystick.channels.node.peers import number_of
from tallystick.channels.protocol.conditions import amount_paid
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    AnyChannel,
    ChannelId,
    Count,
    Secret,
    Whole64,
    to_channel,
)
from tallystick.channels.session.effects import ChannelChanged, Event, PeerConnected
from tallystick.channels.transport.guests import Rank
from tallystick.channels.values.arguments import checked
from tallystick.router.forwarding.admission import Admission, IncomingLocks
from tallystick.router.forwarding.circuits import ForwardRecord, forwards_after, forwards_before
from tallystick.router.forwarding.policies import Policies, RoutingOptions
from tallystick.router.forwarding.service import Router
from tallystick.router.gossip.announcements import Description
from tallystick.router.gossip.core import Gossip
from tallystick.router.gossip.service import GossipService
from tallystick.router.gossip.store import GraphEvent
from tallystick.router.network.asset_graphs import AssetGraphs
from tallystick.router.network.invoicing import Invoicing
from tallystick.router.network.node import LocalNode
from tallystick.router.network.options import AssetOptions, PaymentOptions
from tallystick.router.network.paying import Paying, PaymentReceipt
from tallystick.router.network.private_channels import TOLD_TAG, PrivateChannels
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.receiving.service import Paid, PaymentHeld, Receiving
from tallystick.router.sending.expected_locks import SentLocks
from tallystick.router.sending.outgoing import OutgoingPayments
from tallystick.settlement.following.follower import BlockAdded, Step

__all__ = ["AssetOptions", "PaymentOptions", "PaymentReceipt", "Routing"]

TALK_TAGS = range(39, 43)
"""Numbers of messages between payers and makers: they go to whoever takes part in that (`Routing.talk`)."""

TICK = 1.0
"""Seconds by which a payment may be given up too late."""

SAVE_SECONDS = 30.0
"""How often what was learned of others' channels is written down."""


class Routing:
    """The payment network, as one node takes part in it: see the module's docstring. Made by `Node`."""

    def __init__(
        self,
        node: LocalNode,
        forwarding: RoutingOptions,
        *,
        jitter: Callable[[], float],
        tell: Callable[[Paid | PaymentHeld], None],
        claim_fee: Callable[[], int],
    ) -> None:
        """`tell` is told of payments to us after their commits.

        `claim_fee` says below what worth in the native coin a secret is not claimed on chain now; 0: all are claimed.
        """
        options, rank = node.options, node.engine.rank
        self.options = options
        """As they were chosen."""
        self._node = node
        self.channels = node.channels
        self.policies = Policies(node.channels, forwarding)
        self.gossip = GossipService(
            core=Gossip(node.engine.key, node.domain, partner=lambda peer: rank(peer) is Rank.PARTNER),
            ask=node.chain.channel,
            writer=node.engine.writer,
            clock=node.clock,
            steady=node.steady,
            say=node.peers.say,
            punish=node.peers.end,
            tell=self._draw,
            jitter=jitter,
        )
        self.private_channels = PrivateChannels(
            node, self.policies, is_known=self._is_known, announced=self.gossip.core.own.said_of
        )
        self.maps = AssetGraphs(node, self.gossip, self.private_channels)
        admission = Admission(node.channels, forwarding, fee=claim_fee, alarm=node.alarm)
        self.incoming = IncomingLocks(node.channels, admission, self.private_channels.update_of)
        self.outgoing = OutgoingPayments(
            node.channels,
            self.maps.routes_for,
            clock=node.clock,
            steady=node.steady,
            entropy=node.entropy,
            limits=options.limits_in,
            alarm=node.alarm,
            inline=False,
        )
        self.receiving = Receiving(
            node.channels,
            self.incoming,
            patience=options.patience,
            keysend=(NATIVE, *options.assets) if options.keysend else (),
            tell=tell,
        )
        self.sent_locks = SentLocks(
            node.channels, self.maps.of, source=node.own, steady=node.steady, entropy=node.entropy
        )
        self.router = self._make_router(forwarding, admission)
        self.invoicing = Invoicing(node, self.maps, self.private_channels, self.receiving)
        self.paying = Paying(node, self.maps, self.outgoing, self.invoicing)
        self._talk: Callable[[bytes, bytes], None] | None = None
        node.engine.keep_locks(self.router)
        node.peers.extend(self._receive)

    def _make_router(self, forwarding: RoutingOptions, admission: Admission) -> Router:
        return Router(
            self.channels,
            forwarding,
            policies=self.policies,
            admission=admission,
            incoming=self.incoming,
            payer=self.outgoing,
            payee=self.receiving,
            stakes=self.sent_locks,
            alarm=self._node.alarm,
            on_ready=self.private_channels.tell,
        )

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take in what is on disk. Before the chain is followed."""
        self.maps.look()
        self.gossip.load()
        self.outgoing.load()

    def start(self) -> None:
        """Look again at what was pending, and go on with payments. Once the chain was caught up with."""
        self.router.start()
        for channel in self._node.engine.views.ids:
            self._announce(channel)
        self.outgoing.resume()

    def describe(self, addresses: tuple[str, ...]) -> None:
        """Let the network know where we are."""
        if self._node.options.announce:
            with suppress(InvalidInput):  # an address that cannot be announced is of no use to others
                self.gossip.describe(Description(self._node.options.alias, addresses))

    async def run(self) -> None:
        """Gossip, watch over payments and write down what they teach, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.gossip.run)
            nursery.start_soon(self.outgoing.run)
            nursery.start_soon(self._save_forever)
            while True:
                begun, due = self.outgoing.begun, self.outgoing.on_time()
                with trio.move_on_after(math.inf if due is None else max(TICK, due)):
                    await begun.wait()

    async def _save_forever(self) -> None:
        while True:
            await trio.sleep(SAVE_SECONDS)
            moments = self.maps.news()
            if moments:
                await self._node.engine.writer.commit(moments)

    def on_event(self, event: Event) -> None:
        """Take in what the engine and the peers tell."""
        if isinstance(event, PeerConnected):
            (self.gossip.on_connected if event.up else self.gossip.on_disconnected)(event.peer)
        elif isinstance(event, ChannelChanged):
            self.maps.on_channel_changed(event.channel)
            self._announce(event.channel)
        else:
            self.outgoing.on_event(event)

    def on_step(self, step: Step) -> None:
        """Take in a block that came or went."""
        if isinstance(step, BlockAdded):
            self.gossip.on_block(step.block.events)
        else:
            self.gossip.on_undone()

    def talk(self, take: Callable[[bytes, bytes], None] | None) -> None:
        """Give frames with TALK_TAGS to `take(peer, frame)`, which may raise PeerError; None: leave them aside.

        Raise InvalidInput if somebody takes them already.
        """
        if take is not None and self._talk is not None:
            raise InvalidInput("a program of this node talks with payers and makers already: there can be one")
        self._talk = take

    @property
    def talks(self) -> bool:
        """Whether somebody takes them."""
        return self._talk is not None

    def _receive(self, peer: bytes, frame: bytes) -> Iterator[None] | None:
        """Take a frame of the router's; raise PeerError for what no honest peer sends."""
        number = number_of(frame)
        if number in TALK_TAGS:
            if self._talk is not None:
                self._talk(peer, frame)
            return None
        if number != TOLD_TAG:
            return self.gossip.receiving(peer, frame)
        channel = self.private_channels.receive(peer, frame)
        if channel is not None:
            self._announce(channel)
        return None

    # --- our own channels ----------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The graph of the channels in the chain's coin; of other assets: `maps.graph`."""
        return self.maps.graph()

    def _draw(self, event: GraphEvent) -> None:
        self.maps.draw(event)
        self.outgoing.on_graph_changed()

    def _is_known(self, channel: ChannelId, asset: Address) -> bool:
        """Whether the network knows a channel of ours as a way to us."""
        return asset in self.maps and self.maps.graph(asset).get(channel, self._node.own) is not None

    def _announce(self, channel: ChannelId) -> None:
        view = self._node.engine.views.get(channel)
        alive = view is not None and view.channel.phase is Phase.OPEN and not view.channel.is_virtual
        if alive and self.private_channels.may_announce(channel):
            self.gossip.announce(channel, self.policies.policy_of(channel))

    # --- forwarding ----------------------------------------------------------------------------------------------

    @checked
    def unlock(self, channel: AnyChannel, lock: Whole64, proof: Secret) -> None:
        """Pay for a pending lock of ours by a proof that we hold, although its receiver has shown none.

        Our way out of a lock that nobody claims: what the proof does not pay comes back at once. Raise InvalidInput if
        there is no such lock, this is no proof of it, or it stands for one that came in, which has to be paid first.
        """
        identity = to_channel(channel)
        pending = self.channels.views.channel(identity).newest.lock(lock)
        if pending is None:
            raise InvalidInput(f"no lock {lock} of ours is pending in this channel")
        if self.router.stands_for(identity, lock):
            raise InvalidInput(f"lock {lock} stands for one that came in: it is paid once that one was")
        try:
            amount_paid(pending, proof)
        except InvalidUpdate as error:
            raise InvalidInput(str(error)) from error
        self.channels.pay(identity, lock, proof)

    @checked
    def policy(self, channel: AnyChannel) -> ForwardingPolicy:
        """Return what this node asks for carrying payments out over one of its channels."""
        return self.policies.policy_of(to_channel(channel))

    @checked
    async def set_policy(self, channel: AnyChannel, policy: ForwardingPolicy) -> None:
        """Ask something else from now on, and tell the network. Raise InvalidInput."""
        identity = to_channel(channel)
        self.private_channels.check(identity, policy)  # first: a node that starts says again what is stored
        await self._node.engine.writer.commit(list(self.policies.set_policy(identity, policy)))
        self._announce(identity)
        self.private_channels.tell(identity)

    @checked
    def forwards(self, limit: Count = 100, before: Count = 0) -> list[ForwardRecord]:
        """Return payments of others that ended, newest first; `before` goes on from a position."""
        return forwards_before(self._node.channels.disk, before, limit)

    @checked
    def forwards_after(self, position: Count = 0, limit: Count = 100) -> list[ForwardRecord]:
        """Return payments of others that ended, oldest first, behind a position."""
        return forwards_after(self._node.channels.disk, position, limit)
