"""How a virtual channel ends off chain: who signs the outcome when, and what becomes of the locks then.

    OPEN       both want it to end, and have stopped: who owes sends a settlement, who is owed signs the outcome first
    ENDING     both signed: what pays us is claimed by the outcome, everything else of the other's is given back
    CANCELLED  nothing was signed in it: the other's stake is given back

Who is owed nothing, or all of a stake, needs no settlement: then side 0, or who owes, signs first. Where no way is left
for a settlement, who owes signs an outcome that pays a part of its stake, and the court is shown that. Part of
`Virtuals`; docs/virtual.md says why nobody loses by it.
"""

from __future__ import annotations

import msgspec

from tallystick.channels.node.virtual_book import VirtualBook
from tallystick.channels.node.virtual_locks import forms, is_here
from tallystick.channels.node.virtual_store import VirtualHolding, VirtualPhase
from tallystick.channels.protocol import answers, offers
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.protocol.virtual import Amounts, EndingProof, digest_outcome
from tallystick.channels.protocol.virtual_messages import VirtualEnding
from tallystick.channels.session.inputs import RejectLock, RevealSecret


class VirtualEnds:
    """See the module's docstring."""

    def __init__(self, book: VirtualBook) -> None:
        self._book = book
        self._engine = book.engine
        self._told: set[ChannelId] = set()
        """Of which our signature was said since the last block or link."""

    # --- the outcome -------------------------------------------------------------------------------------------------

    def advance(self, holding: VirtualHolding) -> None:
        """Both have stopped: sign the outcome first, if that is ours to do, or send what it takes."""
        owes, by_stake, by_settlement = forms(holding, self._book.channel(holding))
        amount = sum(by_stake)
        if owes == 2 or amount == holding.terms.stakes[owes]:
            if holding.side == (0 if owes == 2 else owes):
                self._sign(holding, by_stake)
        elif owes == holding.side:
            if self._book.lock(holding, 2 + owes, amount):
                self._sign(holding, by_stake)
        elif is_here(self._engine.sessions, holding, 2 + owes, amount):
            self._sign(holding, by_settlement)

    def on_message(self, holding: VirtualHolding, message: VirtualEnding) -> None:
        """The peer signed an outcome: add our signature if it is the one that we would sign, or have signed."""
        if holding.outcome is not None:
            self.repeat(holding)
            return
        digest, paid = digest_outcome(holding.terms, message.paid), message.paid
        PublicKey(holding.peer).verify(digest, message.signature)
        is_new = holding.signed is None and holding.phase is VirtualPhase.OPEN and self._is_due(holding, paid)
        if not is_new and holding.signed != paid:
            return
        self._book.freeze(holding)
        mine = self._engine.key.sign(digest)
        both = (mine, message.signature) if holding.side == 0 else (message.signature, mine)
        self.adopt(holding, EndingProof(holding.terms, paid, both))

    def adopt(self, holding: VirtualHolding, outcome: EndingProof) -> None:
        """Take in the outcome that both signed, by whatever way it came."""
        if holding.outcome is not None:
            return
        self._book.freeze(holding)
        ending = msgspec.structs.replace(holding, signed=outcome.paid, outcome=outcome, phase=VirtualPhase.ENDING)
        self._book.save(ending)
        self.repeat(ending)
        self.settle(ending)

    def repeat(self, holding: VirtualHolding) -> None:
        """Say it once until a block comes, or a link: who both have the outcome would answer each other for ever."""
        if holding.signed is not None and holding.id not in self._told:
            self._told.add(holding.id)
            signature = self._engine.key.sign(digest_outcome(holding.terms, holding.signed))
            self._engine.send(holding.peer, VirtualEnding(holding.id, holding.signed, signature))

    def speak_again(self) -> None:
        """A block or a link has come: what was said may have been lost, or left aside."""
        self._told.clear()

    def _is_due(self, holding: VirtualHolding, paid: Amounts) -> bool:
        """Whether an outcome pays what the final totals say."""
        channel = self._book.channel(holding)
        if not offers.is_quiet(channel) or channel.phase not in (Phase.OPEN, Phase.CLOSING):
            return False
        owes, by_stake, by_settlement = forms(holding, channel)
        if paid == by_stake:
            return True
        here = owes == holding.side or is_here(self._engine.sessions, holding, 2 + owes, sum(by_stake))
        return paid == by_settlement and here

    def _sign(self, holding: VirtualHolding, paid: Amounts) -> None:
        """Sign an outcome, the only one; it is stored before it is sent."""
        self._book.freeze(holding)
        signed = msgspec.structs.replace(holding, signed=paid)
        self._book.save(signed)
        self.repeat(signed)

    # --- the locks ---------------------------------------------------------------------------------------------------

    def settle(self, holding: VirtualHolding) -> None:
        """Claim what the outcome gives us, give everything else back; forget it once nothing is open."""
        for held in self._book.locks(holding, ours=False):
            if answers.is_answered(held.channel, held.lock.id):
                continue
            if holding.outcome is not None and holding.outcome.paid[held.place]:
                self._engine.apply(held.channel.id, RevealSecret(held.lock.id, holding.outcome.encode()))
            else:
                self._engine.apply(held.channel.id, RejectLock(held.lock.id, b"nothing of it goes over"))
        if not self._book.is_waiting(holding):
            self._finish(holding)

    def settle_decided(self, holding: VirtualHolding, paid: Amounts) -> None:
        """The confirmed chain has decided: give back what it gives us nothing of; the rest is for the channels."""
        if holding.phase is VirtualPhase.ENDING:
            return
        self._book.freeze(holding)
        for held in self._book.locks(holding, ours=False):
            if not paid[held.place] and not answers.is_answered(held.channel, held.lock.id):
                self._engine.apply(held.channel.id, RejectLock(held.lock.id, b"the court gives nothing of it"))
        self._finish(holding)

    def _finish(self, holding: VirtualHolding) -> None:
        if not self._book.locks(holding, ours=True) and not self._book.locks(holding, ours=False):
            self._book.finish(holding)
