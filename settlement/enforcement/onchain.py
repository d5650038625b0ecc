"""A node's side of the chain, put together: it is followed block by block, and what must be done there is done.

following      hands the blocks in, and commits what comes of each together with its position
enforcer       lets every channel react to each block, and takes its duties on (`duties`)
sender         gets what was taken on into blocks
account        what the node owns on chain, whether it will do, and what its user asks for: openings, deposits
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from tallystick.channels.node.alarms import OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import Clock, Elapsed
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.settlement.chain import Chain
from tallystick.settlement.contract.verdicts import require_judged
from tallystick.settlement.enforcement.account import Account
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.claims import time_left
from tallystick.settlement.enforcement.close_keys import CloseKeys
from tallystick.settlement.enforcement.duties import claim_fee, judge
from tallystick.settlement.enforcement.enforcer import Enforcer
from tallystick.settlement.enforcement.following import ChainFollowing, SameChain
from tallystick.settlement.following.follower import Step
from tallystick.settlement.following.index import EventsSeen
from tallystick.settlement.sending.obligations import SendingPolicy
from tallystick.settlement.sending.sender import Sender


class OnChain:
    """The chain, as one node follows it and acts on it: see the module's docstring. `run` it."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        chain: Chain,
        writer: Writer,
        engine: Engine,
        duties: DutyPolicy,
        confirmations: int,
        start_block: int,
        close_keys: CloseKeys,
        rng: random.Random,
        alarm: OnAlarm,
        changed: Callable[[], None],
        observe: Callable[[Step], None],
        clock: Clock,
        elapsed: Elapsed,
    ) -> None:
        """`alarm` is told what a person should know; `changed` is called after each block, `observe` before."""
        require_judged()
        self._policy = duties
        self._observe = observe
        views = engine.views
        self.following = ChainFollowing(
            account=key.address,
            chain=chain,
            writer=writer,
            confirmations=confirmations,
            start_block=start_block,
            rng=rng,
            alarm=alarm,
            react=self._on_step,
            changed=changed,
            wants_market=lambda: any(channel.phase is not Phase.GONE for channel in views.channels),
            time_left=lambda: time_left(views.channels, engine.chain.now),
            clock=clock,
            elapsed=elapsed,
        )
        self.index, self.follower = self.following.index, self.following.follower
        market = self.following.market
        self.sender = Sender(
            key=key,
            chain=SameChain(chain, self.follower),
            store=writer.store,
            commit=writer.commit,
            alarm=alarm,
            jitter=rng.random,
            policy=SendingPolicy(confirmations=confirmations),
            judge=judge,
        )
        self.enforcer = Enforcer(
            engine=engine,
            writer=writer,
            following=self.following,
            sender=self.sender,
            policy=duties,
            close_keys=close_keys,
            alarm=alarm,
        )
        self.account = Account(
            chain=chain,
            views=views,
            market=market,
            sender=self.sender,
            writer=writer,
            policy=duties,
            alarm=alarm,
            rng=rng,
        )

    async def run(self) -> None:
        """Follow the chain, send what was taken on, and watch over the account, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.following.run)
            nursery.start_soon(self.account.watch_fees)
            nursery.start_soon(self.sender.run)

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one no secret is paid for."""
        return self.following.fresh

    @property
    def claim_fee(self) -> int:
        """Below what worth (in the native coin) a secret is not claimed on chain now; 0: all are claimed."""
        return claim_fee(self.following.market.price, self._policy)

    def _on_step(self, step: Step, seen: Sequence[EventsSeen]) -> list[Moment]:
        moments = self.enforcer.on_step(step, seen)
        self._observe(step)
        return moments
