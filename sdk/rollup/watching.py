"""The watcher's program: it follows the chain, runs each batch again, and sends what its core says must be sent.

It needs nobody's help: the state follows from the chain alone. Whether somebody signed does not: it reads signatures
at the operator's desk, and demands those that are wanting on the chain. A desk that does not answer gets half of the
window to do so. Without a desk it demands nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.values.arguments import Options
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.settlement.errors import Reverted
from tallystick.settlement.rollup.watcher import CallSilence, ConvictBatch, DemandSignatures, RollupDuty, StopRollup

Say = Callable[[str], None]
Ask = Callable[[int], Awaitable[tuple[tuple[bytes, ...], ...] | None]]
"""Gives the signatures of a batch by its number, None if they cannot be had."""


SILENCE = 15.0
"""Seconds without signatures after which a desk is asked no more in one look at the chain."""

READING = 60.0
"""Seconds that all reading at the desk may take in one look: what is left is read after the next one."""


class WatcherPolicy(Options, frozen=True, kw_only=True):
    """What a watcher does."""

    demands: int = 8
    """Signatures that are demanded in one look at the chain, at most: each costs a fee, and one may convict."""
    per_batch: int = 64
    """Signatures of one batch that are demanded, at most, as the chain counts them, whatever restarts: an operator that
    shows none but on the chain earns by each demand. Which ones it cannot know before."""
    claims: bool = True
    """Whether what it earned is paid out at once."""


class Watching:
    """The watcher of one rollup, with a disk and a chain."""

    def __init__(
        self,
        chain: RollupChain,
        follower: RollupFollower,
        key: PrivateKey,
        say: Say,
        ask: Ask | None = None,
        policy: WatcherPolicy | None = None,
    ) -> None:
        self._chain = chain
        self._follower = follower
        self._key = key
        self._say = say
        self._ask = ask
        self._policy = policy or WatcherPolicy()
        self._looked: dict[int, int] = {}
        """Batches whose signatures were looked at: the serial, by number."""
        self._leaving = RollupLeaving(chain, key, follower.start)
        self._standing: set[int] | None = None
        """The serials of the batches that stood when it looked last; None at the start."""
        self._remade = follower.remade
        self._refused: set[str] = set()
        self._vain: Counter[int] = Counter()
        """Demands of each batch, by serial, that the chain refused since the start, which cost nothing."""
        self._secret = key.sign(keccak(b"tallystick: which signatures a watcher demands first"))

    async def step(self) -> None:
        """Look at the chain once, and do what must be done. Raise ChainUnavailable or ChainError."""
        await self._follower.follow()
        if self._remade != self._follower.remade:
            self._looked, self._remade = {}, self._follower.remade
        facts = await self._chain.facts()
        core = self._follower.core
        for duty in core.duties(self._follower.head.time, facts.final):  # first what waits for nobody's desk
            if not isinstance(duty, DemandSignatures):
                await self._do(duty, facts.demand_fee)
        await self._look(facts.final, facts.window)
        await self._demand(facts.final, facts.demand_fee)
        if self._policy.claims:
            await self._claim()

    async def _demand(self, final: int, fee: int) -> None:
        """Demand signatures that are wanting: our own first, and of each batch some that nobody can foresee."""
        core = self._follower.core
        wanted = [each for each in core.duties(self._follower.head.time, final) if isinstance(each, DemandSignatures)]
        left, demanded = self._policy.demands, core.demanded(self._key.address)  # up to the newest block
        for duty in sorted(wanted, key=self._rank):
            serial = core.standing[duty.number].serial
            tried = demanded[duty.number] + self._vain[serial]
            if left and (self._is_ours(duty) or tried < self._policy.per_batch):
                left -= 1
                if await self._do(duty, fee):
                    demanded[duty.number] += 1
                else:
                    self._vain[serial] += 1

    def _is_ours(self, duty: DemandSignatures) -> bool:
        """Whether a step says that the watcher's own key signed it."""
        statements = self._follower.core.standing[duty.number].statements[duty.position]
        return any(each.signer == self._key.address for each in statements)

    def _rank(self, duty: DemandSignatures) -> tuple[bool, int, bytes]:
        return (
            not self._is_ours(duty),
            duty.number,
            keccak(self._secret + duty.number.to_bytes(8, "big") + duty.position.to_bytes(8, "big")),
        )

    async def _claim(self) -> None:
        """Have paid what it earned, and given back what demands cost whose batch is gone."""
        before, self._standing = self._standing, {each.serial for each in self._follower.core.standing}
        gone = before is None or before - self._standing
        if gone and (done := await self._leaving.refund(self._follower.events())):
            self._say(f"got back what {done} demands cost: their batch is gone")
        if (await self._chain.account(self._key.address))[2]:
            await self._call(RollupCall("claim", (NATIVE,)), "claimed what it earned")

    async def _look(self, final: int, window: int) -> None:
        """Look at the signatures of batches that were not looked at yet."""
        core, begun, wasted = self._follower.core, trio.current_time(), 0.0
        for number in range(final, len(core.standing)):
            serial = core.standing[number].serial
            if self._ask is None or self._looked.get(number) == serial:
                continue
            asked = trio.current_time()
            if asked - begun > READING:
                break
            signatures = await self._ask(number) if wasted < SILENCE else None
            if signatures is None:
                wasted += trio.current_time() - asked
            if signatures is None and self._follower.head.time <= core.standing[number].batch.time + window // 2:
                continue
            core.on_signatures(number, signatures or ())
            self._looked[number] = serial

    async def _do(self, duty: RollupDuty, fee: int) -> bool:
        """Do what must be done; return whether the chain took it."""
        match duty:
            case ConvictBatch():
                call = RollupCall("convict", (duty.number, list(duty.proof.words)))
                return await self._call(call, f"convicted batch {duty.number}: step {duty.proof.position} is wrong")
            case DemandSignatures():
                call = RollupCall("demand", (duty.number, duty.position), fee)
                return await self._call(call, f"demanded the signatures of step {duty.position} of batch {duty.number}")
            case CallSilence():
                call = RollupCall("silence", (duty.number, duty.position))
                return await self._call(call, f"convicted batch {duty.number}: nobody showed the signatures of a step")
            case StopRollup():
                return await self._call(RollupCall("freeze"), f"stopped everything: entry {duty.index} is overdue")

    async def _call(self, call: RollupCall, done: str) -> bool:
        """Make a call; somebody else may have been faster, and then the chain refuses it. Return whether it took it."""
        try:
            await self._chain.act(self._key, call)
        except Reverted as error:
            text = f"the chain refuses {call.name}: {error.code} {error}".rstrip()
            if text not in self._refused:
                self._refused.add(text)
                self._say(text)
            return False
        self._say(done)
        return True
