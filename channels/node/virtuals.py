"""The virtual channels of a node: how one opens between two players, over hubs, and lives (docs/virtual.md).

Part of an `Engine`. Between its opening and its end a virtual channel is a session like any other. Here is what stands
around it: what the players say to each other, their stakes in the channels with hubs, and time. Where locks are is
looked up after each round's signing; what was signed is stored in the commit of its signature:

    PROPOSED   we asked, and wait for the answer
    LOCKING    our stake is sent; once the other's is here, countersigned, the channel opens
    OPEN       it is in use; its end is in `virtual_ends`, and so are ENDING and CANCELLED

What is kept and how locks are sent is in `virtual_book`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

import msgspec

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidInput, InvalidUpdate
from tallystick.channels.limits import ERROR_TEXT_MAX
from tallystick.channels.node.virtual_book import VirtualBook
from tallystick.channels.node.virtual_ends import VirtualEnds
from tallystick.channels.node.virtual_locks import is_expected, is_here
from tallystick.channels.node.virtual_port import EnginePort
from tallystick.channels.node.virtual_store import VirtualHolding, VirtualPhase, count_virtuals, find_virtual
from tallystick.channels.protocol.core import Channel, Phase, new_virtual_channel
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.protocol.virtual import (
    VIRTUAL,
    Amounts,
    EndingProof,
    VirtualTerms,
    WayIn,
    conditions_of,
    virtual_id,
)
from tallystick.channels.protocol.virtual_messages import VirtualAnswer, VirtualMessage, VirtualProposal
from tallystick.channels.session.expected import LockSender
from tallystick.channels.session.inputs import FundingConfirmed, RequestClose
from tallystick.channels.session.negotiation import has_ended
from tallystick.channels.session.standing import is_payable

OPEN_MARGIN = 7_200
"""Seconds that the terms must leave for the channel's use when it is agreed on."""
END_BEFORE = 3_600
"""Seconds before the expiry at which a node ends it by itself: nothing is paid from then on."""
COURT_BEFORE = 900
"""Seconds before the expiry at which it signs nothing any more, and goes to court if that brings it something."""
LOCKING_MOST = 600
"""Seconds of chain time that stakes may take to be locked."""

Accepts = Callable[[VirtualTerms, PublicKey], str]
"""Says why a peer's proposal is not agreed to; empty: it is."""


