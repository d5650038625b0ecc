"""Updates that wait until watchtowers have them: what a peer pays is not acknowledged, told or built on before.

A payee may lose what no tower knows of: its peer closes with an older state while it is down. How much that may be,
and how many towers must have the rest, is `CustodyPolicy`. A `Custody` stands before the channels' door:

    passes      what brings nothing, and what fits the limit beside all else that too few towers have
    deferred    any other update: it is examined, countersigned and stored at once; the state that it leads to is what
                towers are given, and the peer gets nothing. What the peer says later in that channel, and may build on
                the update, waits behind it
    let in      once enough towers gave receipts: only then it goes through the door, like any other

So nothing else in a node knows of deferred updates. After a crash, or a new connection, the peer repeats what was not
acknowledged; the update must be the one that was countersigned, as two statements must never have one number. If the
chain decides before it was let in, it counts (`TakeDeferred`): both signed it, and towers show it.

Streams (links come without an update) and virtual channels, which no tower watches, are not held up by this. Sans-IO.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Protocol

import msgspec

from tallystick.channels.errors import Fault, InvalidUpdate, PeerError, StoreError
from tallystick.channels.limits import AMOUNT_MAX, MESSAGE_MAX
from tallystick.channels.node.uncovered import Uncovered, worth
from tallystick.channels.protocol.core import Channel, Phase, SignedSimplex
from tallystick.channels.protocol.messages import Ack, LinksAck, LinksHeld, Message, Reject, Reveal, Update, decode
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.protocol.simplex import Simplex, extend
from tallystick.channels.session import receiver
from tallystick.channels.session.inputs import Asks, TakeDeferred
from tallystick.channels.session.session import Session
from tallystick.channels.storage.schema import UpdateDeferred
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.argument_rules import Whole
from tallystick.channels.values.arguments import Options

BESIDE = (Ack, Reveal, Reject, LinksAck, LinksHeld)
"""Messages about our own simplex: they build on none of the peer's updates, and never wait."""

WAITING_BYTES_MAX = 64 * MESSAGE_MAX
"""Of what may wait in one channel. Whoever says more is disconnected: what matters is repeated."""

ENDED = (Phase.CLOSING, Phase.CLOSED)
"""Phases in which the chain decides by the newest that both signed."""


class CustodyPolicy(Options, frozen=True, kw_only=True):
    """What must be with watchtowers before it is acknowledged."""

    receipts: Annotated[int, Whole(0, 64)] = 0
    """Of so many towers; 0: nothing waits for any tower."""
    unsecured: Annotated[int, Whole(0, AMOUNT_MAX)] = 0
    """Of each asset, in its smallest unit, so much may be with fewer towers, over all channels; 0: nothing may."""


class CustodyStatistics(msgspec.Struct, frozen=True):
    """What is held back for towers, and what is not."""

    receipts: int
    unsecured: int
    """By policy."""
    deferred: int
    """Channels in which an update waits for towers now."""
    since: float
    """When the one that has waited longest began to, by the node's clock; 0: none waits."""
    exposed: dict[str, int]
    """Of each asset, in hex, what was taken in and is with too few towers."""


class CustodyPort(Protocol):
    """What a custody needs of the engine."""

    @property
    def sessions(self) -> Mapping[ChannelId, Session]: ...

    def store(self, moments: Iterable[Moment]) -> None: ...

    def then(self, act: Callable[[], None]) -> None: ...

    def admit(self, channel: ChannelId, message: Message, frame: bytes) -> None: ...

    def apply(self, channel: ChannelId, command: Asks[None]) -> None: ...


class DeferredUpdate(msgspec.Struct, frozen=True):
    """An update that was countersigned, and the state that it leads to."""

    update: Update
    signed: SignedSimplex


