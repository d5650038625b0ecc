"""A node's side of the chain, put together: it is followed block by block, and what must be done there is done.

following      hands the blocks in, and commits what comes of each together with its position
court          derives what is due for instances of apps (`apps`)
enforcer       lets every channel react to each block, and takes its duties on (`duties`)
sender         gets what was taken on into blocks
account        what the node owns on chain, whether it will do, and what its user asks for: openings, deposits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from tallystick.channels.storage.store import Moment
from tallystick.settlement.contract.verdicts import require_judged
from tallystick.settlement.enforcement.account import Account
from tallystick.settlement.enforcement.apps import AppHeld
from tallystick.settlement.enforcement.court import CourtEnforcer
from tallystick.settlement.enforcement.duties import claim_fee, judge
from tallystick.settlement.enforcement.enforcer import Enforcer
from tallystick.settlement.enforcement.following import ChainFollowing, EnforcingNode, SameChain
from tallystick.settlement.enforcement.owed_claims import judge_claim
from tallystick.settlement.errors import Revert
from tallystick.settlement.following.courts import InCourt
from tallystick.settlement.following.follower import Step
from tallystick.settlement.following.index import EventsSeen
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus
from tallystick.settlement.sending.policy import policy_for
from tallystick.settlement.sending.sender import Sender


def _judge(obligation: Obligation, revert: Revert | None) -> ObligationStatus | None:
    return judge(obligation, revert) or judge_claim(obligation, revert)


class OnChain:
    """The chain, as one node follows it and acts on it: see the module's docstring. `run` it."""

    def __init__(self, node: EnforcingNode, *, changed: Callable[[], None], observe: Callable[[Step], None]) -> None:
        """`changed` is called after each block, `observe` before."""
        require_judged()
        self._policy = node.policy
        self._observe = observe
        self._add = node.engine.writer.add
        self._has_evidence = node.chain.figures.has_evidence
        self.following = ChainFollowing(node, self._on_step, changed, self._on_current)
        self.index, self.follower = self.following.index, self.following.follower
        self.sender = Sender(
            key=node.engine.key,
            chain=SameChain(node.chain, self.follower),
            store=node.engine.writer.store,
            commit=node.engine.writer.commit,
            alarm=node.alarm,
            jitter=node.rng.random,
            policy=policy_for(node.chain.figures, node.confirmations),
            judge=_judge,
            hold=self._hold,
        )
        self.enforcer = Enforcer(node, self.following, self.sender)
        self.court = CourtEnforcer(node, self.following, self.sender)
        self.account = Account(node, self.following.market, self.sender)

    async def run(self) -> None:
        """Follow the chain, send what was taken on, and watch over the account, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.following.run)
            nursery.start_soon(self.account.watch_fees)
            nursery.start_soon(self.account.watch_owed)
            nursery.start_soon(self.sender.run)
            if self._has_evidence:
                nursery.start_soon(self.enforcer.witness.run)

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one no secret is paid for."""
        return self.following.fresh

    @property
    def claim_fee(self) -> int:
        """Below what worth (in the native coin) a secret is not claimed on chain now; 0: all are claimed."""
        return claim_fee(self.following.market.price, self.following.market.tariff, self._policy)

    def _hold(self, obligation: Obligation, now: int) -> bool:
        return self.enforcer.hold(obligation, now) or self.court.hold(obligation)

    def in_court(self, held: AppHeld) -> InCourt | None:
        """Return what the chain's court knows of an app's instance, by the newest block that was followed."""
        return self.court.in_court(held)

    def on_apps_changed(self) -> None:
        """Derive anew what is due in court: what the node holds of an instance has changed, and is stored."""
        moments = self.court.derive()
        if moments:
            self._add(moments)

    def _on_current(self) -> None:
        self.sender.look_again()

    def _on_step(self, step: Step, seen: Sequence[EventsSeen]) -> list[Moment]:
        moments = [*self.enforcer.on_step(step, seen), *self.court.derive()]
        self.account.on_step(step)
        self._observe(step)
        return moments
