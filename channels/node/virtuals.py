"""The virtual channels of a node: how one opens and ends between two players, over a hub (docs/virtual.md).

Part of an `Engine`. Between its opening and its end a virtual channel is a session like any other. Here is what stands
around it: what the players say to each other, their locks in the channels with the hub, and the outcome. Where locks
are is looked up after each round's signing; what was signed is stored in the commit of its signature:

    LOCKING   our stake is sent; once the other's is here, countersigned, the channel opens
    OPEN      both want it to end, and have stopped: who owes sends a settlement, who is owed signs the outcome first
    ENDING    both signed: what pays us is claimed by the outcome, everything else of the other's is given back
    CANCELLED nothing was signed in it: the other's stake is given back

Who is owed nothing, or all of a stake, needs no settlement: then side 0, or who owes, signs first. Where a settlement
cannot be sent or came back, who owes signs an outcome that pays a part of its stake, and the court is shown that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

import msgspec

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.node.virtual_locks import HeldLock, forms, is_expected, is_here, locks_of
from tallystick.channels.node.virtual_port import EnginePort
from tallystick.channels.node.virtual_store import (
    VirtualHolding,
    VirtualLockSigned,
    VirtualPhase,
    VirtualSaved,
    count_virtuals,
    find_virtual,
    load_virtual_locks,
    load_virtuals,
)
from tallystick.channels.protocol import answers, offers
from tallystick.channels.protocol.core import Channel, Phase, new_virtual_channel
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import ZERO32, Address, ChannelId, Lock
from tallystick.channels.protocol.virtual import (
    VIRTUAL,
    Amounts,
    EndingProof,
    VirtualTerms,
    conditions_of,
    digest_outcome,
    virtual_id,
)
from tallystick.channels.protocol.virtual_messages import VirtualAnswer, VirtualEnding, VirtualMessage, VirtualProposal
from tallystick.channels.session.effects import ChannelChanged
from tallystick.channels.session.inputs import (
    ForceClose,
    FundingConfirmed,
    PhaseReached,
    RejectLock,
    RequestClose,
    RevealSecret,
)
from tallystick.channels.session.negotiation import has_ended
from tallystick.channels.session.standing import is_payable
from tallystick.channels.storage.store import Moment

OPEN_MARGIN = 7_200
"""Seconds that the terms must leave for the channel's use when it is agreed on."""
END_BEFORE = 3_600
"""Seconds before the expiry at which a node ends it by itself: nothing is paid from then on."""
COURT_BEFORE = 900
"""Seconds before the expiry at which it signs nothing any more, and goes to court if that brings it something."""
LOCKING_MOST = 600
"""Seconds of chain time that stakes may take to be locked."""

SendStake = Callable[[VirtualHolding, int, int, Moment], None]
"""Sends a lock under the condition of that index, of that amount, to the other player: raises as `SubmitLock` does."""
Accepts = Callable[[VirtualTerms, PublicKey], str]
"""Says why a peer's proposal is not agreed to; empty: it is."""


