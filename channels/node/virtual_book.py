"""The virtual channels that a node holds: what is kept of each, where its locks are, and how ours are sent.

Ours go over hubs that the router finds, or over those that were agreed on. One that comes back is sent another way as
long as there is one, but never while a peer may still hold us to the one before. Part of `Virtuals`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.virtual_locks import HeldLock, locks_of
from tallystick.channels.node.virtual_port import EnginePort
from tallystick.channels.node.virtual_store import (
    VirtualForgotten,
    VirtualHolding,
    VirtualPhase,
    VirtualSaved,
    load_virtuals,
)
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.virtual import VIRTUAL, WAYS_MOST, WayIn, conditions_of
from tallystick.channels.session.effects import ChannelChanged
from tallystick.channels.session.expected import LockSender, LockWanted
from tallystick.channels.session.inputs import ForceClose, PhaseReached


class VirtualBook:
    """See the module's docstring."""

    def __init__(self, engine: EnginePort, hubs: LockSender, changed: Callable[[], None]) -> None:
        self.engine = engine
        self.hubs = hubs
        self._changed = changed
        self.held = {holding.id: holding for holding in load_virtuals(engine.writer.store, over=False)}
        self.since: dict[ChannelId, int] = {}
        """Chain time at which each began to open."""
        self.queued: set[tuple[ChannelId, int]] = set()
        """Locks of ours that wait to be signed: of which channel, and under which of its conditions."""

    def channel(self, holding: VirtualHolding) -> Channel:
        """Return the channel itself, which is there once both have agreed."""
        return self.engine.sessions[holding.id].channel

    def locks(self, holding: VirtualHolding, *, ours: bool) -> list[HeldLock]:
        """Return its pending locks, ours or the peers'."""
        return list(locks_of(self.engine.sessions, holding, ours=ours))

    def is_unused(self, holding: VirtualHolding) -> bool:
        """Whether nothing was signed in it."""
        session = self.engine.sessions.get(holding.id)
        quiet = session is None or session.channel.newest.proof.seq == session.channel.theirs.seq == 0
        return quiet and holding.signed is None

    def save(self, holding: VirtualHolding) -> None:
        """Write what is known of it now, in the commit of this step."""
        if holding.phase is VirtualPhase.OVER:
            self.held.pop(holding.id, None)
            self.since.pop(holding.id, None)
        else:
            self.held[holding.id] = holding
        if holding.phase in (VirtualPhase.ENDING, VirtualPhase.CANCELLED, VirtualPhase.OVER):
            for place in (holding.side, 2 + holding.side):
                self.hubs.forget(conditions_of(holding.id)[place])  # what comes back now says nothing of its way
        self.engine.store([VirtualSaved(holding)])
        self.engine.then(self._changed)
        session = self.engine.sessions.get(holding.id)
        self.engine.emit(ChannelChanged(holding.id, Phase.GONE if session is None else session.channel.phase))

    def freeze(self, holding: VirtualHolding) -> None:
        """Sign no balance in it any more."""
        if self.channel(holding).phase in (Phase.OPEN, Phase.FROZEN):
            self.engine.apply(holding.id, ForceClose())

    def finish(self, holding: VirtualHolding) -> None:
        """Nothing of it is open any more, or the chain has decided all of it.

        What a peer asked for and nothing was signed in is forgotten: else asking and taking back would fill our disk.
        """
        session = self.engine.sessions.get(holding.id)
        if session is not None and session.channel.phase is not Phase.GONE:
            self.freeze(holding)
            self.engine.apply(holding.id, PhaseReached(Phase.GONE))
        self.save(msgspec.structs.replace(holding, phase=VirtualPhase.OVER))
        if not holding.asked and self.is_unused(holding):
            self.engine.store([VirtualForgotten(holding.id)])
            if session is not None:
                self.engine.forget_channel(holding.id)

    # --- our locks ---------------------------------------------------------------------------------------------------

    def wanted(self, holding: VirtualHolding, place: int, amount: int) -> LockWanted:
        """Return a lock of ours under one of its conditions, as it is to arrive at the other player."""
        return LockWanted(
            target=holding.peer,
            asset=holding.terms.asset,
            amount=amount,
            expiry=holding.terms.expiry,
            kind=VIRTUAL,
            condition=conditions_of(holding.id)[place],
            word=holding.id,
            over=holding.over,
            ways=holding.ways,
            indirect=True,
        )

    def lock(self, holding: VirtualHolding, place: int, amount: int) -> str:
        """See that a lock of ours is on its way, if there is anything to lock; return why it can never be sent."""
        name = holding.id, place
        if not amount or name in self.queued or any(held.place == place for held in self.locks(holding, ours=True)):
            return ""
        try:
            self.hubs.send(self.wanted(holding, place, amount))
        except ChannelNotReady:  # a hub is away: later
            return ""
        except InvalidInput as error:
            return str(error)
        self.queued.add(name)
        return ""

    def on_round(self, holding: VirtualHolding) -> None:
        """What was due is signed: see which of our locks wait no more."""
        if any(name == holding.id for name, _ in self.queued):
            for held in self.locks(holding, ours=True):
                self.queued.discard((holding.id, held.place))

    def is_waiting(self, holding: VirtualHolding) -> bool:
        """Whether a lock of ours waits to be signed."""
        return any(name == holding.id for name, _ in self.queued)

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours was given up unsigned."""
        self.queued = {name for name in self.queued if conditions_of(name[0])[name[1]] != lock.condition}

    def ways_in(self, asset: bytes, amount: int, hub: bytes | None) -> tuple[WayIn, ...]:
        """Return channels over which a lock of `amount` may come to us, the best first; `hub`: only with that peer."""
        found: list[tuple[bool, int, WayIn]] = []
        for session in self.engine.sessions.values():
            channel = session.channel
            fits = channel.terms.asset == asset and not channel.is_virtual and hub in (None, channel.peer_key)
            inbound = channel.balances()[channel.peer_side] - channel.theirs.simplex.proof.locked
            if fits and session.payable and amount and inbound - channel.coming_reserve >= amount:
                found.append((session.link.ready, inbound, WayIn(channel.peer_key, channel.id)))
        best = sorted(found, key=lambda each: (not each[0], -each[1], each[2].channel))
        return tuple(way for *_, way in best[:WAYS_MOST])
