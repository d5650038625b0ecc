"""Where the stakes of the apps that a node plays are: pending locks, found by their conditions in whatever channel.

A player's stake may lie in a channel between the two, or come over hubs: its condition, amount and expiry are the same.
Which channels hold one is looked up in the channels, and remembered only as where to look. Sans-IO, part of `apps`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol, TypeAlias

from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.limits import Policy
from tallystick.channels.node.app_store import PlayedApp
from tallystick.channels.node.views import Sessions
from tallystick.channels.protocol.apps import APP, stake_word
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.session.expected import ExpectedLocks, LockSender, LockWanted
from tallystick.channels.session.inputs import Asks, SubmitLock
from tallystick.channels.session.session import Session


class StakesPort(Protocol):
    """What is asked of the engine."""

    sessions: Sessions
    expected: ExpectedLocks
    policy: Policy

    def apply(self, channel: ChannelId, command: Asks[object]) -> object:
        """Let something happen to a channel."""


class Stake(NamedTuple):
    """A pending lock that is a player's stake."""

    channel: Channel
    lock: Lock
    signed: bool
    """By both sides."""


Found: TypeAlias = dict[bytes, list[Lock]]
"""Pending stakes by their conditions."""


class StakePlaces:
    """See the module's docstring."""

    def __init__(self, engine: StakesPort) -> None:
        self._engine = engine
        self._where: dict[bytes, set[ChannelId]] = {}
        """By condition of a stake: the channels in which it was seen."""
        self._sorted: dict[ChannelId, tuple[Channel, tuple[Found, Found]]] = {}
        """The stakes in a channel, as it was when it was last looked at: hundreds are asked for one by one."""
        self._hubs: LockSender | None = None

    def watch(self, held: AppInstance) -> None:
        """Look for the stakes of an instance from now on."""
        if self._hubs is not None and (held.agreed is not None or held.phase is AppPhase.ENDED):
            self._hubs.forget(
                held.stake(held.player)
            )  # it got there, or is not sent again: its end says nothing of ways
        conditions = {held.stake(player) for player in (0, 1)}
        if conditions - self._where.keys():
            self._where |= {each: set() for each in conditions - self._where.keys()}
            self.look(self._engine.sessions)

    def unwatch(self, held: AppInstance) -> None:
        """Nothing of an instance is pending any more."""
        for player in (0, 1):
            self._where.pop(held.stake(player), None)
        if self._hubs is not None:
            self._hubs.forget(held.stake(held.player))

    def look(self, channels: Collection[ChannelId]) -> set[bytes]:
        """See what has come to these channels; return the conditions of all stakes that are, or were, in them."""
        for channel in channels:
            session = self._engine.sessions.get(channel)
            for lock in () if session is None else _locks(session):
                if lock.kind == APP and lock.condition in self._where:
                    self._where[lock.condition].add(channel)
        return {condition for condition, places in self._where.items() if not places.isdisjoint(channels)}

    def of(self, held: AppInstance, player: int) -> Iterator[Stake]:
        """Yield the pending locks that are a player's stake: of ours in any state that the peer may enforce.

        What we gave back is none: it has the condition, but not what was agreed on.
        """
        condition, ours = held.stake(player), player == held.player
        for place in sorted(self._where.get(condition, ())):
            channel = self._engine.sessions[place].channel
            if channel.phase is Phase.GONE:
                continue
            for lock in self._stakes_in(channel)[ours].get(condition, ()):
                signed = lock in channel.ours.simplex.locks if ours else bool(channel.theirs.countersignature)
                yield Stake(channel, lock, signed)

    def _stakes_in(self, channel: Channel) -> tuple[Found, Found]:
        """Return the pending stakes in a channel by condition: the peer's, then ours."""
        known = self._sorted.get(channel.id)
        if known is None or known[0] is not channel:
            known = self._sorted[channel.id] = (channel, _sorted(channel))
        return known[1]

    def is_other(self, held: AppInstance, player: int, channel: ChannelId, lock: Lock) -> bool:
        """Whether a player's stake is pending by another lock than this one."""
        return any((stake.channel.id, stake.lock.id) != (channel, lock.id) for stake in self.of(held, player))

    # --- ours ----------------------------------------------------------------------------------------------------

    def use_hubs(self, sender: LockSender) -> None:
        """Let somebody send stakes over hubs, from now on."""
        self._hubs = sender

    def require_place(self, played: PlayedApp) -> None:
        """Raise InvalidInput unless our stake could be locked now: in its channel, or over hubs."""
        terms, player = played.held.terms, played.held.player
        kinds, stake = self._engine.policy.kinds, terms.stakes[player]
        if kinds is not None and APP not in kinds:
            raise InvalidInput("no court stands on this chain, or this node takes no stakes: see docs/apps.md")
        if not played.channel:
            if stake:
                self._over_hubs().check(wanted_of(played.held, played.peer))
            return
        session = self._engine.sessions[played.channel]
        session.require_payable()
        if not stake:
            return
        if session.channel.terms.asset != terms.assets[player]:
            raise InvalidInput("the channel is in another asset than our stake")
        if session.lock_slots < 1:
            raise ChannelNotReady("too many locks are pending in this channel: wait until some are resolved")
        if stake > session.spendable:
            raise InvalidInput(f"our stake of {stake} does not fit: this channel can send {session.spendable} now")

    def send(self, played: PlayedApp) -> None:
        """Lock our stake in its channel, or send it over hubs.

        Raise ChannelNotReady if it may be possible later, InvalidInput if not; nothing was done then.
        """
        held = played.held
        if not played.channel:
            self._over_hubs().send(wanted_of(held, played.peer))
            return
        amount, condition = held.terms.stakes[held.player], held.stake(held.player)
        lock = SubmitLock(amount=amount, expiry=held.terms.expiry, condition=condition, kind=APP)
        self._engine.apply(played.channel, lock)

    def _over_hubs(self) -> LockSender:
        if self._hubs is None:
            raise InvalidInput("this node sends no stakes over hubs: name a channel")
        return self._hubs


def wanted_of(held: AppInstance, peer: bytes) -> LockWanted:
    """Return our stake as a lock that is to arrive at the other player, over hubs."""
    terms, player = held.terms, held.player
    return LockWanted(
        target=peer,
        asset=terms.assets[player],
        amount=terms.stakes[player],
        expiry=terms.expiry,
        kind=APP,
        condition=held.stake(player),
        word=stake_word(held.instance),
    )


def _sorted(channel: Channel) -> tuple[Found, Found]:
    given_back = {rejection.lock for rejection in channel.rejections}
    theirs, ours = dict[bytes, list[Lock]](), dict[bytes, dict[int, Lock]]()
    for lock in channel.theirs.simplex.locks:
        if lock.kind == APP and lock.id not in given_back:
            theirs.setdefault(lock.condition, []).append(lock)
    for state in (channel.ours, *channel.flight):
        for lock in state.simplex.locks:
            if lock.kind == APP:
                ours.setdefault(lock.condition, {})[lock.id] = lock
    return theirs, {condition: list(found.values()) for condition, found in ours.items()}


def _locks(session: Session) -> Iterator[Lock]:
    channel = session.channel
    for state in (channel.ours, *channel.flight, channel.theirs):
        yield from state.simplex.locks
