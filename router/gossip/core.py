"""Who tells whom what: the rules of gossip, sans-IO. Everything that it wants is in its `effects`.

Rules:
- Nothing is believed that is not signed. A channel, its participants and its capacity are believed from the chain only:
  updates of unknown channels are parked until the chain has answered, and dropped if it says no.
- What is news is kept, and told on to all other peers within a second, if it is young. What is older, and what was lost
  or refused for a limit, is found by reconciliation: each node asks each peer for the digests of its buckets, when
  the peer connects and every `reconcile` seconds, and fetches what differs.
- What no honest peer sends (bytes that are no message, wrong signatures, updates by others than the participant)
  is a PeerError. What honest peers may send (old, too early, of a channel that we do not see yet) is dropped.
- Every peer has budgets: bytes and announcements per second, parked updates, questions to the chain, bytes served. A
  flood uses up its sender's own. What is kept is bounded by `store` and costs money on chain.

Why all nodes come to hold the same: a store is a map from ids to the highest version in a total order, so merging two
stores is commutative, associative and idempotent. A round of reconciliation brings the asker every version that the
peer holds and that is higher than its own, within a time that the budgets bound. Once no new announcements are made,
along every link that stays up each side rises to the other's versions; versions are finite, so it ends, and it ends
only where no link has two different stores. Rejections do not disturb this: they depend on the chain and on time, which
all share (up to a lag), or on budgets, which refill.

Two times: `now`, which all calls are told, goes on at one pace, and is for rounds, rates and waits. What the clock
shows is as many seconds off it as `set_date` was told last, and is for timestamps, our own and others'.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.transport.rates import Paces, TokenBucket
from tallystick.router.gossip import wire
from tallystick.router.gossip.announcements import (
    Announcement,
    ChannelUpdate,
    check_signer,
    digest_of,
    signer_address,
    verify_announcement,
)
from tallystick.router.gossip.markets import MarketAnnouncement
from tallystick.router.gossip.own_announcements import OwnAnnouncements
from tallystick.router.gossip.peer_state import (
    Budgets,
    GossipEffects,
    GossipStatistics,
    PeerState,
    answers_to,
    asking_order,
    fitting,
)
from tallystick.router.gossip.pending_updates import PendingUpdates
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.private_updates import PrivateUpdates
from tallystick.router.gossip.reconciliation import BUCKETS, UPDATE_BUCKETS
from tallystick.router.gossip.store import (
    AnnouncementForgotten,
    ChannelFacts,
    FactsForgotten,
    FactsKept,
    GossipStore,
    KeptAnnouncement,
    item_of,
)
from tallystick.router.objects import ForwardingPolicy


class Gossip:
    """The gossip of one node on one chain and contract, about channels in every asset. `effects` gathers its wishes."""

    def __init__(
        self,
        key: PrivateKey,
        domain: bytes,
        policy: GossipPolicy | None = None,
        partner: Callable[[bytes], bool] = lambda peer: True,
    ) -> None:
        """`domain` is the EIP-712 domain separator of the adjudicator (`eip712.domain_separator`); `partner` says
        whether a peer has a funded channel with us: all others share budgets, besides having some of their own.
        """
        self._domain = domain
        self._policy = policy or GossipPolicy()
        self.store = GossipStore(self._policy.channels_max, self._policy.asset_channels_max, self._policy.markets_max)
        self._effects = GossipEffects()
        self._peers: dict[bytes, PeerState] = {}
        self._gone: OrderedDict[bytes, Budgets] = OrderedDict()
        self._partner = partner
        self.pending = PendingUpdates(self._policy, partner)
        self._served = TokenBucket(self._policy.strangers_serve_rate, self._policy.strangers_serve_burst, 0.0)
        """Bytes that strangers get in answer to their requests, all together."""
        self.own = OwnAnnouncements(key, domain, self._policy, self.store)
        self._paces = Paces(self._policy.update_every, self._policy.update_burst)
        self._private = PrivateUpdates(domain, self._policy, self.store, self._paces)
        self._cursor = 0
        self._drift = 0.0
        self._accepted = self._repeated = self._ignored = self._refusals = self._rounds = 0

    # --- what the shell takes ----------------------------------------------------------------------------------------

    def take(self) -> GossipEffects:
        """Return what gathered since the last call."""
        taken, self._effects = self._effects, GossipEffects()
        taken.changes, self.store.changes = self.store.changes, []
        taken.events, self.store.events = self.store.events, []
        return taken

    @property
    def busy(self) -> bool:
        """Whether something is on its way that the next tick should bring further."""
        return self.pending.curious or any(
            state.news or state.requests or state.queried or state.todo or state.asked for state in self._peers.values()
        )

    def statistics(self) -> GossipStatistics:
        """Return the figures of this moment."""
        return GossipStatistics(
            channels=len(self.store),
            announcements=self.store.announcements,
            peers=len(self._peers),
            pending=len(self.pending),
            accepted=self._accepted,
            repeated=self._repeated,
            ignored=self._ignored,
            refused=self._refusals,
            rounds=self._rounds,
        )

    def set_date(self, date: float, now: float) -> None:
        """The clock shows `date` at the time `now`: somebody may have set it."""
        self._drift = date - now

    def _date(self, now: float) -> float:
        return now + self._drift

    # --- what happens to us ------------------------------------------------------------------------------------------

    def load(self, channels: Iterable[FactsKept], announcements: Iterable[KeptAnnouncement], now: float) -> None:
        """Take in what was stored. Call it once, before anything else; `effects` then tells the edges."""
        store = self.store
        for known in channels:
            if not store.put_channel(known.channel, known.facts, known.verified):
                store.changes.append(FactsForgotten(known.channel))
        for kept in announcements:
            if store.takes(kept.announcement):
                store.put(kept.announcement, kept.digest)
                self.own.remember(kept.announcement)
            else:
                store.changes.append(AnnouncementForgotten(item_of(kept.announcement)))
        store.changes = [c for c in store.changes if isinstance(c, FactsForgotten | AnnouncementForgotten)]
        for bucket in range(BUCKETS):
            self._drop_beyond(bucket, self._date(now))

    def on_connected(self, peer: bytes, now: float) -> None:
        """A peer is there: reconcile with it at the next tick."""
        if peer not in self._peers:
            budgets = self._gone.pop(peer, None) or Budgets(self._policy, now)
            self._peers[peer] = PeerState(budgets, now)
            self.pending.join(peer)

    def on_disconnected(self, peer: bytes) -> None:
        """A peer is gone: forget what was going on with it, but not what it has used up of its budgets."""
        state = self._peers.pop(peer, None)
        if state is None:
            return
        self.pending.leave(peer)
        self._gone[peer] = state.budgets
        while len(self._gone) > self._policy.gone_max:
            self._gone.popitem(last=False)

    def receiving(self, peer: bytes, frame: bytes, now: float) -> Iterator[None]:
        """Take a frame of a connected peer in steps of about a millisecond; it may have left between two of them.

        Raise PeerError for what no honest peer sends.
        """
        state = self._peers.get(peer)
        if state is None or not state.budgets.bytes.take(len(frame), now):
            self._ignored += 1
            return
        message = wire.decode(frame)
        match message:
            case wire.Updates(items) | wire.Nodes(items) | wire.Markets(items):
                heard: Sequence[Announcement] = items
                for number, announcement in enumerate(heard, 1):
                    self._hear(peer, state, announcement, now)
                    if number % self._policy.items_per_step == 0:
                        yield
                        if self._peers.get(peer) is not state:
                            return
            case wire.Query() | wire.Fill():
                if len(state.requests) < self._policy.requests_max:
                    state.requests.append(message)
                    self._serve(peer, state, now)
            case wire.Summary(number, digests):
                if number == state.round and state.queried:
                    state.queried = False
                    state.todo.extend(asking_order(self.store.buckets.differing(digests), peer))
                    state.moved = now
                    self._rounds += not state.todo
                    self._ask_more(peer, state, now)
            case wire.Filled(number, bucket):
                if number == state.round and bucket in state.asked:
                    state.asked.remove(bucket)
                    state.moved = now
                    self._rounds += not state.todo and not state.asked
                    self._ask_more(peer, state, now)

    def answer(self, channel: ChannelId, facts: ChannelFacts | None, now: float) -> None:
        """Take the chain's answer to a question; None: there is no such channel, or it is closed."""
        self.pending.on_answered(channel)
        pending = self.pending.take(channel)
        if facts is None:
            for peer in pending:
                self._peers[peer].budgets.items.charge(self._policy.lookup_cost, now)
            self._refusals += len(pending)
            self._forget(channel, now + self._policy.refused_seconds)
        else:
            self._confirmed(channel, facts, fitting(pending, facts, self._effects.faults), now)
        for peer in pending:
            self._ask_more(peer, self._peers[peer], now)

    def _confirmed(
        self, channel: ChannelId, facts: ChannelFacts, pending: list[tuple[bytes, KeptAnnouncement]], now: float
    ) -> None:
        """Take in a channel, if there is something to keep of it: a flood of updates by others makes no room here."""
        if not pending and not self.own.wants(channel) and self.store.facts(channel) is None:
            return
        if not self.store.put_channel(channel, facts, self._date(now)):
            self._forget(channel, now + self._policy.refused_seconds)
            return
        for peer, kept in pending:
            if self._in_pace(kept, now):
                self._admit(peer, kept, now)
        self._say(self.own.update(channel, self._date(now)), now)
        self.store.tidy(channel)

    def on_closed(self, channel: ChannelId, now: float) -> None:
        """The chain says that a channel is closing or closed, or its opening was undone: it can carry nothing."""
        self._forget(channel, now + self._policy.stale)
        self.own.forget(channel)

    def on_opened(self, channel: ChannelId, now: float) -> None:
        """The chain says that a channel is open now. If we refused what we were told of it, we ask our peers again."""
        if self.pending.pardon(channel):
            for state in self._peers.values():
                state.next_round = min(state.next_round, now + self._policy.soon)

    def recheck(self, channel: ChannelId) -> None:
        """Ask the chain again about a channel if it is here: its funding may have changed."""
        if self.store.facts(channel) is not None:
            self.pending.ask(channel)

    def recheck_since(self, time: float) -> None:
        """Ask the chain again about all channels that it confirmed since then: it was reorganised."""
        self.pending.pardon_all()
        for channel in self.store.verified_since(self._date(time)):
            self.pending.ask(channel)

    def tick(self, now: float) -> None:
        """Do what is due. Call it about once per second."""
        self._sweep(now)
        say, ask = self.own.due(now, self._date(now))
        self._say(say, now)
        for channel in ask:
            self.pending.ask(channel)
        for peer, state in self._peers.items():
            self._serve(peer, state, now)
            self._tell_news(peer, state)
            stalled = (state.queried or state.todo or state.asked) and now - state.moved > self._policy.stalled
            if now >= state.next_round or stalled:
                self._begin_round(peer, state, now)
            else:
                self._ask_more(peer, state, now)

    def announce(self, channel: ChannelId, policy: ForwardingPolicy, now: float) -> None:
        """Let the network know what we ask for carrying payments out of a channel of ours, as long as it is open.

        It is signed at once if the chain has confirmed the channel, else as soon as it does: a payment that is refused
        for a new policy must not come back with the old one. Raise InvalidInput if the policy cannot be announced.
        """
        self.own.announce(channel, policy)
        self._say(self.own.update(channel, self._date(now)), now)

    def learn(self, update: bytes, now: float) -> ChannelUpdate | None:
        """Take in an update that a forwarder sent back to us as a payer; return it if it was sound and news.

        Our own graph is told, and nobody else (see `router/gossip/private_updates.py`).
        """
        return self._private.learn(update, now, self._date(now))

    # --- announcements ------------------------------------------------------------------------------------------------

    def _hear(self, peer: bytes, state: PeerState, announcement: Announcement, now: float) -> None:
        """Check what is cheap first: budget, time, version, owner, pace; the signature last."""
        if not state.budgets.items.take(1, now):
            self._ignored += 1
            return
        date = self._date(now)
        if not date - self._policy.stale < announcement.timestamp <= date + self._policy.skew:
            self._refusals += 1
            return
        if isinstance(announcement, MarketAnnouncement) and announcement.until < date:
            self._refusals += 1
            return
        there = self.store.get(item_of(announcement))
        if there is not None and there.announcement == announcement:  # most of what is heard: it comes from all sides
            self._repeated += 1
            state.news.pop(item_of(announcement), None)
            return
        kept = KeptAnnouncement(announcement, digest_of(self._domain, announcement))
        if not self.store.newer(announcement, kept.digest):
            self._repeated += 1
            if there is not None and there.digest == kept.digest:
                state.news.pop(item_of(announcement), None)
            return
        if isinstance(announcement, ChannelUpdate):
            facts = self.store.facts(announcement.channel)
            if facts is None:
                self._park(peer, announcement, kept, now)
                return
            check_signer(announcement, facts.participants)
        elif not self.store.owns_channel(signer_address(announcement)) or not self.store.has_room(announcement):
            self._refusals += 1
            return
        if not self._paces.ready(item_of(announcement), now):
            self._ignored += 1
            return
        verify_announcement(announcement, kept.digest)
        self._in_pace(kept, now)
        self._admit(peer, kept, now)

    def _admit(self, peer: bytes | None, kept: KeptAnnouncement, now: float) -> None:
        """Keep what is believed, and tell it on if it is young."""
        announcement = kept.announcement
        if not self.store.put(announcement, kept.digest):
            return
        self._accepted += 1
        item = item_of(announcement)
        if announcement.timestamp > self._date(now) - self._policy.young:
            for other, state in self._peers.items():
                if other != peer and len(state.news) < self._policy.news_max:
                    state.news[item] = None
        if peer is not None:
            self.own.on_heard(announcement)

    def _say(self, own: list[KeptAnnouncement], now: float) -> None:
        for kept in own:
            if self._in_pace(kept, now):
                self._admit(None, kept, now)

    def _in_pace(self, kept: KeptAnnouncement, now: float) -> bool:
        """Whether this id may change once more now; if so, count it. What is new to us is no change."""
        item = item_of(kept.announcement)
        return self.store.get(item) is None or self._paces.take(item, now)

    # --- what waits for the chain ------------------------------------------------------------------------------------

    def _park(self, peer: bytes, update: ChannelUpdate, kept: KeptAnnouncement, now: float) -> None:
        place = (update.channel, update.side)
        if self.pending.is_refused(update.channel, now):
            self._refusals += 1
        elif self.pending.newest(peer, place) < update.timestamp:
            verify_announcement(update, kept.digest)
            self._ignored += not self.pending.keep(peer, place, kept)

    def _forget(self, channel: ChannelId, until: float) -> None:
        """Drop a channel and what waits for it, and let nothing about it in until then."""
        self.pending.take(channel)
        self.pending.refuse(channel, until)
        self.store.drop_channel(channel)

    # --- telling and reconciling -------------------------------------------------------------------------------------

    def _tell_news(self, peer: bytes, state: PeerState) -> None:
        news = [kept.announcement for kept in map(self.store.get, state.news) if kept is not None]
        state.news.clear()
        self._effects.frames += [(peer, frame) for frame in wire.frames(news)]

    def _begin_round(self, peer: bytes, state: PeerState, now: float) -> None:
        state.round += 1
        state.queried = True
        state.todo.clear()
        state.asked.clear()
        state.next_round, state.moved = now + self._policy.reconcile, now
        self._send(peer, wire.Query(state.round))

    def _ask_more(self, peer: bytes, state: PeerState, now: float) -> None:
        """Ask for the next buckets that differ, as fast as our own budgets and the chain's answers allow."""
        policy = self._policy
        while state.todo and len(state.asked) < policy.window:
            pending = self.pending.of(peer)
            busy = state.budgets.items.settle(now) < policy.items_burst / 2 or 2 * pending > policy.parked_per_peer
            names_too_early = state.todo[0] >= UPDATE_BUCKETS and (
                pending or any(n < UPDATE_BUCKETS for n in state.asked)
            )
            if busy or names_too_early:
                if not state.asked:
                    state.moved = now
                return
            bucket = state.todo.popleft()
            state.asked.add(bucket)
            self._send(peer, wire.Fill(state.round, bucket, self.store.buckets.marks(bucket)[: wire.KNOWN_BYTES_MAX]))

    def _serve(self, peer: bytes, state: PeerState, now: float) -> None:
        """Answer the peer's requests while its budget lasts; what is left waits for the next tick."""
        stranger = not self._partner(peer)
        while state.requests and state.budgets.served.settle(now) > 0:
            if stranger and self._served.settle(now) <= 0:
                return
            answers = answers_to(state.requests.popleft(), self.store)
            self._effects.frames += [(peer, frame) for frame in answers]
            state.budgets.served.charge(sum(map(len, answers)), now)
            if stranger:
                self._served.charge(sum(map(len, answers)), now)

    def _send(self, peer: bytes, message: wire.Message) -> None:
        self._effects.frames.append((peer, wire.encode(message)))

    def _sweep(self, now: float) -> None:
        """Look after the next bucket, so after all within minutes: drop what is stale, ask the chain anew at times."""
        bucket, self._cursor = self._cursor, (self._cursor + 1) % BUCKETS
        date = self._date(now)
        self._drop_beyond(bucket, date)
        for channel in self.store.unverified_channels(bucket, date - self._policy.recheck, date):
            self.pending.ask(channel)
        if not bucket:
            self._paces.sweep(now)

    def _drop_beyond(self, bucket: int, date: float) -> None:
        self.store.drop_beyond(bucket, date - self._policy.stale, date + self._policy.skew, date)
