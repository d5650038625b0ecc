"""What happens in an unwell world: two channels live and end, one by agreement and one by a cheat, step by step.

    open      Alice opens a channel with Bob, and Mallory one with Alice; who did not open deposits, Alice withdraws
    pay       both ways, in both channels; the tower is given what is newest
    lock      Bob reveals a secret to Alice, whom he cannot reach: he has to register it before the lock expires
    cheat     Mallory closes with an old state while Alice is down: the tower has to challenge, and Alice to settle
    close     Alice and Bob end their channel by agreement, or Bob alone, if they cannot

What is checked at the end is asked of the chain's own node: `check`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from simulation.unwell_world import BLOCK, HELD, NAMES, PERIOD, TOWER, UnwellWorld
from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ChannelId, Lock
from tallystick.channels.testing.clock import EPOCH
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.settlement.ethereum.evm.profiles import COIN

SECRET = keccak(b"what Bob knows")
CHEATED = COIN // 2
"""What Mallory pays, and would have back by her cheat."""

LOCKED = COIN // 100
LOCK_SECONDS = 300
"""From a lock's beginning to its expiry."""

LONG = 7_200.0
"""Seconds within which a step is done, at the latest, whatever the chain does."""

STEPS = ("open", "pay", "lock", "cheat", "close")


class Story:
    """See the module's docstring. `on_step` is told of each step before it begins."""

    def __init__(self, unwell: UnwellWorld, on_step: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.unwell = unwell
        self.world = unwell.world
        self.step = ""
        self.bobs = 0
        """What Bob has to have more in the end than in the beginning, but for fees; and likewise the next."""
        self.alices = 0
        self.is_convicted = False
        """Whether the tower had the contract convict Mallory before Alice was back."""
        self.old: list[int] = []
        """Of Mallory's channel, the numbers of the proofs that she closes with."""
        self._on_step = on_step
        self.ours: ChannelId | None = None
        self.hers: ChannelId | None = None

    async def run(self) -> None:
        """Live through all of it."""
        for name in STEPS:
            self.step = name
            if self._on_step is not None:
                await self._on_step(name)
            await getattr(self, name)()
        self.step = "rest"
        await self.rest()

    def _channel(self, name: str, channel: ChannelId | None) -> ChannelHandle:
        assert channel is not None
        return self.world.node(name).channel(channel)

    def _is_known(self, name: str, channel: ChannelId) -> bool:
        return any(known.id == channel for known in self.world.node(name).channels)

    def _is_gone(self, name: str, channel: ChannelId | None) -> bool:
        return self._channel(name, channel).phase is Phase.GONE

    def _is_covered(self) -> bool:
        return all(tower.dirty == 0 for tower in self.world.node("alice").statistics().towers)

    def _locks(self) -> tuple[Lock, ...]:
        return self._channel("bob", self.ours).view.channel.theirs.simplex.locks

    async def _until(self, condition: Callable[[], bool], what: str, seconds: float = LONG) -> None:
        def holds() -> bool:
            with contextlib.suppress(InvalidInput):  # a node that crashed is not back yet
                return condition()
            return False

        await self.unwell.until(holds, seconds, f"{self.step}: {what}")

    async def open(self) -> None:
        """Two channels, with deposits of both sides."""
        for name in NAMES:
            await self.unwell.start(name)
        alice, mallory = self.world.node("alice"), self.world.node("mallory")
        self.ours = (await alice.open_channel(self.world.address("bob"), COIN, challenge_period=PERIOD)).id
        self.hers = (await mallory.open_channel(self.world.address("alice"), COIN, challenge_period=PERIOD)).id
        for name, channel in (("bob", self.ours), ("alice", self.hers)):
            await self._until(partial(self._is_known, name, channel), f"{name} knows the channel")
            await self._channel(name, channel).wait_usable()
            await self._channel(name, channel).deposit(COIN)
        await self._channel("alice", self.ours).withdraw(COIN // 10)

    async def pay(self) -> None:
        """Payments both ways; Mallory keeps the state before hers."""
        for number in range(5):
            await self._channel("alice", self.ours).pay(10**15, b"tea %d" % number)
            await self._channel("bob", self.ours).pay(10**14, b"change %d" % number)
        self.bobs += 5 * (10**15 - 10**14)
        self.alices -= 5 * (10**15 - 10**14)
        await self._channel("mallory", self.hers).pay(10**15)
        audit = self.world.seats["mallory"].audit
        assert self.hers is not None
        self.old = [
            max((seq for sender, seq in audit.statements[self.hers] if sender == side), default=0) for side in (0, 1)
        ]
        await self._channel("mallory", self.hers).pay(CHEATED)
        await self._channel("alice", self.hers).pay(10**15)
        self.alices += CHEATED
        await self._until(self._is_covered, "the tower has what is newest")

    async def lock(self) -> None:
        """A secret that has to be registered before an expiry."""
        expiry = int(EPOCH + trio.current_time()) + LOCK_SECONDS
        await self._channel("alice", self.ours).lock(LOCKED, expiry, digest_of(SECRET))
        await self._until(lambda: bool(self._locks()), "the lock")
        alice, bob = (self.world.seats[name].key.public for name in ("alice", "bob"))
        self.world.network.partition(alice, bob)
        [lock] = self._locks()
        self._channel("bob", self.ours).reveal(lock.id, SECRET)
        await trio.sleep(max(0.0, expiry + BLOCK - EPOCH - trio.current_time()))
        self.world.network.heal()
        self.bobs += LOCKED
        self.alices -= LOCKED
        await self._until(lambda: not self._locks(), "Alice sees the secret on chain, and pays")

    async def cheat(self) -> None:
        """Mallory closes with what she has long replaced, while Alice is down for most of the window."""
        assert self.hers is not None
        await self.world.crash("mallory")
        await self.world.crash("alice")
        await self.unwell.cheat(self.hers, self.old)
        await trio.sleep(PERIOD - 4 * BLOCK)
        await self.unwell.start("alice")
        view = await self.unwell.view(self.hers)
        self.is_convicted = view is not None and view.convicted
        await self._until(partial(self._is_gone, "alice", self.hers), "the cheat is settled")

    async def close(self) -> None:
        """By agreement."""
        try:
            with trio.fail_after(LONG):
                await self._channel("alice", self.ours).close()
        except TallystickError:  # the offer died
            await self._channel("bob", self.ours).force_close()
        for name in ("alice", "bob"):
            await self._until(partial(self._is_gone, name, self.ours), f"{name}'s channel with the other is gone")

    async def rest(self) -> None:
        """Heal, and wait until nothing is under way."""
        self.unwell.heal()

        def resting() -> bool:
            senders = [self.world.node(name).onchain.sender for name in ("alice", "bob")]
            assert self.unwell.tower is not None
            senders.append(self.unwell.tower.sender)
            figures = [sender.statistics() for sender in senders]
            return not any(figure.waiting or figure.sent or figure.troubled for figure in figures)

        await self._until(resting, "nothing is under way")
        for name in ("alice", "bob", TOWER):
            assert self.unwell.held(name) > HELD // 2, name