class Custody:
    """Holds back what too few towers have. `Engine.keep_custody` puts it before the door."""

    def __init__(
        self,
        engine: CustodyPort,
        policy: CustodyPolicy,
        rows: Iterable[UpdateDeferred],
        *,
        covered: Callable[[Channel], int],
        offer: Callable[[Channel], None],
        end: Callable[[bytes, PeerError], None],
        clock: Callable[[], float],
    ) -> None:
        """`rows` are what was stored by an earlier one (`load_deferred`). `covered` returns up to which of the peer's
        updates at least `policy.receipts` towers have a channel; `offer` gives towers a channel's newest state, `end`
        ends the connection to a peer that broke a rule.

        Raise StoreError if what was deferred does not follow from the channels' states.
        """
        self.policy = policy
        self._engine = engine
        self._covered, self._offer, self._end, self._clock = covered, offer, end, clock
        self._deferred: dict[ChannelId, DeferredUpdate] = {}
        """The newest of each channel, taken in or not."""
        for row in rows:
            session = engine.sessions.get(row.channel)
            found = None if session is None else _restored(session.channel, row)
            if found is not None:
                self._deferred[row.channel] = found
        self._stored = dict(self._deferred)
        """Of these, what is durable: towers get nothing else."""
        self._waiting: dict[ChannelId, deque[tuple[Message, bytes]]] = {}
        self._since: dict[ChannelId, float] = {}
        self._exposures: dict[ChannelId, Uncovered] = {}
        self._passed: dict[Address, int] = {}
        """What was let through, by asset, since exposures were reckoned."""

    def ahead(self, channel: Channel) -> Channel:
        """Return the channel as it will be with its deferred update: what towers get, and what their word is about."""
        deferred = self._stored.get(channel.id)
        if deferred is None or deferred.signed.seq <= channel.theirs.seq:
            return channel
        return msgspec.structs.replace(channel, theirs=deferred.signed)

    def defers(self, session: Session, message: Message, frame: bytes) -> bool:
        """Return whether a message waits, and keep it if so; raise PeerError, and nothing has changed."""
        channel = session.channel
        if type(message) in BESIDE or channel.is_virtual:
            return False
        waiting = self._waiting.get(channel.id)
        if waiting is None and not self._must_wait(session, message, frame):
            return False
        if waiting is not None and sum(len(frame) for _, frame in waiting) > WAITING_BYTES_MAX:
            text = "too much waits here for watchtowers that do not answer: say the rest on another connection, later"
            raise InvalidUpdate(text, Fault.WINDOW_EXCEEDED)
        self._waiting.setdefault(channel.id, deque()).append((message, frame))
        self._since.setdefault(channel.id, self._clock())
        return True

    def _must_wait(self, session: Session, message: Message, frame: bytes) -> bool:
        """Whether a message cannot go through the door yet. An update that must wait is countersigned."""
        channel = session.channel
        if type(message) is not Update or channel.phase is not Phase.OPEN or not session.link.ready:
            return False
        if message.seq != channel.theirs.seq + 1:
            return False  # repeated, or out of turn: the door knows
        deferred = self._deferred.get(channel.id)
        if deferred is None or deferred.signed.seq != message.seq:
            if self._passes(channel, sum(map(worth, message.operations))):
                return False
            deferred = None
        found = receiver.examine(session, message)
        if isinstance(found, receiver.Aside):
            return False  # the door leaves it aside, and says why
        if deferred is None:
            deferred = self._defer(session, message, frame, found)
        elif deferred.signed.simplex.proof != found.proof:
            text = f"update {message.seq} is another one than this node countersigned: nothing of it is taken"
            raise InvalidUpdate(text, Fault.STATE_MISMATCH)
        return self._covered(channel) < message.seq

    def _passes(self, channel: Channel, value: int) -> bool:
        """Whether so much more may be taken in without towers; if so, it counts from now on."""
        asset = channel.terms.asset
        exposed = sum(each.amount for each in self._exposures.values() if each.asset == asset)
        passed = self._passed.get(asset, 0) + value
        if value and exposed + passed > self.policy.unsecured:
            return False
        self._passed[asset] = passed
        return True

    def _defer(self, session: Session, update: Update, frame: bytes, simplex: Simplex) -> DeferredUpdate:
        """Countersign an update, for towers alone, and give them what it leads to once that is stored."""
        channel = session.channel.id
        deferred = DeferredUpdate(update, SignedSimplex(simplex, update.signature, session.sign_proof(simplex)))
        self._deferred[channel] = deferred

        def offer() -> None:
            self._stored[channel] = deferred
            self._offer(session.channel)

        self._engine.store([UpdateDeferred(channel, frame, deferred.signed.countersignature)])
        self._engine.then(offer)
        return deferred

    def look(self, channel: ChannelId) -> None:
        """A tower gave a receipt: let in what waited for that, and all that passes behind it."""
        session, waiting = self._engine.sessions.get(channel), self._waiting.get(channel)
        if session is None:
            return
        self._reckon(session)
        try:
            while waiting and not self._must_wait(session, *waiting[0]):
                self._engine.admit(channel, *waiting.popleft())
                self._reckon(session)
                if waiting:
                    self._since[channel] = self._clock()
        except PeerError as fault:
            waiting = None
            self._end(session.channel.peer_key, fault)
        if not waiting:
            self._drop(channel)

    def begin(self) -> None:
        """Reckon what is exposed after a start, and take in what the chain has decided meanwhile."""
        self.on_round(self._engine.sessions.values())

    def on_round(self, sessions: Iterable[Session]) -> None:
        """Something happened in these channels: reckon anew, and take in what waits where the chain decides now."""
        self._passed.clear()
        for session in list(sessions):
            self._reckon(session)
            channel = session.channel
            if channel.phase in ENDED and self.ahead(channel) is not channel:
                self._drop(channel.id)
                self._engine.apply(channel.id, TakeDeferred(self._stored[channel.id].update))

    def on_disconnected(self, channels: Iterable[Session]) -> None:
        """The link to their peer is gone: it repeats what was not acknowledged."""
        for session in channels:
            self._drop(session.channel.id)

    def _drop(self, channel: ChannelId) -> None:
        self._waiting.pop(channel, None)
        self._since.pop(channel, None)

    def _reckon(self, session: Session) -> None:
        channel = session.channel
        if channel.is_virtual:
            return
        exposure = self._exposures.setdefault(channel.id, Uncovered(channel.terms.asset))
        exposure.reckon(channel, self._covered(channel))
        if not exposure.amount and channel.phase is not Phase.OPEN:
            del self._exposures[channel.id]

    def statistics(self) -> CustodyStatistics:
        """Return the figures of this moment."""
        exposed: dict[str, int] = {}
        for exposure in self._exposures.values():
            if exposure.amount:
                asset = "0x" + exposure.asset.hex()
                exposed[asset] = exposed.get(asset, 0) + exposure.amount
        since = min(self._since.values(), default=0.0)
        return CustodyStatistics(self.policy.receipts, self.policy.unsecured, len(self._waiting), since, exposed)


def _restored(channel: Channel, row: UpdateDeferred) -> DeferredUpdate | None:
    """Return what was deferred, None if it was taken in long ago."""
    update = decode(row.frame)
    if not isinstance(update, Update) or update.seq > channel.theirs.seq + 1:
        name = channel.id.hex()[:8]
        raise StoreError(f"what waited for towers in channel {name} does not follow: restore the data directory")
    if update.seq <= channel.theirs.seq:
        return None
    simplex = extend(channel.theirs.simplex, update.operations, update.seen)
    return DeferredUpdate(update, SignedSimplex(simplex, update.signature, row.countersignature))
