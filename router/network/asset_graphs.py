"""The graphs of the network, one for each asset that a node can use: the chain's coin, and what else it has channels
in.

Gossip tells of channels in every asset; a payment stays in one. So each asset has a graph and beliefs of its
own, made when the node's first channel in it opens (or because the settings name it) and dropped when the last one is
closed. At most `PaymentOptions.assets_max` besides the coin: first those that the settings name, then those in which
the node has put money of its own. A peer that opens channels in one token after the other takes no room from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.router.gossip.service import GossipService
from tallystick.router.gossip.store import EdgeKnown, GraphEvent
from tallystick.router.network.node import LocalNode
from tallystick.router.network.private_channels import HintUpdates, PrivateChannels, capacity_of
from tallystick.router.objects import NodeKey
from tallystick.router.pathfinding.beliefs import load_beliefs
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Planner
from tallystick.router.sending.asset_graph import AssetGraph, OrderRoutes, OwnChannel
from tallystick.router.sending.payments import Order


class AssetGraphs:
    """The asset graphs of one node, by asset: see the module's docstring. `look` before the chain is followed,
    `draw` what gossip tells."""

    def __init__(self, node: LocalNode, gossip: GossipService, private_channels: PrivateChannels) -> None:
        self._node = node
        self._views = node.engine.views
        self._gossip = gossip
        self._private_channels = private_channels
        self._asset_graphs: dict[Address, AssetGraph] = {}
        self._changed: dict[Address, set[ChannelId]] = {}
        """Channels to which something has happened of which the graph of their asset does not know yet."""

    def __iter__(self) -> Iterator[Address]:
        return iter(self._asset_graphs)

    def of(self, asset: Address) -> AssetGraph:
        """Return the graph for payments in an asset; raise InvalidInput if the node has none."""
        asset_graph = self._asset_graphs.get(asset)
        if asset_graph is None:
            raise InvalidInput(
                f"this node has no map of the network for asset 0x{asset.hex()}: it makes one when a channel in it is "
                f"open, for {self._node.options.assets_max} assets besides the coin at most; those named in the "
                "settings come first"
            )
        return asset_graph

    def graph(self, asset: Address = NATIVE) -> Graph:
        """Return the graph of the channels in an asset; raise InvalidInput if the node has none."""
        return self.of(asset).planner.graph

    def routes_for(self, order: Order) -> OrderRoutes:
        """Return the routes of one payment: in its asset, as long as the payment lasts."""
        return self._asset_graph(order.asset).routes_for(order)

    @property
    def usable(self) -> tuple[Address, ...]:
        """The assets in which this node has an open channel and a graph, the coin in any case."""
        held = self._held()
        return tuple(asset for asset in self._asset_graphs if asset == NATIVE or asset in held)

    # --- which graphs there are ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Make the graphs that have come to be wanted, and drop those that are not wanted any more.

        Call it first before gossip tells what is on disk.
        """
        held, options = self._held(), self._node.options
        others = sorted(held, key=lambda asset: (not held[asset], asset not in self._asset_graphs, asset))
        wanted = [asset for asset in dict.fromkeys([*options.assets, *others]) if asset != NATIVE][: options.assets_max]
        self._gossip.prefer(wanted)
        for asset in [asset for asset in self._asset_graphs if asset not in (NATIVE, *wanted)]:
            self._node.engine.writer.add(self._asset_graphs.pop(asset).knowledge.changes(asset))
        for asset in (NATIVE, *wanted):
            self._asset_graph(asset)

    def on_channel_changed(self, channel: ChannelId) -> None:
        """A channel of ours has opened or closed, or will soon."""
        view = self._views.get(channel)
        if view is None or view.channel.terms.asset != NATIVE:
            self.look()

    def _held(self) -> dict[Address, bool]:
        """Return the assets of our open channels, and of each whether money of ours was put in."""
        held: dict[Address, bool] = {}
        for view in self._views:
            channel = view.channel
            if channel.phase is Phase.OPEN and not channel.is_virtual:
                asset = channel.terms.asset
                held[asset] = held.get(asset, False) or channel.funding(channel.side) > 0
        return held

    def _asset_graph(self, asset: Address) -> AssetGraph:
        """Return the graph for an asset, made now if there is none."""
        if asset not in self._asset_graphs:
            graph = Graph(self._gossip.core.store.edges(asset).values(), compiled=self._node.options.compiled)
            knowledge = Knowledge(graph)
            knowledge.restore(load_beliefs(self._node.channels.disk, asset), self._node.steady())
            learn = partial(self._learn, graph, HintUpdates(graph, self._node.domain))
            changed = partial(self._take_changed, asset)
            self._changed[asset] = {view.channel.id for view in self._views if view.channel.terms.asset == asset}
            self._asset_graphs[asset] = AssetGraph(
                self._node.own, Planner(graph, knowledge), changed, self._own_channel, learn
            )
        return self._asset_graphs[asset]

    # --- what is on them -----------------------------------------------------------------------------------------

    def draw(self, event: GraphEvent) -> None:
        """Take in what gossip tells."""
        if isinstance(event, EdgeKnown):
            if event.asset in self._asset_graphs:
                self.graph(event.asset).put(event.edge)
        else:
            for asset in self._asset_graphs:
                self.graph(asset).drop(event.channel)

    def news(self) -> list[Moment]:
        """Return what payments have taught since the last call, to be stored."""
        return [news for asset, each in self._asset_graphs.items() for news in each.knowledge.changes(asset)]

    def _learn(self, graph: Graph, hint_updates: HintUpdates, update: bytes) -> bool:
        """Take in the channel update of a failure, for the very next plan already."""
        found = self._gossip.learn(update)
        if found is None:
            return hint_updates.learn(update, self._node.clock())
        for slot in graph.slots_of(found.channel):
            edge = graph.edge(slot)
            if edge.source == found.key:
                graph.revise(msgspec.structs.replace(edge, policy=found.policy))
        return True

    def _take_changed(self, asset: Address) -> set[ChannelId]:
        """Return our channels in an asset to which something has happened since the last call."""
        for channel in self._node.engine.take_changed():
            view = self._views.get(channel)
            if view is not None:
                self._changed.setdefault(view.channel.terms.asset, set()).add(channel)
        return self._changed.pop(asset, set())

    def _own_channel(self, channel: ChannelId) -> OwnChannel | None:
        view = self._views.get(channel)
        if view is None or view.channel.phase is not Phase.OPEN or view.channel.is_virtual:
            return None
        spendable = view.spendable if view.payable else 0
        return OwnChannel(
            channel,
            NodeKey(view.channel.peer_key),
            capacity_of(view.channel),
            spendable if view.usable and view.lock_slots > 0 else 0,
            self._private_channels.peer_policy(channel),
            0 if view.usable else spendable,
        )
