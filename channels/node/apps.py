"""The apps that a node plays: the machine of each instance, fed by its owner, its channels, its peers and its chain.

Part of an `Engine`. What follows of an input goes into the round: the instance's row, what is sent, and what is told
are of one commit, in this order, and of the same one as what happened to channels in that step. Where stakes are is
looked up in the channels after each round's signing, and remembered nowhere else:

    ours      queued once both have agreed; the instance says that it is locked in the commit that signs the lock
    theirs    rejected at once unless it is what the terms say of an instance that is expected
    locked    ours by the peer's acknowledgement, theirs by our countersignature
    ended     of theirs we claim what the outcome gives us, by its proof, or give all of it back

`held` is what is durable: what enforcement may build on. An instance leaves memory once it has ended and no lock of it
is pending; a late word about it is answered out of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Protocol

import msgspec

from tallystick.channels.apps import machine
from tallystick.channels.apps.inputs import (
    Agree,
    AppEnv,
    AppInput,
    AppStep,
    LinkBack,
    StakeLocked,
    StakeQueued,
    StakeReturned,
    Withdraw,
)
from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.errors import ChannelNotReady, Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.node.app_saving import AppSaving, SavingPort
from tallystick.channels.node.app_stakes import StakePlaces, StakesPort
from tallystick.channels.node.app_store import PlayedApp, count_apps, find_app, load_apps
from tallystick.channels.protocol import answers
from tallystick.channels.protocol.app_messages import AppAnswer, AppMessage, AppOffer, AppProposal
from tallystick.channels.protocol.apps import APP, AppTerms, InstanceId, instance_id, stake_word
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.messages import Message
from tallystick.channels.protocol.objects import Address, ChannelId, Lock
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import AppChanged
from tallystick.channels.session.inputs import RejectLock, RevealSecret
from tallystick.channels.storage.writer import Writer

HEARD_MOST = 16
"""Proposals of one peer that wait for our owner's answer: further ones are refused."""
STRANGER_MOST = 2
"""The same, of a peer with whom there is no channel."""
STRANGERS_MOST = 32
"""Proposals of all such peers that wait: beyond, the oldest are forgotten."""
OVER_HUBS = ChannelId(b"")
"""Stands for a channel where our stake goes over hubs."""
BEGIN_MARGIN = 900
"""Seconds before the expiry within which no instance begins: so long it may take until the court has heard of it."""

_WAITING = (AppPhase.PROPOSED, AppPhase.AGREED, AppPhase.LOCKING)


class AppsPort(StakesPort, SavingPort, Protocol):
    """What is asked of the engine."""

    key: PrivateKey
    chain_id: int
    contract: Address
    chain: ChainTime
    writer: Writer
    players: list[Any]

    def send(self, peer: bytes, message: Message) -> None:
        """Send to a peer, after the next commit."""

    def has_business_with(self, peer: bytes) -> bool:
        """Whether any channel with that peer is not gone, or an app is played with it."""