class Virtuals:
    """See the module's docstring."""

    messages: ClassVar[Any] = VirtualMessage

    def __init__(
        self, engine: EnginePort, hubs: LockSender, accepts: Accepts, changed: Callable[[], None] = lambda: None
    ) -> None:
        """`hubs` sends our locks; `changed` is called after each commit that changes what is held."""
        self._engine, self._accepts = engine, accepts
        self._book = VirtualBook(engine, hubs, changed)
        self._ends = VirtualEnds(self._book)
        engine.players.append(self)
        engine.expected.register(VIRTUAL, self)

    def __repr__(self) -> str:
        return f"<Virtuals {len(self._book.held)}>"

    @property
    def held(self) -> list[VirtualHolding]:
        """All that are not over."""
        return list(self._book.held.values())

    @property
    def next_nonce(self) -> int:
        """One that this player has used in no terms: chain time, and how many it had before."""
        return self._engine.chain.now << 24 | count_virtuals(self._engine.writer.store) & 0xFFFFFF

    def find(self, channel: ChannelId) -> VirtualHolding | None:
        """Return one, over or not; None if there is none."""
        return self._book.held.get(channel) or find_virtual(self._engine.writer.store, channel)

    @property
    def partners(self) -> set[bytes]:
        """The public keys of those with whom there are virtual channels."""
        return {holding.peer for holding in self._book.held.values()}

    def plays_with(self, peer: bytes) -> bool:
        """Whether there is a virtual channel with a peer that is not over."""
        return any(holding.peer == peer for holding in self._book.held.values())

    # --- opening -----------------------------------------------------------------------------------------------------

    def propose(self, terms: VirtualTerms, peer: PublicKey, over: tuple[bytes, ...] = ()) -> ChannelId:
        """Ask a peer for a virtual channel; raise InvalidInput. `over`: see `VirtualHolding`."""
        side = terms.side_of(self._engine.key.address)
        self._check(terms, side, bytes(peer), over)
        stake, first = terms.stakes[side], over[0] if over else None
        if stake and not any(
            session.payable and session.spendable >= stake and first in (None, session.channel.peer_key)
            for session in self._engine.sessions.values()
            if session.channel.terms.asset == terms.asset and not session.channel.is_virtual
        ):
            where = "to that hub" if over else "in that asset"
            raise InvalidInput(f"our stake of {stake} does not fit: no channel {where} can send as much now")
        holding = VirtualHolding(terms, side, bytes(peer), over, (), VirtualPhase.PROPOSED, asked=True)
        if holding.id in self._book.held:
            raise InvalidInput("a virtual channel with these very terms is known: take another nonce")
        self._book.save(holding)
        self._engine.send(holding.peer, self._proposal(holding))
        return holding.id

    def cancel(self, channel: ChannelId, text: str) -> None:
        """Take back what did not open yet."""
        holding = self._book.held.get(channel)
        if holding is not None and holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
            self._engine.send(holding.peer, VirtualAnswer(channel, False, (), text[: ERROR_TEXT_MAX // 4]))
            self._cancelled(holding, text)

    def _check(self, terms: VirtualTerms, side: int, peer: bytes, over: tuple[bytes, ...]) -> None:
        engine = self._engine
        if (terms.chain_id, terms.contract) != (engine.chain_id, engine.contract):
            raise InvalidInput("this is on another chain or contract than this node's")
        if terms.players[1 - side] != PublicKey(peer).address:
            raise InvalidInput("a virtual channel is between the two that speak here")
        if terms.expiry < engine.chain.now + OPEN_MARGIN:
            raise InvalidInput(f"a virtual channel lasts at least {OPEN_MARGIN} s: nothing is paid in its last hour")
        if engine.policy.kinds is not None and VIRTUAL not in engine.policy.kinds:
            raise InvalidInput("this chain has no court for virtual channels: see docs/virtual.md")
        if {PublicKey(hub).address for hub in over} & set(terms.players):
            raise InvalidInput("the hub is a player itself: what the two have is a channel already")
        if len(set(over)) != len(over):
            raise InvalidInput("a hub is named twice: each is on the way once")

    def _hear(self, peer: bytes, proposal: VirtualProposal) -> None:
        terms, channel, over = proposal.terms, virtual_id(proposal.terms), proposal.over[::-1]
        try:
            side = terms.side_of(self._engine.key.address)
            self._check(terms, side, peer, over)
            if self.find(channel) is not None:
                raise InvalidInput("this virtual channel was there already")
            if refusal := self._accepts(terms, PublicKey(peer)):
                raise InvalidInput(refusal)
            holding = VirtualHolding(terms, side, peer, over, proposal.ways, VirtualPhase.LOCKING, asked=False)
            if terms.stakes[side]:
                self._book.hubs.check(self._book.wanted(holding, side, terms.stakes[side]))
        except (InvalidInput, ChannelNotReady) as error:
            self._engine.send(peer, VirtualAnswer(channel, False, (), str(error)[: ERROR_TEXT_MAX // 4]))
            return
        self._begin(holding)
        if channel in self._book.held:
            self._engine.send(peer, self._agreement(holding))

    def _begin(self, holding: VirtualHolding) -> None:
        """Both agreed: the channel is known from now on, and our stake is sent."""
        self._engine.add_channel(new_virtual_channel(holding.terms, holding.side, holding.peer))
        self._book.save(holding)
        self._book.since[holding.id] = self._engine.chain.now
        self._look(holding)

    def _proposal(self, holding: VirtualHolding) -> VirtualProposal:
        return VirtualProposal(holding.terms, holding.over, self._ways_in(holding))

    def _agreement(self, holding: VirtualHolding) -> VirtualAnswer:
        return VirtualAnswer(holding.id, True, self._ways_in(holding))

    def _ways_in(self, holding: VirtualHolding) -> tuple[WayIn, ...]:
        first = holding.over[0] if holding.over else None
        return self._book.ways_in(holding.terms.asset, holding.terms.stakes[holding.other], first)

    # --- what peers say ----------------------------------------------------------------------------------------------

    def on_connected(self, peer: bytes) -> None:
        """Say again what a peer may not have."""
        self._ends.speak_again()
        for holding in [each for each in self.held if each.peer == peer]:
            if holding.phase is VirtualPhase.PROPOSED:
                self._engine.send(peer, self._proposal(holding))
            elif holding.phase is VirtualPhase.CANCELLED:
                self._engine.send(peer, VirtualAnswer(holding.id, False, (), holding.text))
            elif holding.phase is VirtualPhase.LOCKING:
                self._engine.send(peer, self._agreement(holding))
            self._ends.repeat(holding)

    def on_message(self, peer: bytes, message: VirtualMessage) -> bool:
        """Take in what a peer says; raise InvalidUpdate. Return whether it was about something that is known."""
        channel = virtual_id(message.terms) if isinstance(message, VirtualProposal) else ChannelId(message.virtual)
        holding = self._book.held.get(channel)
        if holding is not None and holding.peer != peer:
            raise InvalidUpdate("this virtual channel is with somebody else", Fault.REFUSED)
        if isinstance(message, VirtualProposal):
            if holding is None:
                self._hear(peer, message)
            elif holding.phase is VirtualPhase.LOCKING:
                self._engine.send(peer, self._agreement(holding))
        elif isinstance(message, VirtualAnswer):
            if holding is not None:
                self._on_answer(holding, message)
            elif message.agrees:
                self._engine.send(peer, VirtualAnswer(channel, False, (), "there is no such virtual channel here"))
        elif holding is not None:
            self._ends.on_message(holding, message)
        elif (known := find_virtual(self._engine.writer.store, channel)) is not None and known.peer == peer:
            self._ends.repeat(known)
        return holding is not None

    def _on_answer(self, holding: VirtualHolding, answer: VirtualAnswer) -> None:
        if not answer.agrees and holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
            self._cancelled(holding, answer.text)
        elif not answer.agrees and holding.phase is VirtualPhase.OPEN and self._book.is_unused(holding):
            self._book.freeze(holding)  # nothing was signed in it, and nothing will be
            self._cancelled(holding, answer.text)
        elif answer.agrees and holding.phase is VirtualPhase.PROPOSED:
            self._begin(msgspec.structs.replace(holding, ways=answer.ways, phase=VirtualPhase.LOCKING))

    def _cancelled(self, holding: VirtualHolding, text: str) -> None:
        cancelled = msgspec.structs.replace(holding, phase=VirtualPhase.CANCELLED, text=text)
        self._book.save(cancelled)
        self._ends.settle(cancelled)

    def objection(self, channel: Channel, lock: Lock, word: bytes | None) -> str | None:
        """Return why a peer's new lock is none that we expect, None if it is one."""
        for holding in self._book.held.values():
            if lock.condition not in conditions_of(holding.id):
                continue
            fits = is_expected(self._engine.sessions, holding, channel, lock, word)
            return None if fits else "this is not what was agreed on for a virtual channel, or it comes too late"
        return "no such virtual channel is here"

    def on_dropped(self, lock: Lock) -> None:
        """A lock of ours was given up unsigned."""
        self._book.on_dropped(lock)

    # --- what follows ------------------------------------------------------------------------------------------------

    def on_round(self, channels: Collection[ChannelId]) -> None:
        """These channels have signed what was due: see where locks are now, in the same commit."""
        held = self._book.held
        if held:
            others = any(channel not in held for channel in channels)  # in which locks of any may be
            for holding in [each for each in held.values() if others or each.id in channels]:
                self._look(holding)

    def on_chain_moved(self) -> None:
        """Time has passed: what does not open is taken back, what expires soon is ended."""
        now = self._engine.chain.now
        self._ends.speak_again()
        for holding in self.held:
            if holding.outcome is None:
                self._ends.repeat(holding)  # the peer may have left it aside
            if holding.phase in (VirtualPhase.PROPOSED, VirtualPhase.LOCKING):
                if now > self._book.since.setdefault(holding.id, now) + LOCKING_MOST:
                    self.cancel(holding.id, "the stakes were not locked in time")
            elif holding.phase is VirtualPhase.OPEN:
                channel = self._book.channel(holding)
                if now > holding.terms.expiry - COURT_BEFORE:
                    self._book.freeze(holding)
                elif now > holding.terms.expiry - END_BEFORE and is_payable(channel):
                    self._engine.apply(holding.id, RequestClose())
            if holding.id in self._book.held:
                self._look(self._book.held[holding.id])

    def _look(self, holding: VirtualHolding) -> None:
        """Do the next step of a virtual channel, if one is due. While it is in use none is, and that costs nothing."""
        self._book.on_round(holding)
        if holding.phase is VirtualPhase.LOCKING:
            self._lock_stake(holding)
        elif holding.phase is VirtualPhase.OPEN and holding.signed is None:
            session = self._engine.sessions[holding.id]
            if is_payable(session.channel):
                if self._book.is_unused(holding):
                    self._lock_again(holding)
            elif session.channel.phase is Phase.OPEN and has_ended(session):
                self._ends.advance(holding)
        elif holding.phase in (VirtualPhase.ENDING, VirtualPhase.CANCELLED):
            self._ends.settle(holding)

    def _lock_stake(self, holding: VirtualHolding) -> None:
        """Send our stake, and open the channel once the other's is here; take it back if there is no way for ours."""
        if refusal := self._book.lock(holding, holding.side, holding.terms.stakes[holding.side]):
            self.cancel(holding.id, refusal)
        elif self.is_backed(holding):
            self._book.save(msgspec.structs.replace(holding, phase=VirtualPhase.OPEN))
            self._engine.apply(holding.id, FundingConfirmed(holding.terms.stakes))

    def _lock_again(self, holding: VirtualHolding) -> None:
        """Nothing was paid in it yet: our stake may have come back, and the other's be here."""
        if refusal := self._book.lock(holding, holding.side, holding.terms.stakes[holding.side]):
            self._withdraw(holding, refusal)

    def _withdraw(self, holding: VirtualHolding, text: str) -> None:
        """Take back a channel that is open, and in which nothing was signed."""
        self._engine.send(holding.peer, VirtualAnswer(holding.id, False, (), text[: ERROR_TEXT_MAX // 4]))
        self._book.freeze(holding)
        self._cancelled(holding, text)

    # --- what the chain decides --------------------------------------------------------------------------------------

    def is_backed(self, holding: VirtualHolding) -> bool:
        """Whether the other's stake is here, in a channel that is open."""
        return is_here(self._engine.sessions, holding, holding.other, holding.terms.stakes[holding.other])

    def adopt(self, channel: ChannelId, outcome: EndingProof) -> None:
        """Take in the outcome that both signed, by whatever way it came."""
        if channel in self._book.held:
            self._ends.adopt(self._book.held[channel], outcome)

    def settle_decided(self, channel: ChannelId, paid: Amounts) -> None:
        """The confirmed chain has decided: see `VirtualEnds.settle_decided`."""
        if channel in self._book.held:
            self._ends.settle_decided(self._book.held[channel], paid)
