"""All channels of one node: takes what comes in, lets the writer commit it, hands out what follows.

Everything acts at once in memory and appends to one `Effects`. At the start of each round the engine signs what is due
in every channel that was touched; the writer commits the round in one transaction (group commit across channels); then
frames go out, events are told, tickets resolve. Nothing leaves before its commit. If the disk refuses, nothing leaves
at all, and the node must be restarted from what is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from tallystick.channels.errors import EngineStopped, Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import Policy
from tallystick.channels.node.admission import Backpressure, PaymentKeys, rest_after
from tallystick.channels.node.apps import Apps
from tallystick.channels.node.custody import Custody
from tallystick.channels.node.opening import Opening
from tallystick.channels.node.recordings import Recordings
from tallystick.channels.node.views import EngineStatistics, Sessions, Views, statistics_of
from tallystick.channels.node.virtuals import Virtuals
from tallystick.channels.ports import Clock
from tallystick.channels.protocol import core, messages
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.session import inputs, machine, resync
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import Effects, Event, PeerConnected, PeerNotice
from tallystick.channels.session.expected import ExpectedLocks
from tallystick.channels.session.inputs import Asks, LinkDown, LinkUp, PeerMessage
from tallystick.channels.session.locks import LockKeeper
from tallystick.channels.session.machine import process
from tallystick.channels.session.session import Session
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage import schema
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Round, Writer
from tallystick.channels.transport.guests import Rank, rank_of
from tallystick.channels.words import plain

LATER = (Fault.WRONG_PHASE, Fault.CANCEL_REFUSED, Fault.UNLOCK_REFUSED)
"""With these a peer says that it leaves an update aside, and will ask for it again."""


R = TypeVar("R")


class Wire(Protocol):
    """Where frames for one connected peer go. Must not block and must be bounded by whoever reads from the peer."""

    def put_all(self, frames: list[bytes]) -> None:
        """Send frames, or queue them for sending, in order."""


class Engine:
    """The channels of one node. Make it, `run` its writer in a nursery, then use it."""

    def __init__(
        self,
        key: PrivateKey,
        writer: Writer,
        clock: Clock,
        policy: Policy,
        *,
        chain_id: int,
        contract: Address,
        tell: Callable[[Event], None],
        saved: Callable[[Channel], None] = lambda channel: None,
        fresh: Callable[[], bool] = lambda: True,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        """`tell` gets each event and `saved` each channel's agreed state, both after the commit that holds them.

        `fresh`: whether our view of the chain is up to date; no secret is paid for while it is old. `lost`: whether the
        chain does not know our channels; no new payments are taken then.
        """
        self.key = key
        self.writer = writer
        self.policy = policy
        self.chain_id = chain_id
        self.contract = contract
        self._clock = clock
        self._tell, self._saved = tell, saved
        self._effects, self.expected = Effects(), ExpectedLocks()
        self._dirty: dict[ChannelId, Session] = {}
        self._changed: set[ChannelId] = set()
        self._wires: dict[bytes, Wire] = {}
        self._backpressure = Backpressure()
        self.turn = self._backpressure.turn
        """`turn()` lets others work after every TURN payments: for who submits many without waiting for receipts."""
        self.opening = Opening(self)
        self._keys = PaymentKeys(writer.store)
        self._keeper: LockKeeper | None = None
        self._custody: Custody | None = None
        self.players: list[Apps | Virtuals] = []
        self.fresh, self._lost = fresh, lost
        self._stopped = False
        self._rounds = self._durable = 0
        self.sessions = Sessions()
        self._by_peer: dict[bytes, dict[ChannelId, Session]] = {}
        self.views = Views(self.sessions, self._by_peer)
        self.recordings = Recordings(self.sessions)
        self.chain = ChainTime()
        writer.before_commit(self.prepare)
        choices = schema.load_choices(writer.store)
        for channel in schema.load_channels(writer.store):
            session = self._add(channel)
            session.history = choices.get(channel.id, policy.history)
            resync.restore(session, writer.store)

    # --- channels ------------------------------------------------------------------------------------------------

    def _add(self, channel: Channel) -> Session:
        session = Session(channel, self.key, self.policy, self._effects)
        session.chain = self.chain
        session.locks.keeper, session.locks.fresh, session.locks.expected = self._keeper, self.fresh, self.expected
        session.lost = self._lost
        self.recordings.end(channel.id)  # of one that this takes the place of
        self.sessions[channel.id] = session
        self._changed.add(channel.id)
        self._by_peer.setdefault(channel.peer_key, {})[channel.id] = session
        return session

    def keep_locks(self, keeper: LockKeeper) -> None:
        """Let `keeper` decide about the locks of all channels, those of now and those to come."""
        self._keeper = keeper
        for session in self.sessions.values():
            session.locks.keeper = keeper

    def keep_custody(self, custody: Custody) -> None:
        """Let `custody` hold back what too few watchtowers have."""
        self._custody = custody
        custody.begin()

    def session(self, channel: ChannelId) -> Session:
        """Return a channel's session; raise InvalidInput if there is no such channel."""
        return self.sessions[channel]

    def view(self, channel: ChannelId) -> ChannelView:
        """Return a channel as it is now; raise InvalidInput if there is no such channel."""
        return self.views.of(channel)

    def add_channel(self, channel: Channel) -> Session:
        """Take in a channel that is being opened; it is durable after the next commit."""
        old = self.sessions.get(channel.id)
        if old is not None and not core.is_unused(old.channel):
            return old
        session = self._add(channel)
        session.change(channel)
        if channel.peer_key in self._wires:
            process(session, LinkUp(), self._clock())
            if old is not None:
                resync.succeed(session, old)
        self._due(session)
        return session

    def forget_channel(self, channel: ChannelId) -> None:
        """Drop a channel that was only ever talked about; raise InvalidInput if anything was signed or funded in it."""
        session = self.session(channel)
        if not core.is_unused(session.channel):
            raise InvalidInput(f"channel {channel.hex()[:8]} has been used: it is never forgotten")
        self.recordings.end(channel)
        del self.sessions[channel]
        self._by_peer[session.channel.peer_key].pop(channel)
        if not self._by_peer[session.channel.peer_key]:
            del self._by_peer[session.channel.peer_key]
        self._dirty.pop(channel, None)
        self._effects.drop(channel)
        self.writer.wake()

    def has_business_with(self, peer: bytes) -> bool:
        """Whether any channel with that peer is not gone, or an app is played with it."""
        open_channel = any(session.channel.phase is not Phase.GONE for session in self.sessions_with(peer))
        return open_channel or any(players.plays_with(peer) for players in self.players)

    def rank(self, peer: bytes) -> Rank:
        """Return what a peer is to us: with whom our owner plays an app is a partner."""
        plays = any(players.plays_with(peer) for players in self.players)
        return Rank.PARTNER if plays else rank_of(each.channel for each in self.sessions_with(peer))

    def sessions_with(self, peer: bytes) -> list[Session]:
        """Return all channels with that peer, gone ones included."""
        return list(self._by_peer.get(peer, {}).values())

    def apply(self, channel: ChannelId, command: Asks[R]) -> R:
        """Let something happen to a channel, and return its answer; what follows is durable with the next commit.

        A payment with a key goes through `pay`, which sees that no other one has it.
        Raise InvalidInput if there is no such channel, and what the command is refused with: nothing was done then.
        """
        session = self.session(channel)
        answer = process(session, command, self._clock())
        self._due(session)
        return answer

    def giver(self, channel: ChannelId, stream: OutgoingStreamState) -> Callable[[int], int]:
        """Return a function that applies a `SubmitUnits` of so many units. Raises as `apply` does."""
        session = self.session(channel)
        return machine.giver(session, stream, lambda: self._due(session), self._clock)

    def _due(self, session: Session) -> None:
        """Let a channel to which something has happened take part in the next round."""
        identity = session.channel.id
        self._changed.add(identity)
        if self._dirty.get(identity) is not session:
            self._dirty[identity] = session
            self.writer.wake()

    def take_changed(self) -> set[ChannelId]:
        """Return the channels to which something has happened since the last call; at first all of them."""
        changed, self._changed = self._changed, set()
        return changed

    def store(self, moments: Iterable[Moment]) -> None:
        """Write moments in the very commit of what was done to channels in this step, behind what they asked for."""
        for moment in moments:
            self._effects.store(moment)
        self.writer.wake()

    async def durable(self) -> None:
        """Wait until everything done so far is durable and its consequences have left."""
        await self.writer.commit(())

    # --- payments ------------------------------------------------------------------------------------------------

    async def room(self, channel: ChannelId) -> None:
        """Wait while the channel is full (backpressure for who pays); raise ChannelNotReady if it closes.
        `Policy.outbox` and `Policy.unsecured` say what is full; what reaches a limit is the last one let in."""
        session = self.session(channel)
        if session.full:
            await self._backpressure.room(session)

    def pay(self, channel: ChannelId, amount: int, memo: bytes = b"", key: str = "") -> Ticket:
        """Accept a payment at once (`room` first). Raises as `Session.pay` does, EngineStopped, InvalidInput: another
        payment has `key`."""
        session = self._payable(channel)
        if key:
            self._keys.require_unused(key)
        ticket = machine.pay(session, amount, memo, key, self._clock())
        if key:
            self._keys.remember(key, ticket)
        self._due(session)
        return ticket

    def pay_many(self, channel: ChannelId, amounts: Sequence[int]) -> list[Ticket]:
        """Accept payments at once, in runs (`room` first). Raises as `Session.pay_many` does, and EngineStopped."""
        session = self._payable(channel)
        tickets = process(session, inputs.SubmitPayments(tuple(amounts)), self._clock())
        self._due(session)
        return tickets

    def _payable(self, channel: ChannelId) -> Session:
        session = self.session(channel)
        if self._stopped:
            raise EngineStopped("the node is stopping: this payment was not made")
        self.writer.require_running()
        return session

    # --- what peers say ------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes, wire: Wire) -> None:
        """A peer has said Hello on `wire`, which replaces any earlier one."""
        self.on_disconnected(peer)
        self._effects.forget_frames(peer)  # said while nobody was connected: what matters is repeated
        self._wires[peer] = wire
        self._effects.emit(PeerConnected(peer, True))
        for session in self.sessions_with(peer):
            process(session, LinkUp(), self._clock())
            self._due(session)
        self.opening.repeat(peer)
        for players in self.players:
            players.on_connected(peer)
        self.writer.wake()

    def on_disconnected(self, peer: bytes, wire: Wire | None = None) -> None:
        """A peer's wire is gone (only if it is still `wire`, when given)."""
        if peer not in self._wires or (wire is not None and self._wires[peer] is not wire):
            return
        del self._wires[peer]
        self._effects.forget_frames(peer)
        self._effects.emit(PeerConnected(peer, False))
        if self._custody is not None:
            self._custody.on_disconnected(self.sessions_with(peer))
        for session in self.sessions_with(peer):
            process(session, LinkDown(), self._clock())
            self._changed.add(session.channel.id)
        self.writer.wake()

    def is_connected(self, peer: bytes) -> bool:
        """Whether the peer is connected now."""
        return peer in self._wires

    def require_acks(self, peer: bytes, now: float, *, queued: bool) -> bool:
        """Raise InvalidUpdate if a connected peer holds back an acknowledgement for too long; else say if it owes one.

        Ask now and then, by one clock. `queued`: whether frames for the peer wait on our side.
        """
        tick = inputs.Tick((self._rounds, self._durable), queued)
        owes = False
        for session in self.sessions_with(peer):
            owes |= process(session, tick, now)
        return owes

    def receive(self, peer: bytes, message: messages.Message, frame: bytes) -> bool:
        """Take in a connected peer's message (`frame` is its bytes); raise PeerError, with no channel harmed.

        Return whether it was for a channel with that peer: any other is work that nobody pays for.
        """
        identity = messages.channel_of(message)
        if isinstance(message, messages.Error):
            self.emit(PeerNotice(peer, message.channel, message.code, plain(message.text), False))
            self._on_error(peer, ChannelId(message.channel), message)
        elif isinstance(message, messages.OpeningMessage):
            self.opening.on_message(peer, message)
        elif identity is None:
            for players in self.players:
                if isinstance(message, players.messages):
                    return players.on_message(peer, message)
            raise InvalidUpdate(f"{type(message).__name__} makes no sense now", Fault.UNKNOWN_MESSAGE)
        else:
            session = self.sessions.get(identity)
            if session is None or session.channel.peer_key != peer:
                domain = domain_separator(self.chain_id, self.contract)
                self.send(peer, resync.answer_unknown(identity, message, self.key.public, domain))
                return False
            if self._custody is None or not self._custody.defers(session, message, frame):
                self.admit(identity, message, frame)
            return True
        return False

    def admit(self, channel: ChannelId, message: messages.Message, frame: bytes) -> None:
        """Let a channel take in a message of its peer's; raise PeerError, with no channel harmed."""
        session = self.session(channel)
        self._due(session)
        process(session, PeerMessage(message, frame), self._clock())

    def _on_error(self, peer: bytes, identity: ChannelId, message: messages.Error) -> None:
        self.opening.on_error(peer, message)
        session = self.sessions.get(identity)
        if message.code == Fault.UNKNOWN_CHANNEL and session is not None and session.channel.peer_key == peer:
            self._changed.add(identity)
            process(session, LinkDown(), self._clock())  # it may learn of the channel yet, and greet us then
        elif message.code in LATER and session is not None and session.channel.peer_key == peer:
            process(session, inputs.PeerExcused(), self._clock())

    def send(self, peer: bytes, message: messages.Message) -> None:
        """Send to a peer, after the next commit."""
        self._effects.send(peer, message)
        self.writer.wake()

    def then(self, act: Callable[[], None]) -> None:
        """Do something after the next commit, before events are told."""
        self._effects.acts.append(act)

    def emit(self, event: Event) -> None:
        """Tell an event, after the next commit."""
        self._effects.emit(event)
        self.writer.wake()

    # --- what the chain says -------------------------------------------------------------------------------------

    def on_chain_moved(self, chain: ChainTime) -> None:
        """The chain has moved: let its time pass in every channel in which something waits for that."""
        self.chain = chain
        moved, now = inputs.ChainMoved(chain), self._clock()
        for session in self.sessions.values():
            if process(session, moved, now):
                self._due(session)
        if self._keeper is not None:
            self.store(self._keeper.on_chain_moved())
        for players in self.players:
            players.on_chain_moved()

    @property
    def has_effects(self) -> bool:
        """Whether anything waits for the next round to be stored, or to be said."""
        return bool(self._effects)

    # --- the round -----------------------------------------------------------------------------------------------

    def prepare(self) -> Round:
        """Sign what is due, and return everything that has gathered, with what follows once it is durable."""
        due = Round()
        if not self._dirty and not self._effects:
            return due
        now, sign = self._clock(), inputs.SignDue()
        dirty, self._dirty = self._dirty, {}
        self._changed.update(dirty, (channel.id for channel in self._effects.saved_channels))
        updates = payments = 0
        for session in dirty.values():
            before = session.channel.newest
            process(session, sign, now)
            self._backpressure.look(session)
            updates += session.channel.newest.proof.seq - before.proof.seq
            payments += session.channel.newest.next_payment - before.next_payment
        for players in self.players:
            players.on_round(dirty)
        if self._custody is not None:
            self._custody.on_round(dirty.values())
        if updates:
            due.rest = rest_after(self._clock() - now, updates, payments)
        if self._effects:
            self._rounds += 1
            effects = self._effects.take()
            wires = {peer: self._wires.get(peer) for peer, _ in effects.frames}
            due.moments = effects.all_moments()
            due.thens.append(lambda: self._deliver(effects, wires))
        return due

    def _deliver(self, effects: Effects, wires: dict[bytes, Wire | None]) -> None:
        """Let the consequences of a durable round out: frames on the links they were meant for, events, receipts."""
        self._durable += 1
        frames: dict[bytes, list[bytes]] = {}
        for peer, frame in effects.frames:
            frames.setdefault(peer, []).append(frame)
        for peer, meant in wires.items():
            if meant is not None and meant is self._wires.get(peer):
                meant.put_all(frames[peer])
        now = self._clock()
        for tickets, seq in effects.resolved:
            secured = (seq, now)
            for ticket in tickets:
                ticket.resolve(secured)
        for act in effects.acts:
            act()
        for channel in effects.saved_channels:
            self._saved(channel)
        for event in effects.events:
            self._tell(event)

    def stop(self) -> None:
        """End what waits unsigned: the node is going down. What was signed is resumed at the next start."""
        self._stopped = True
        for session in self.sessions.values():
            session.locks.keeper = None  # it will look at every pending lock when the node starts again
        for session in self.sessions.values():
            process(session, inputs.Stop(), self._clock())
        self._backpressure.end()

    def statistics(self) -> EngineStatistics:
        """Counters and queue lengths."""
        return statistics_of(self.sessions.values(), len(self._wires), self._rounds, self.writer.store.commits)
