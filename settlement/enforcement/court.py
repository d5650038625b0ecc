"""What each block asks of who plays apps or has virtual channels: what is due in court is taken on, or given up."""

from __future__ import annotations

from tallystick.channels.storage.store import Moment
from tallystick.settlement.enforcement.apps import APP_DUTIES, AppHeld, CourtPrices, app_duties
from tallystick.settlement.enforcement.following import ChainFollowing, EnforcingNode
from tallystick.settlement.enforcement.virtual import VIRTUAL_DUTIES, VirtualHeld, virtual_duties
from tallystick.settlement.following.courts import InCourt
from tallystick.settlement.following.virtual import VirtualInCourt
from tallystick.settlement.sending.obligations import Obligation
from tallystick.settlement.sending.sender import Sender

_DUTIES = APP_DUTIES | VIRTUAL_DUTIES


class CourtEnforcer:
    """Part of `OnChain`."""

    def __init__(self, node: EnforcingNode, following: ChainFollowing, sender: Sender) -> None:
        self._node = node
        self._following = following
        self._index = following.index
        self._sender = sender
        self._due: frozenset[str] = frozenset()

    def in_court(self, held: AppHeld, *, final: bool = False) -> InCourt | None:
        """Return what the court knows of an instance at the head, or as far as it counts as confirmed."""
        return self._index.court(held.stake, self._following.final_number if final else self._index.head_number)

    def virtual_in_court(self, held: VirtualHeld, *, final: bool = False) -> VirtualInCourt | None:
        """Return what the court knows of a virtual channel at the head, or as far as it counts as confirmed."""
        return self._index.virtual(held.stake, self._following.final_number if final else self._index.head_number)

    def derive(self) -> list[Moment]:
        """Take on what must be done in court now, give up what need not; return what to store."""
        market, moments = self._following.market, list[Moment]()
        prices = CourtPrices(self._node.policy, market.tariff, market.price)
        due: set[str] = set()
        settled = True
        for held in self._node.apps():
            court = self.in_court(held)
            settled = settled and court == self.in_court(held, final=True)
            for duty in app_duties(held, court, self._index.head_time, prices):
                due.add(duty.id)
                moments += self._sender.pursue(duty, self._index.head_number)
        for virtual in self._node.virtuals():
            known = self.virtual_in_court(virtual)
            settled = settled and known == self.virtual_in_court(virtual, final=True)
            for duty in virtual_duties(virtual, known, self._index.head_time, prices):
                due.add(duty.id)
                moments += self._sender.pursue(duty, self._index.head_number)
        self._due = frozenset(due)
        if settled:  # what made one moot stays
            for waiting in self._sender.obligations():
                if waiting.duty in _DUTIES and not waiting.is_final and waiting.name not in due:
                    moments += self._sender.supersede(waiting.id, "the court has moved on")
        return moments

    def hold(self, obligation: Obligation) -> bool:
        """Whether something had better not be begun now: by the newest block it is not due."""
        return obligation.duty in _DUTIES and obligation.name not in self._due