class Apps:
    """See the module's docstring."""

    messages: ClassVar[Any] = AppMessage

    def __init__(self, engine: AppsPort, *, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each commit that changes what is held."""
        self._engine = engine
        self._played = {each.held.instance: each for each in load_apps(engine.writer.store, over=False)}
        self._saving = AppSaving(engine, self._played.values(), changed)
        self._heard: dict[InstanceId, PlayedApp] = {}
        self._queued: set[bytes] = set()
        """Conditions of our stakes whose locks wait unsigned."""
        self._nonce = -1
        self.stakes = StakePlaces(engine)
        for played in self._played.values():
            self.stakes.watch(played.held)
        engine.players.append(self)
        engine.expected.register(APP, self)

    def __repr__(self) -> str:
        return f"<Apps {len(self._played)} played, {len(self._heard)} proposed>"

    @property
    def held(self) -> list[AppInstance]:
        """All instances that are not over, as they are on disk."""
        return [each.held for each in self._saving.durable.values()]

    @property
    def playing(self) -> list[PlayedApp]:
        """All instances that are not over, as they are now."""
        return list(self._played.values())

    @property
    def next_nonce(self) -> int:
        """One that this player has used in no terms: chain time, and how many instances it had before.

        Those that are not on disk yet are not counted: what is asked for in one step gets rising ones.
        """
        counted = self._engine.chain.now << 24 | count_apps(self._engine.writer.store) & 0xFFFFFF
        self._nonce = max(counted, self._nonce + 1)
        return self._nonce

    def stakes_in(self, played: PlayedApp) -> list[Channel]:
        """Return the channels in which a stake of an instance is pending."""
        return [stake.channel for player in (0, 1) for stake in self.stakes.of(played.held, player)]

    def is_split(self, held: AppInstance) -> bool:
        """Whether the outcome of an instance gives us a part of a stake that came over a hub."""
        if held.outcome is None or not 0 < held.outcome.paid[held.other] < held.terms.stakes[held.other]:
            return False
        other = held.terms.players[held.other]
        return any(PublicKey(each.channel.peer_key).address != other for each in self.stakes.of(held, held.other))

    def plays_with(self, peer: bytes) -> bool:
        """Whether our owner plays with a peer: proposed or agreed to something that is not over."""
        return any(played.peer == peer for played in self._played.values())

    @property
    def partners(self) -> set[bytes]:
        """The public keys of those with whom something is played that is not over."""
        return {played.peer for played in self._played.values()}

    @property
    def heard(self) -> list[PlayedApp]:
        """What peers propose and nobody has answered."""
        return list(self._heard.values())

    def find(self, instance: InstanceId) -> PlayedApp | None:
        """Return an instance as it is now, over or not, None if there is none."""
        known = self._played.get(instance) or self._saving.leaving.get(instance)
        return known or find_app(self._engine.writer.store, instance)

    def is_stored(self, instance: InstanceId) -> bool:
        """Whether all that has happened to an instance so far is on disk."""
        return self._saving.durable.get(instance) == self._played.get(instance)

    def is_over(self, instance: InstanceId) -> bool:
        """Whether nothing of an instance is open any more."""
        return instance not in self._played and instance not in self._heard

    def history(self, after: bytes = b"", limit: int | None = None) -> list[PlayedApp]:
        """Return the instances that are over, in order of their ids: all, or `limit` of those behind the id `after`."""
        return load_apps(self._engine.writer.store, over=True, after=after, limit=limit)

    # --- what our own side asks --------------------------------------------------------------------------------------

    def propose(self, channel: ChannelId, terms: AppTerms, start: bytes, peer: bytes = b"") -> InstanceId:
        """Propose an instance to a channel's peer, our stake in that channel; raise InvalidInput if it cannot be.

        With an empty `channel`, propose it to `peer`, and send our stake over hubs.
        """
        if instance_id(terms) in self._played:
            raise InvalidInput("an instance with these very terms is played: take another nonce")
        if channel:
            peer = self._engine.sessions[channel].channel.peer_key
        self._check_who(terms, 0, peer)
        step = machine.propose(terms, start, self._env)
        self.stakes.require_place(PlayedApp(step.held, peer, channel))
        self._take(PlayedApp(step.held, peer, channel), step)
        return step.held.instance

    def agree(self, instance: InstanceId, channel: ChannelId) -> None:
        """Say yes to what a peer proposed, our stake in that channel (empty: over hubs); raise InvalidInput if it
        cannot be."""
        heard = self._heard.get(instance)
        if heard is None:
            raise InvalidInput("no such app is proposed: it was answered, or taken back, or its peer was restarted")
        self.stakes.require_place(msgspec.structs.replace(heard, channel=channel))
        step = machine.process(heard.held, Agree(), self._env)
        del self._heard[instance]
        self._take(msgspec.structs.replace(heard, channel=channel), step)

    def refuse(self, instance: InstanceId, text: str = "") -> None:
        """Say no to what a peer proposed; raise InvalidInput if nothing is."""
        heard = self._heard.pop(instance, None)
        if heard is None:
            raise InvalidInput("no such app is proposed")
        self._engine.send(heard.peer, AppAnswer(instance, False, text[: ERROR_TEXT_MAX // 4]))

    def apply(self, instance: InstanceId, happened: AppInput) -> AppInstance:
        """Let something happen to an instance, and return it; raise InvalidInput if there is none or it is refused."""
        played = self._played.get(instance)
        if played is None:
            raise InvalidInput(f"no app {instance.hex()[:16]} is played here: it is over, or there was none")
        step = machine.process(played.held, happened, self._env)
        self._take(played, step)
        now = self._played.get(instance)
        return step.held if now is None else now.held  # what is over at once has left memory

    @property
    def _env(self) -> AppEnv:
        return AppEnv(self._engine.key, self._engine.chain.now, BEGIN_MARGIN)

    def _check_who(self, terms: AppTerms, player: int, peer: bytes) -> None:
        if (terms.chain_id, terms.contract) != (self._engine.chain_id, self._engine.contract):
            raise InvalidInput("this is on another chain or contract than this node's")
        if terms.players[player] != self._engine.key.address or terms.players[1 - player] != PublicKey(peer).address:
            raise InvalidInput("an app is played by the two that speak here, player 0 proposes it")

    # --- what peers say ----------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes) -> None:
        """Say again what a peer may not have."""
        self._heard = {name: heard for name, heard in self._heard.items() if heard.peer != peer}  # it says them again
        for played in [each for each in self._played.values() if each.peer == peer]:
            self._take(played, machine.process(played.held, LinkBack(), self._env))

    def on_message(self, peer: bytes, message: AppMessage) -> bool:
        """Take in what a peer says; raise PeerError. Return whether it was about something that is played with it."""
        instance = instance_id(message.terms) if isinstance(message, AppProposal) else InstanceId(message.instance)
        played = self._played.get(instance)
        if played is not None:
            if played.peer != peer:
                raise InvalidUpdate("this app is played with somebody else", Fault.REFUSED)
            self._take(played, machine.process(played.held, message, self._env))
            return True
        if isinstance(message, AppProposal):
            self._hear(peer, instance, message)
        elif isinstance(message, AppAnswer) and not message.agrees:
            self._taken_back(peer, instance)
        else:
            self._engine.send(peer, self._late(peer, instance))
        return False

    def _hear(self, peer: bytes, instance: InstanceId, proposal: AppProposal) -> None:
        """Take a proposal. The answer to one that makes no sense names it, and tells nothing else that came with it."""
        waiting = sum(heard.peer == peer for heard in self._heard.values())
        try:
            if self.find(instance) is not None:
                raise InvalidInput("this app was played already")
            if waiting >= (HEARD_MOST if self._engine.has_business_with(peer) else STRANGER_MOST):
                raise InvalidInput("too many of your proposals wait for an answer")
            self._check_who(proposal.terms, 1, peer)
            held = machine.hear(proposal, self._env)
        except InvalidInput as error:
            self._engine.send(peer, AppAnswer(instance, False, str(error)[: ERROR_TEXT_MAX // 4]))
            return
        self._heard[instance] = PlayedApp(held, peer, OVER_HUBS)
        self._engine.emit(AppChanged(instance, held.phase, True))
        strangers = [name for name, each in self._heard.items() if not self._engine.has_business_with(each.peer)]
        for name in strangers[: max(0, len(strangers) - STRANGERS_MOST)]:
            self._taken_back(self._heard[name].peer, name)  # it says it again once it connects again

    def _taken_back(self, peer: bytes, instance: InstanceId) -> None:
        heard = self._heard.get(instance)
        if heard is not None and heard.peer == peer:
            del self._heard[instance]
            self._engine.emit(AppChanged(instance, AppPhase.ENDED))

    def _late(self, peer: bytes, instance: InstanceId) -> AppMessage:
        """Return what to answer about an instance that is over, or was never here."""
        known = find_app(self._engine.writer.store, instance)
        if known is None or known.peer != peer or known.held.outcome is None:
            return AppAnswer(instance, False, "this node plays no such app")
        outcome = known.held.outcome
        return AppOffer(instance, outcome.paid, outcome.signatures[known.held.player])

    # --- stakes ------------------------------------------------------------------------------------------------------

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """Return why a peer's new lock is no stake that we expect, None if it is one."""
        for played in self._played.values():
            held = played.held
            if lock.condition != held.stake(held.other):
                continue
            fits = (lock.amount, lock.expiry, channel.terms.asset) == (
                held.terms.stakes[held.other],
                held.terms.expiry,
                held.terms.assets[held.other],
            )
            known = channel.peer_key == played.peer if word is None else word == stake_word(held.instance)
            self.stakes.look([channel.id])
            twice = self.stakes.is_other(held, held.other, channel.id, lock)
            if not fits or not known or twice or held.phase not in _WAITING or self._env.late(held.terms):
                return "this is not the stake that was agreed on, or it comes too late"
            return None
        return "no app with such a stake is expected here"

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours was given up unsigned."""
        self._queued.discard(lock.condition)

    def on_round(self, channels: Collection[ChannelId]) -> None:
        """These channels have signed what was due: see where stakes are now, in the same commit. It ends a round."""
        if channels and self._played:
            self._look_in(channels)
        self._saving.end_round()

    def _look_in(self, channels: Collection[ChannelId]) -> None:
        peers = {self._engine.sessions[each].channel.peer_key for each in channels if each in self._engine.sessions}
        touched = self.stakes.look(channels)
        for played in list(self._played.values()):
            conditions = {played.held.stake(player) for player in (0, 1)}
            if played.peer in peers or not conditions.isdisjoint(touched):
                self._look(played.held.instance)

    def on_chain_moved(self) -> None:
        """Time has passed: what cannot begin any more is taken back."""
        for played in list(self._played.values()):
            if played.held.phase in _WAITING and self._env.late(played.held.terms):
                self.apply(played.held.instance, Withdraw("it is too late to begin"))
            elif played.held.instance in self._played:
                self._look(played.held.instance)
        late = [name for name, heard in self._heard.items() if self._env.late(heard.held.terms)]
        for instance in late:
            del self._heard[instance]

    def _look(self, instance: InstanceId) -> None:
        """Bring an instance up to date with its channels."""
        played = self._played[instance]
        ours, condition = list(self.stakes.of(played.held, played.held.player)), played.held.stake(played.held.player)
        if ours:
            self._queued.discard(condition)
            if played.held.phase is AppPhase.AGREED:
                self._try(instance, StakeQueued())
        elif played.held.phase is AppPhase.AGREED:
            self._lock(played)
        elif played.held.has_stake and condition not in self._queued:
            self._came_back(played)
        for player in (0, 1):
            held = self._played[instance].held
            there = any(stake.signed for stake in self.stakes.of(held, player))
            if held.phase in _WAITING and there != held.locked[player]:
                self._try(instance, StakeLocked(player, there))
        if self._played[instance].held.phase is AppPhase.ENDED:
            self._settle(self._played[instance])

    def _try(self, instance: InstanceId, happened: AppInput) -> None:
        """Let a stake's news in; if it comes too late, take the instance back."""
        try:
            self.apply(instance, happened)
        except InvalidInput as error:
            self.apply(instance, Withdraw(str(error)))

    def _lock(self, played: PlayedApp) -> None:
        """Lock our stake, if we have one. A refusal is one only if it says that this will never do."""
        held = played.held
        stake, condition = held.terms.stakes[held.player], held.stake(held.player)
        if not stake:
            self._try(held.instance, StakeQueued())
            return
        if condition in self._queued or self._env.late(held.terms):
            return
        self._queued.add(condition)
        try:
            self.stakes.send(played)
        except ChannelNotReady:
            self._queued.discard(condition)
            open_yet = (Phase.OPEN, Phase.FROZEN)
            if not played.channel or self._engine.sessions[played.channel].channel.phase in open_yet:
                return  # it may be ready later
            self.apply(held.instance, Withdraw("the channel of our stake is closing"))
        except InvalidInput as error:
            self._queued.discard(condition)
            self.apply(held.instance, StakeReturned(str(error)))

    def _came_back(self, played: PlayedApp) -> None:
        """Our stake is locked no more, and nothing was paid: send it another way, or take the instance back."""
        held = played.held
        if held.agreed is not None or held.phase not in (AppPhase.LOCKING, AppPhase.PLAYING):
            return
        if played.channel or self._env.late(held.terms):
            self.apply(held.instance, StakeReturned("our stake was given back"))
        else:
            self._lock(played)

    def _settle(self, played: PlayedApp) -> None:
        """Claim what the outcome gives us of the other's stake, or give that back; forget it once nothing is open."""
        held = played.held
        for stake in list(self.stakes.of(held, held.other)):
            channel = stake.channel
            if answers.is_answered(channel, stake.lock.id):
                continue
            if held.outcome is not None and held.outcome.paid[held.other]:
                self._engine.apply(channel.id, RevealSecret(stake.lock.id, held.outcome.encode()))
            elif held.paid is not None and not held.paid[held.other]:
                self._engine.apply(channel.id, RejectLock(stake.lock.id, b"the app gives nothing of it"))
        open_stakes = [*self.stakes.of(held, 0), *self.stakes.of(held, 1)]
        if not open_stakes and held.stake(held.player) not in self._queued:
            self._save(played, over=True)

    # --- what follows ------------------------------------------------------------------------------------------------

    def _take(self, played: PlayedApp, step: AppStep) -> None:
        """Store, then send, then tell."""
        before = self._played.get(step.held.instance)
        for message in step.messages:
            self._engine.send(played.peer, message)
        if before is not None and before.held == step.held:
            return
        self._save(msgspec.structs.replace(played, held=step.held))
        if step.held.phase is AppPhase.ENDED:
            self._settle(self._played[step.held.instance])
        elif step.held.phase is AppPhase.AGREED:
            self._look(step.held.instance)

    def _save(self, played: PlayedApp, *, over: bool = False) -> None:
        instance = played.held.instance
        if over:
            self._played.pop(instance, None)
            self.stakes.unwatch(played.held)
        else:
            self._played[instance] = played
            self.stakes.watch(played.held)
        self._saving.save(played, over=over)
