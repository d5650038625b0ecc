"""What the parts of a storm share: its world, its seed, its log, and who is there (`storm`)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import trio

from simulation.fault_rates import FaultRates
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.sdk.testing.world import World
from tallystick.settlement.testing.chaos import ChaosChain


class StormNetwork:
    """One network in one storm."""

    def __init__(self, world: World, rng: random.Random, rates: FaultRates, log: list[str]) -> None:
        self.world = world
        self.rng = rng
        self.rates = rates
        self.names = tuple(world.seats)
        self.log = log
        self.counts: Counter[str] = Counter()
        self.away: set[str] = set()
        """Who is down, or about to be, and will be back."""
        self.liars: dict[str, ChaosChain] = {}
        """The chain nodes that lie, by whose they are."""
        self.nursery: trio.Nursery | None = None
        """Of what goes on beside the steps."""
        if rates.chaos is not None:
            for name, seat in world.seats.items():
                liar = ChaosChain(world.chain, random.Random(f"{world.seed}/{name}'s chain node"), rates.chaos)
                self.liars[name] = liar
                seat.chain_node = liar

    def note(self, what: str) -> None:
        """Write into the log, and count by the first word."""
        self.log.append(f"{trio.current_time():.1f} {what}")
        self.counts[what.split(maxsplit=1)[0]] += 1

    def up(self) -> list[str]:
        """Return who is up."""
        return [name for name in self.names if self.world.is_up(name)]

    def sees_the_chain(self, name: str) -> bool:
        """Whether a node is up, and its chain node answers, with the truth."""
        liar = self.liars.get(name)
        return self.world.is_up(name) and not self.world.seats[name].outage and not (liar and liar.lying)

    def open_channels(self, name: str) -> list[ChannelId]:
        """Return the open channels of a node that is up."""
        return [channel.id for channel in self.world.node(name).channels if channel.phase is Phase.OPEN]

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something so many seconds from now."""

        async def wait() -> None:
            await trio.sleep(seconds)
            act()

        assert self.nursery is not None
        self.nursery.start_soon(wait)
