"""Campaigns on a real chain that is unwell: a story is lived through while its node, its fees and its pool misbehave.

    PYTHONPATH=tests python -m simulation.unwell --seed 1 --runs 10

What goes wrong when is drawn from the seed, and printed. A real node's blocks have hashes that no seed fixes, so what
is replayed is alike, not equal. Afterwards all is well, and then nobody honest may have lost a unit (`unwell_checks`).
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import trio

from simulation import seeds
from simulation.seeds import replayed
from simulation.unwell_checks import check_alarms, check_coins, check_fees, check_raises, counts
from simulation.unwell_story import STEPS, Story
from simulation.unwell_world import UnwellWorld, open_unwell_world, unwell_chain
from tallystick.channels.testing.scheduling import simulate
from tallystick.settlement.testing.unwell import Illness

RISE = 1.125
"""By how much the base fee rises at most from one block to the next (EIP-1559)."""

MOST_IN_VAIN = 6
"""Calls that one account may send in vain to a node that is ill and the only one: it hides what was done already."""

RESTLESS = ("lock", "cheat")
"""Steps in which somebody may crash: the others wait for what a node was asked."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong in one campaign. By default all is well."""

    urls: int = 1
    sick: int = 1
    """URLs that are ill."""
    illnesses: tuple[tuple[Illness, ...], ...] = ((),) * len(STEPS)
    """By step."""
    rate: float = 0.2
    """Share of the requests that meet an illness."""
    forgets: float = 0.0
    """Share of the blocks before which what waits to be mined is thrown away."""
    rise: int = 0
    """Blocks for which the base fee rises as fast as it can, and falls again."""
    rise_at: str = "lock"
    restarts: tuple[tuple[str, float, float], ...] = ()
    """The chain's node ends: in which step, after how many seconds, for how many."""
    crashes: tuple[tuple[str, str, float, float], ...] = ()
    """Somebody crashes: in which step, who, after how many seconds, for how many."""

    @property
    def is_lied_to(self) -> bool:
        """Whether what a node says may be wrong, and there is no other one to ask."""
        return self.sick == self.urls and any(self.illnesses)


def draw_plan(rng: random.Random) -> Plan:
    """Return a plan of a seed."""
    urls = rng.choice((1, 2))
    kinds = tuple(Illness)
    restarts = [(step, rng.uniform(1, 200), rng.uniform(1, 60)) for step in STEPS if rng.random() < 0.3]
    crashes = [
        (step, {"lock": "bob", "cheat": "tower"}[step], rng.uniform(1, 250), rng.uniform(1, 120))
        for step in RESTLESS
        if rng.random() < 0.4
    ]
    return Plan(
        urls=urls,
        sick=rng.randrange(1, urls + 1),
        illnesses=tuple(tuple(rng.sample(kinds, rng.choice((0, 1, 3, 6)))) for _ in STEPS),
        rate=rng.choice((0.1, 0.2, 0.3)),
        forgets=rng.choice((0.0, 0.0, 0.2, 0.4)),
        rise=rng.choice((0, 0, 20, 60)),
        rise_at=rng.choice(STEPS),
        restarts=tuple(restarts),
        crashes=tuple(crashes),
    )


def rising(blocks: int, start: int) -> Iterator[int]:
    """Give the base fees of blocks: they rise as fast as they can, and fall as fast."""
    fees = [int(start * RISE**number) for number in range(1, blocks + 1)]
    yield from fees
    yield from reversed(fees)


class Campaign:
    """One story under one plan."""

    def __init__(self, unwell: UnwellWorld, plan: Plan) -> None:
        self.unwell = unwell
        self.plan = plan
        self.story = Story(unwell, self._on_step)
        self.log: list[str] = []
        self.nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Live through it, and check everything; raise Violation or AssertionError."""
        async with trio.open_nursery() as self.nursery:
            if self.plan.forgets:
                self.unwell.before_block = self._forget
            await self.story.run()
            self.nursery.cancel_scope.cancel()
        self._note("rest")
        check_coins(self.story)
        check_fees(self.unwell, vain=MOST_IN_VAIN if self.plan.is_lied_to else 0)
        check_raises(self.unwell)
        check_alarms(self.unwell)

    def _note(self, what: str) -> None:
        self.log.append(f"{trio.current_time():8.1f} s  block {self.unwell.height:4}  {what}")

    async def _on_step(self, step: str) -> None:
        self._note(step)
        plan, unwell = self.plan, self.unwell
        unwell.sicken(*plan.illnesses[STEPS.index(step)], rate=plan.rate, urls=plan.sick)
        if plan.rise and plan.rise_at == step:
            unwell.base = rising(plan.rise, unwell.base_fee)
        assert self.nursery is not None
        for at, after, seconds in plan.restarts:
            if at == step:
                self.nursery.start_soon(self._restart, after, seconds)
        for at, who, after, seconds in plan.crashes:
            if at == step:
                self.nursery.start_soon(self._crash, who, after, seconds)

    def _forget(self) -> None:
        if self.unwell.rng.random() < self.plan.forgets:
            self.unwell.forget()

    async def _restart(self, after: float, seconds: float) -> None:
        await trio.sleep(after)
        if not self.unwell.is_down and self.story.step != "rest":
            self._note("the node ends")
            self.unwell.stop_node()
            await trio.sleep(seconds)
            self.unwell.start_node()
            self._note("the node is back")

    async def _crash(self, who: str, after: float, seconds: float) -> None:
        await trio.sleep(after)
        self._note(f"{who} crashes")
        if who == "tower":
            await self.unwell.crash_tower()
        else:
            await self.unwell.world.crash(who)
        await trio.sleep(seconds)
        self._note(f"{who} begins again")
        await (self.unwell.start_tower() if who == "tower" else self.unwell.begin(who))


class Report(msgspec.Struct, frozen=True):
    """How a campaign went."""

    seed: int
    plan: Plan
    blocks: int
    ill: int
    """Requests that met an illness."""
    alarms: dict[str, Counter[str]]
    """What was told, by whom and of which kind."""
    log: tuple[str, ...]


def run_unwell(seed: int, plan: Plan | None = None) -> Report:
    """Run the campaign of a seed to its end; raise Failed with the line that replays it."""
    chosen = plan or draw_plan(random.Random(seed))
    log: list[str] = []

    async def main() -> Report:
        async with open_unwell_world(seed, mortal, chosen.urls) as unwell:
            campaign = Campaign(unwell, chosen)
            campaign.log = log
            await campaign.run()
            ill = sum(sum(wire.done.values()) for wires in unwell.wires.values() for wire in wires)
            return Report(seed, chosen, unwell.height, ill, counts(unwell), tuple(log))

    with unwell_chain() as mortal, replayed("unwell", f"--seed {seed}", lambda: "\n".join([repr(chosen), *log])):
        return simulate(main, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run campaigns from a first seed on; print one line each; return how many failed."""
    chosen = seeds.options("Run campaigns on a real chain that is unwell.").parse_args(arguments)

    def run(seed: int) -> str:
        report = run_unwell(seed)
        told = {name: dict(kinds) for name, kinds in report.alarms.items() if kinds}
        return f"seed {seed}: {report.blocks} blocks, {report.ill} requests met an illness, told {told}"

    return seeds.run_seeds(chosen, run)


if __name__ == "__main__":
    sys.exit(main())
