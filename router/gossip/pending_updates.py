"""Updates of channels that are not known yet: where they wait until the chain has been asked. Pure, bounded, fair.

Every peer has places of its own, and all places together are shared evenly: when they run out, the peer with the most
gives one back. Whoever floods with channels that do not exist fills its own places, and peers take turns in asking the
chain, for those without a channel with us at a rate that they share. A channel that the chain refused is not asked
about again for a while.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.transport.rates import TokenBucket
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.gossip.store import KeptAnnouncement

Place = tuple[ChannelId, int]
"""A channel and a side of it."""


class PendingUpdates:
    """The places of all peers, and what to ask the chain next."""

    def __init__(self, policy: GossipPolicy, partner: Callable[[bytes], bool] = lambda peer: True) -> None:
        """`partner` says whether a peer has a funded channel with us: the others' questions share a rate."""
        self._policy = policy
        self._partner = partner
        self._lookups = TokenBucket(policy.strangers_lookup_rate, policy.strangers_lookup_burst, 0.0)
        self._pending: dict[bytes, dict[Place, KeptAnnouncement]] = {}
        self._unasked: dict[bytes, dict[ChannelId, None]] = {}
        self._turn: deque[bytes] = deque()
        self._waiting: dict[ChannelId, dict[bytes, None]] = {}
        """Channels with parked updates, and the peers that they are parked for."""
        self._asked: set[ChannelId] = set()
        self._own: dict[ChannelId, None] = {}
        """What we ask for ourselves, before what peers make us ask."""
        self._refused: OrderedDict[ChannelId, float] = OrderedDict()
        self._taken = 0

    # --- peers -------------------------------------------------------------------------------------------------------

    def join(self, peer: bytes) -> None:
        """Give a peer places."""
        self._pending[peer], self._unasked[peer] = {}, {}
        self._turn.append(peer)

    def leave(self, peer: bytes) -> None:
        """Drop what is parked for a peer, and its places."""
        for channel in dict.fromkeys(channel for channel, _ in self._pending[peer]):  # once: it frees both sides
            self._release(peer, channel)
        del self._pending[peer], self._unasked[peer]
        self._turn.remove(peer)

    def of(self, peer: bytes) -> int:
        """How many updates are parked for a peer."""
        return len(self._pending[peer])

    def __len__(self) -> int:
        """How many channels wait for the chain's word."""
        return len(self._waiting)

    # --- updates -----------------------------------------------------------------------------------------------------

    def newest(self, peer: bytes, place: Place) -> int:
        """Return the timestamp of what is parked there for a peer, -1 if nothing is."""
        kept = self._pending[peer].get(place)
        return kept.announcement.timestamp if kept is not None else -1

    def keep(self, peer: bytes, place: Place, kept: KeptAnnouncement) -> bool:
        """Let an update wait, in place of an older one of that peer; return False if the peer has no place left."""
        mine = self._pending[peer]
        if place not in mine:
            if not self._make_room(peer):
                return False
            self._taken += 1
        mine[place] = kept
        self._waiting.setdefault(place[0], {})[peer] = None
        if place[0] not in self._asked:
            self._unasked[peer][place[0]] = None
        return True

    def take(self, channel: ChannelId) -> dict[bytes, list[KeptAnnouncement]]:
        """Return what was parked for whom, and free its places."""
        found: dict[bytes, list[KeptAnnouncement]] = {}
        for peer in list(self._waiting.get(channel, ())):
            places = [(channel, side) for side in (0, 1)]
            found[peer] = [self._pending[peer][place] for place in places if place in self._pending[peer]]
            self._release(peer, channel)
        return found

    def _make_room(self, peer: bytes) -> bool:
        mine = len(self._pending[peer])
        if mine >= self._policy.parked_per_peer:
            return False
        if self._taken < self._policy.parked_max:
            return True
        greediest = max(self._pending, key=lambda other: (len(self._pending[other]), other))
        if len(self._pending[greediest]) <= mine + 1:
            return False
        self._release(greediest, next(reversed(self._pending[greediest]))[0])
        return True

    def _release(self, peer: bytes, channel: ChannelId) -> None:
        for side in (0, 1):
            self._taken -= self._pending[peer].pop((channel, side), None) is not None
        self._unasked[peer].pop(channel, None)
        waiting = self._waiting[channel]
        del waiting[peer]
        if not waiting:
            del self._waiting[channel]
        elif channel not in self._asked:
            self._unasked[next(iter(waiting))][channel] = None

    # --- the chain ---------------------------------------------------------------------------------------------------

    def ask(self, channel: ChannelId) -> None:
        """Ask about a channel for ourselves."""
        self._own[channel] = None

    @property
    def curious(self) -> bool:
        """Whether `next_question` may have something to ask."""
        return bool(self._own) or any(self._unasked.values())

    def next_question(self, now: float) -> ChannelId | None:
        """Return a channel to ask the chain about, None if there is none now. Peers take turns. `answered` ends it."""
        for channel in self._own:
            if channel not in self._asked:  # else: once more, after the answer that is on its way
                del self._own[channel]
                self._asked.add(channel)
                return channel
        for _ in range(len(self._turn)):
            self._turn.rotate(-1)
            unasked = self._unasked[self._turn[-1]]
            stranger = bool(unasked) and not self._partner(self._turn[-1])
            while unasked and not (stranger and self._lookups.settle(now) < 1):
                channel = next(iter(unasked))
                del unasked[channel]
                if channel not in self._asked:
                    self._asked.add(channel)
                    if stranger:
                        self._lookups.charge(1, now)
                    return channel
        return None

    def on_answered(self, channel: ChannelId) -> None:
        """The chain has said something about a channel: it may be asked about again."""
        self._asked.discard(channel)

    def refuse(self, channel: ChannelId, until: float) -> None:
        """Let nothing about this channel in until that time."""
        self._own.pop(channel, None)
        self._refused[channel] = until
        self._refused.move_to_end(channel)
        while len(self._refused) > self._policy.refused_max:
            self._refused.popitem(last=False)

    def pardon(self, channel: ChannelId) -> bool:
        """Let a channel in again; return whether it was refused."""
        return self._refused.pop(channel, None) is not None

    def is_refused(self, channel: ChannelId, now: float) -> bool:
        """Whether the chain refused this channel lately."""
        return self._refused.get(channel, now) > now

    def pardon_all(self) -> None:
        """Forget what was refused: the chain has changed."""
        self._refused.clear()