class Virtuals:
    """See the module's docstring."""

    messages: ClassVar[Any] = VirtualMessage

    def __init__(
        self, engine: EnginePort, send_stake: SendStake, accepts: Accepts, changed: Callable[[], None] = lambda: None
    ) -> None:
        """`changed` is called after each commit that changes what is held."""
        self._engine, self._send_stake, self._accepts, self._changed = engine, send_stake, accepts, changed
        self._held = {holding.id: holding for holding in load_virtuals(engine.writer.store, over=False)}
        self._locked = load_virtual_locks(engine.writer.store)
        self._queued: set[tuple[ChannelId, int]] = set()
        self._since: dict[ChannelId, int] = {}
        self._told: set[ChannelId] = set()
        engine.players.append(self)
        engine.expected.register(VIRTUAL, self)

    def __repr__(self) -> str:
        return f"<Virtuals {len(self._held)}>"

    @property
    def held(self) -> list[VirtualHolding]:
        """All that are not over."""
        return list(self._held.values())

    @property
    def next_nonce(self) -> int:
        """One that this player has used in no terms: chain time, and how many it had before."""
        return self._engine.chain.now << 24 | count_virtuals(self._engine.writer.store) & 0xFFFFFF

    def find(self, channel: ChannelId) -> VirtualHolding | None:
        """Return one, over or not; None if there is none."""
        return self._held.get(channel) or find_virtual(self._engine.writer.store, channel)

    # --- opening -----------------------------------------------------------------------------------------------------

    def propose(self, terms: VirtualTerms, peer: PublicKey, way: ChannelId) -> ChannelId:
        """Ask a peer for a virtual channel over whoever is behind our channel `way`; raise InvalidInput."""
        side = terms.side_of(self._engine.key.address)
        self._check(terms, side, bytes(peer), way)
        hub = self._engine.sessions[way].peer.address
        holding = VirtualHolding(terms, side, bytes(peer), hub, way, ChannelId(b""), VirtualPhase.PROPOSED)
        if holding.id in self._held:
            raise InvalidInput("a virtual channel with these very terms is known: take another nonce")
        self._save(holding)
        self._engine.send(holding.peer, VirtualProposal(terms, hub, way))
        return holding.id

    def cancel(self, channel: ChannelId, text: str) -> None:
        """Take back what did not open yet."""
        holding = self._held.get(channel)
        if holding is not None and holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
            self._engine.send(holding.peer, VirtualAnswer(channel, False, ZERO32, text[: ERROR_TEXT_MAX // 4]))
            self._cancelled(holding, text)

    def _check(self, terms: VirtualTerms, side: int, peer: bytes, way: ChannelId) -> None:
        if (terms.chain_id, terms.contract) != (self._engine.chain_id, self._engine.contract):
            raise InvalidInput("this is on another chain or contract than this node's")
        if terms.players[1 - side] != PublicKey(peer).address:
            raise InvalidInput("a virtual channel is between the two that speak here")
        if terms.expiry < self._engine.chain.now + OPEN_MARGIN:
            raise InvalidInput(f"a virtual channel lasts at least {OPEN_MARGIN} s: nothing is paid in its last hour")
        session = self._engine.sessions[way]
        session.require_payable()
        if session.policy.kinds is not None and VIRTUAL not in session.policy.kinds:
            raise InvalidInput("this chain has no court for virtual channels: see docs/virtual.md")
        if session.peer.address in terms.players:
            raise InvalidInput("the hub is a player itself: what the two have is a channel already")
        if session.channel.is_virtual or session.channel.terms.asset != terms.asset:
            raise InvalidInput("the channel with the hub is in another asset, or itself virtual")
        if terms.stakes[side] > session.spendable:
            raise InvalidInput(f"our stake of {terms.stakes[side]} does not fit: {session.spendable} can be sent now")

    def _hear(self, peer: bytes, proposal: VirtualProposal) -> None:
        terms, channel = proposal.terms, virtual_id(proposal.terms)
        try:
            side = terms.side_of(self._engine.key.address)
            way = self._way_to(proposal.hub, terms, side)
            self._check(terms, side, peer, way)
            if self.find(channel) is not None:
                raise InvalidInput("this virtual channel was there already")
            if refusal := self._accepts(terms, PublicKey(peer)):
                raise InvalidInput(refusal)
        except (InvalidInput, ChannelNotReady) as error:
            self._engine.send(peer, VirtualAnswer(channel, False, ZERO32, str(error)[: ERROR_TEXT_MAX // 4]))
            return
        their_way = ChannelId(proposal.way)
        self._begin(VirtualHolding(terms, side, peer, proposal.hub, way, their_way, VirtualPhase.LOCKING))
        self._engine.send(peer, VirtualAnswer(channel, True, way))

    def _way_to(self, hub: Address, terms: VirtualTerms, side: int) -> ChannelId:
        for session in self._engine.sessions.values():
            channel = session.channel
            fits = session.peer.address == hub and channel.terms.asset == terms.asset and not channel.is_virtual
            if fits and session.payable and session.spendable >= terms.stakes[side]:
                return channel.id
        raise InvalidInput("no channel with that hub has room for our stake")

    def _begin(self, holding: VirtualHolding) -> None:
        """Both agreed: the channel is known from now on, and our stake is sent."""
        self._engine.add_channel(new_virtual_channel(holding.terms, holding.side, holding.peer))
        self._save(holding)
        self._since[holding.id] = self._engine.chain.now
        self._look(holding)

    # --- what peers say ----------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes) -> None:
        """Say again what a peer may not have."""
        self._told.clear()
        for holding in [each for each in self._held.values() if each.peer == peer]:
            if holding.phase is VirtualPhase.PROPOSED:
                self._engine.send(peer, VirtualProposal(holding.terms, holding.hub, holding.way))
            elif holding.phase is VirtualPhase.CANCELLED:
                self._engine.send(peer, VirtualAnswer(holding.id, False, ZERO32, holding.text))
            elif holding.phase is VirtualPhase.LOCKING:
                self._engine.send(peer, VirtualAnswer(holding.id, True, holding.way))
            self._repeat_ending(holding)

    def on_message(self, peer: bytes, message: VirtualMessage) -> bool:
        """Take in what a peer says; raise InvalidUpdate. Return whether it was about something that is known."""
        channel = virtual_id(message.terms) if isinstance(message, VirtualProposal) else ChannelId(message.virtual)
        holding = self._held.get(channel)
        if holding is not None and holding.peer != peer:
            raise InvalidUpdate("this virtual channel is with somebody else", Fault.REFUSED)
        if isinstance(message, VirtualProposal):
            if holding is None:
                self._hear(peer, message)
            elif holding.phase is VirtualPhase.LOCKING:
                self._engine.send(peer, VirtualAnswer(channel, True, holding.way))
        elif isinstance(message, VirtualAnswer):
            if holding is not None:
                self._on_answer(holding, message)
            elif message.agrees:
                self._engine.send(peer, VirtualAnswer(channel, False, ZERO32, "there is no such virtual channel here"))
        elif holding is not None:
            self._on_ending(holding, message)
        elif (known := find_virtual(self._engine.writer.store, channel)) is not None and known.peer == peer:
            self._repeat_ending(known)
        return holding is not None

    def _on_answer(self, holding: VirtualHolding, answer: VirtualAnswer) -> None:
        if not answer.agrees and holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
            self._cancelled(holding, answer.text)
        elif not answer.agrees and holding.phase is VirtualPhase.OPEN and self._is_unused(holding):
            self._engine.apply(holding.id, ForceClose())  # nothing was signed in it, and nothing will be
            self._cancelled(holding, answer.text)
        elif answer.agrees and holding.phase is VirtualPhase.PROPOSED:
            self._begin(msgspec.structs.replace(holding, their_way=ChannelId(answer.way), phase=VirtualPhase.LOCKING))

    def _is_unused(self, holding: VirtualHolding) -> bool:
        channel = self._channel(holding)
        return channel.newest.proof.seq == 0 and channel.theirs.seq == 0 and holding.signed is None

    def _on_ending(self, holding: VirtualHolding, message: VirtualEnding) -> None:
        """The peer signed an outcome: add our signature if it is the one that we would sign, or have signed."""
        if holding.outcome is not None:
            self._repeat_ending(holding)
            return
        digest, paid = digest_outcome(holding.terms, message.paid), message.paid
        PublicKey(holding.peer).verify(digest, message.signature)
        is_new = holding.signed is None and holding.phase is VirtualPhase.OPEN and self._is_due(holding, paid)
        if not is_new and holding.signed != paid:
            return
        self._freeze(holding)
        mine = self._engine.key.sign(digest)
        both = (mine, message.signature) if holding.side == 0 else (message.signature, mine)
        self.adopt(holding.id, EndingProof(holding.terms, paid, both))

    def adopt(self, channel: ChannelId, outcome: EndingProof) -> None:
        """Take in the outcome that both signed, by whatever way it came."""
        holding = self._held.get(channel)
        if holding is None or holding.outcome is not None:
            return
        self._freeze(holding)
        ending = msgspec.structs.replace(holding, signed=outcome.paid, outcome=outcome, phase=VirtualPhase.ENDING)
        self._save(ending)
        self._repeat_ending(ending)
        self._settle(ending)

    def _repeat_ending(self, holding: VirtualHolding) -> None:
        """Say it once until a block comes, or a link: who both have the outcome would answer each other for ever."""
        if holding.signed is not None and holding.id not in self._told:
            self._told.add(holding.id)
            signature = self._engine.key.sign(digest_outcome(holding.terms, holding.signed))
            self._engine.send(holding.peer, VirtualEnding(holding.id, holding.signed, signature))

    # --- where locks are ---------------------------------------------------------------------------------------------

    def on_round(self, channels: Collection[ChannelId]) -> None:
        """These channels have signed what was due: see where locks are now, in the same commit."""
        for holding in self.held:
            if holding.id in channels or holding.way in channels:
                self._look(holding)

    def on_chain_moved(self) -> None:
        """Time has passed: what does not open is taken back, what expires soon is ended."""
        now = self._engine.chain.now
        self._told.clear()
        for holding in self.held:
            if holding.outcome is None:
                self._repeat_ending(holding)  # the peer may have left it aside
            if holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
                if now > self._since.setdefault(holding.id, now) + LOCKING_MOST:
                    self.cancel(holding.id, "the stakes were not locked in time")
            elif holding.phase is VirtualPhase.OPEN:
                channel = self._channel(holding)
                if now > holding.terms.expiry - COURT_BEFORE:
                    self._freeze(holding)
                elif now > holding.terms.expiry - END_BEFORE and is_payable(channel):
                    self._engine.apply(holding.id, RequestClose())
            if holding.id in self._held:
                self._look(self._held[holding.id])

    def _look(self, holding: VirtualHolding) -> None:
        """Do the next step of a virtual channel, if one is due. While it is in use none is, and that costs nothing."""
        waiting = any(name == holding.id for name, _ in self._queued)
        if holding.phase is VirtualPhase.OPEN and not waiting and is_payable(self._channel(holding)):
            return
        for held in self._locks(holding, ours=True):
            self._locked.add((holding.id, held.place))
            self._queued.discard((holding.id, held.place))
        if holding.phase is VirtualPhase.LOCKING:
            self._lock(holding, holding.side, holding.terms.stakes[holding.side])
            if is_here(self._engine.sessions, holding, holding.other, holding.terms.stakes[holding.other]):
                self._save(msgspec.structs.replace(holding, phase=VirtualPhase.OPEN))
                self._engine.apply(holding.id, FundingConfirmed(holding.terms.stakes))
        elif holding.phase is VirtualPhase.OPEN and holding.signed is None:
            session = self._engine.sessions[holding.id]
            if session.channel.phase is Phase.OPEN and has_ended(session):
                self._end(holding)
        elif holding.phase in (VirtualPhase.ENDING, VirtualPhase.CANCELLED):
            self._settle(holding)

    def _lock(self, holding: VirtualHolding, index: int, amount: int) -> bool:
        """Send a lock once, if there is anything to lock; return False if it can never be sent."""
        name = holding.id, index
        if not amount or name in self._locked or name in self._queued:
            return True
        try:
            self._send_stake(holding, index, amount, VirtualLockSigned(*name))
        except ChannelNotReady:  # the hub is away
            return self._engine.sessions[holding.way].channel.phase in (Phase.OPEN, Phase.FROZEN)
        except InvalidInput:
            return False
        self._queued.add(name)
        return True

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """Return why a peer's new lock is none that we expect, None if it is one."""
        for holding in self._held.values():
            if lock.condition not in conditions_of(holding.id):
                continue
            fits = is_expected(self._engine.sessions, holding, channel, lock, word)
            return None if fits else "this is not what was agreed on for a virtual channel, or it comes too late"
        return "no such virtual channel is here"

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours was given up unsigned."""
        self._queued = {name for name in self._queued if conditions_of(name[0])[name[1]] != lock.condition}

    @property
    def partners(self) -> set[bytes]:
        """The public keys of those with whom there are virtual channels."""
        return {holding.peer for holding in self._held.values()}

    def plays_with(self, peer: bytes) -> bool:
        """Whether there is a virtual channel with a peer that is not over."""
        return any(holding.peer == peer for holding in self._held.values())

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self, holding: VirtualHolding) -> None:
        """Both have stopped: sign the outcome first, if that is ours to do, or send what it takes."""
        owes, by_stake, by_settlement = forms(holding, self._channel(holding))
        amount = sum(by_stake)
        if owes == 2 or amount == holding.terms.stakes[owes]:
            if holding.side == (0 if owes == 2 else owes):
                self._sign(holding, by_stake)
        elif owes == holding.side:
            index = 2 + owes
            sent = (holding.id, index) in self._locked
            came_back = sent and not any(held.place == index for held in self._locks(holding, ours=True))
            if came_back or not self._lock(holding, index, amount):
                self._sign(holding, by_stake)
        elif is_here(self._engine.sessions, holding, 2 + owes, amount):
            self._sign(holding, by_settlement)

    def _is_due(self, holding: VirtualHolding, paid: Amounts) -> bool:
        """Whether an outcome pays what the final totals say."""
        channel = self._channel(holding)
        if not offers.is_quiet(channel) or channel.phase not in (Phase.OPEN, Phase.CLOSING):
            return False
        owes, by_stake, by_settlement = forms(holding, self._channel(holding))
        if paid == by_stake:
            return True
        here = owes == holding.side or is_here(self._engine.sessions, holding, 2 + owes, sum(by_stake))
        return paid == by_settlement and here

    def _sign(self, holding: VirtualHolding, paid: Amounts) -> None:
        """Sign an outcome, the only one; it is stored before it is sent."""
        self._freeze(holding)
        signed = msgspec.structs.replace(holding, signed=paid)
        self._save(signed)
        self._repeat_ending(signed)

    def _freeze(self, holding: VirtualHolding) -> None:
        if self._channel(holding).phase in (Phase.OPEN, Phase.FROZEN):
            self._engine.apply(holding.id, ForceClose())

    def _settle(self, holding: VirtualHolding) -> None:
        """Claim what the outcome gives us, give everything else back; forget it once nothing is open."""
        for held in self._locks(holding, ours=False):
            if answers.is_answered(held.channel, held.lock.id):
                continue
            if holding.outcome is not None and holding.outcome.paid[held.place]:
                self._engine.apply(held.channel.id, RevealSecret(held.lock.id, holding.outcome.encode()))
            else:
                self._engine.apply(held.channel.id, RejectLock(held.lock.id, b"nothing of it goes over"))
        waiting = any(name == holding.id for name, _ in self._queued)
        if not waiting and not any(self._locks(holding, ours=True)) and not any(self._locks(holding, ours=False)):
            self.finish(holding.id)

    def is_backed(self, holding: VirtualHolding) -> bool:
        """Whether the other's stake is here, in a channel that is open."""
        return is_here(self._engine.sessions, holding, holding.other, holding.terms.stakes[holding.other])

    def settle_decided(self, channel: ChannelId, paid: Amounts) -> None:
        """The confirmed chain has decided: give back what it gives us nothing of; the rest is for the channels."""
        holding = self._held.get(channel)
        if holding is None or holding.phase is VirtualPhase.ENDING:
            return
        self._freeze(holding)
        for held in self._locks(holding, ours=False):
            if not paid[held.place] and not answers.is_answered(held.channel, held.lock.id):
                self._engine.apply(held.channel.id, RejectLock(held.lock.id, b"the court gives nothing of it"))
        if not self._locks(holding, ours=True) and not self._locks(holding, ours=False):
            self.finish(channel)

    def finish(self, channel: ChannelId) -> None:
        """Nothing of it is open any more, or the chain has decided all of it."""
        holding = self._held.get(channel)
        if holding is None:
            return
        session = self._engine.sessions.get(channel)
        if session is not None and session.channel.phase is not Phase.GONE:
            self._freeze(holding)
            self._engine.apply(channel, PhaseReached(Phase.GONE))
        self._save(msgspec.structs.replace(holding, phase=VirtualPhase.OVER))

    def _cancelled(self, holding: VirtualHolding, text: str) -> None:
        cancelled = msgspec.structs.replace(holding, phase=VirtualPhase.CANCELLED, text=text)
        self._save(cancelled)
        self._settle(cancelled)

    def _locks(self, holding: VirtualHolding, *, ours: bool) -> list[HeldLock]:
        return list(locks_of(self._engine.sessions, holding, ours=ours))

    def _channel(self, holding: VirtualHolding) -> Channel:
        return self._engine.sessions[holding.id].channel

    def _save(self, holding: VirtualHolding) -> None:
        if holding.phase is VirtualPhase.OVER:
            self._held.pop(holding.id, None)
            self._since.pop(holding.id, None)
        else:
            self._held[holding.id] = holding
        self._engine.store([VirtualSaved(holding)])
        self._engine.then(self._changed)
        session = self._engine.sessions.get(holding.id)
        self._engine.emit(ChannelChanged(holding.id, Phase.GONE if session is None else session.channel.phase))
