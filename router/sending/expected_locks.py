"""Locks of ours that are no payments, on their way over others: stakes in apps, and what virtual channels stand on.

What such a lock pays depends on its condition alone (`LockKind.divisible`), so it has one condition, amount and expiry
in every channel, and no fee: nobody between would ever be paid one out of it. So its way is the best by what channels
can carry, not the cheapest (`lock_ways`). A lock that came back is sent another way the next time; what its failure
says of the network all later payments know, too.

Nothing here is stored. What was signed is in the channels, and who wants the lock looks for it there; after a restart
a failure cannot be read any more, and counts against nobody. It lives within the engine's step, and never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.ports import Clock, Entropy
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.session.expected import LockWanted
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.objects import NodeKey, Route
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion
from tallystick.router.pathfinding.graph import Direction
from tallystick.router.sending.asset_graph import AssetGraph
from tallystick.router.sending.attribution import Attribution, PartFailure, attribution_of
from tallystick.router.sending.lock_ways import find_way

TRIES = 6
"""Ways that one lock is sent, one after the other."""


class _OnItsWay(Discreet, msgspec.Struct):
    condition: bytes
    asset: Address
    route: Route
    onion: BuiltOnion
    reason: bytes = b""


class _WaysTried(msgspec.Struct):
    """What became of a lock's ways so far."""

    failed: set[Direction]
    count: int = 0
    text: str = ""
    refused: bool = False
    """By its receiver: no other way will do."""


class SentLocks:
    """Sends locks over others, as `LockSender` says, and hears as a `PayerPort` what becomes of them."""

    def __init__(
        self,
        channels: NodeChannels,
        graph_of: Callable[[Address], AssetGraph],
        *,
        source: NodeKey,
        steady: Clock,
        entropy: Entropy,
    ) -> None:
        """`graph_of` returns the graph of an asset; raise InvalidInput if there is none."""
        self._channels = channels
        self._graph_of = graph_of
        self._source = source
        self._steady = steady
        self._entropy = entropy
        self._sent: dict[tuple[ChannelId, int], _OnItsWay] = {}
        self._tried: dict[bytes, _WaysTried] = {}

    def __repr__(self) -> str:
        return f"<SentLocks {len(self._sent)} under way>"

    # --- LockSender ----------------------------------------------------------------------------------------------

    def send(self, wanted: LockWanted, attach: Callable[[ChannelId, int], Moment] | None = None) -> ChannelId:
        """See `LockSender`."""
        route = self._way(wanted)
        first = route.hops[0].channel
        payloads = [encode_payload(ForwardPayload(wanted.amount, wanted.expiry, hop.channel)) for hop in route.hops[1:]]
        payloads.append(encode_payload(FinalPayload(wanted.amount, wanted.expiry, wanted.word, wanted.amount)))
        onion = build_onion(self._entropy(32), [hop.node for hop in route.hops], payloads, wanted.condition)
        lock = self._channels.view(first).next_lock
        self._channels.send_lock(
            first,
            wanted.amount,
            wanted.expiry,
            wanted.condition,
            onion.packet,
            None if attach is None else attach(first, lock),
            wanted.kind,
        )
        self._sent[first, lock] = _OnItsWay(wanted.condition, wanted.asset, route, onion)
        self._tried.setdefault(wanted.condition, _WaysTried(set())).count += 1
        return first

    def check(self, wanted: LockWanted) -> None:
        """See `LockSender`."""
        self._way(wanted)

    def find_hubs(self, asset: Address, hubs: Sequence[Address]) -> tuple[bytes, ...]:
        """See `LockSender`."""
        graph, found = self._graph_of(asset).planner.graph, list[bytes]()
        near = {view.channel.peer_key for view in self._channels.views if not view.channel.is_virtual}
        for hub in hubs:
            key = next((each for each in sorted(near) if PublicKey(each).address == hub), None)
            if key is None:
                last = "this node" if not found else f"node {found[-1].hex()[:16]}…"
                raise InvalidInput(f"{last} is known to have no channel with 0x{hub.hex()}: name hubs in order")
            found.append(key)
            near = {edge.source for edge in graph.reaching(NodeKey(key))} if NodeKey(key) in graph else set()
        return tuple(found)

    def failure(self, condition: bytes) -> str:
        """See `LockSender`."""
        tried = self._tried.get(condition)
        return "" if tried is None else tried.text

    def forget(self, condition: bytes) -> None:
        """See `LockSender`."""
        self._tried.pop(condition, None)

    def _way(self, wanted: LockWanted) -> Route:
        """Return the way to send a lock now; raise as `LockSender.send` does."""
        tried = self._tried.get(wanted.condition, _WaysTried(set()))
        if tried.refused or tried.count >= TRIES:
            raise InvalidInput(f"this lock does not get there: {tried.text or 'nobody says why'}")
        graph = self._graph_of(wanted.asset)
        graph.refresh()
        ahead = wanted.expiry - self._channels.chain.now
        route = find_way(graph, self._source, wanted, ahead, tried.failed)
        if route is not None:
            return route
        if tried.text:
            raise InvalidInput(f"no other way is known for this lock, which came back: {tried.text}")
        away = {channel: room for (channel, _), room in graph.away().items() if room >= wanted.amount}
        if away:
            raise ChannelNotReady("the peer of a channel that could carry this is not connected now")
        over = "those hubs" if wanted.over else "hubs"
        raise InvalidInput(
            f"no way over {over} is known that could carry {wanted.amount} to that node: it takes channels that are "
            "announced and have as much room, each of them; choose a smaller amount, or open a channel"
        )

    # --- PayerPort -----------------------------------------------------------------------------------------------

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """The lock will be paid for: who wants it hears of it by itself."""
        return ()

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """The lock is being given back, for a reason that only we can read."""
        sent = self._sent.get((channel, lock.id))
        if sent is not None:
            sent.reason = reason
        return ()

    def on_lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """The lock is agreed gone: learn from a failure."""
        sent = self._sent.pop((channel, lock.id), None)
        if sent is not None and not paid and sent.reason:
            self._learn(sent, attribution_of(sent.onion, sent.reason))
        return ()

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """The lock was given up before it was signed: as if it had not been tried."""
        sent = self._sent.pop((channel, lock.id), None)
        if sent is not None and sent.condition in self._tried:
            self._tried[sent.condition].count -= 1
        return ()

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """Nothing waits here."""
        return ()

    def on_time_passed(self) -> Sequence[Moment]:
        """Forget locks whose channels are gone."""
        self._sent = {name: sent for name, sent in self._sent.items() if not self._channels.is_over(*name)}
        return ()

    def _learn(self, sent: _OnItsWay, failure: PartFailure) -> None:
        tried = self._tried.get(sent.condition)
        if tried is None:
            return
        tried.text = failure.text
        tried.refused |= failure.attribution is Attribution.REFUSED
        hops, at = sent.route.hops, failure.at
        blamed = hops[at + 1] if at + 1 < len(hops) else hops[-1]
        tried.failed.add((blamed.channel, blamed.node))
        try:
            graph = self._graph_of(sent.asset)
        except InvalidInput:
            return
        if failure.update:
            graph.learn_policy(failure.update)
        if failure.attribution is Attribution.LIQUIDITY:
            graph.knowledge.on_failed(blamed.channel, blamed.node, blamed.amount, self._steady())
