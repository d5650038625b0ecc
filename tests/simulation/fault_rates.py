"""How bad a storm is, drawn from its seed (`storm`)."""

from __future__ import annotations

import random

import msgspec

from simulation.simulated_network import CHEATS
from tallystick.settlement.testing.chaos import Chaos, Lie

DEPOSIT = 1_000_000
"""Of either side of a channel."""
LOCK_SECONDS = 900
CHALLENGE_PERIOD = LOCK_SECONDS + 700
"""Longer than anybody is away: no towers watch here."""
STEPS = (-366 * 86_400.0, -86_400.0, -600.0, -40.0, 40.0, 600.0, 86_400.0, 366 * 86_400.0)
"""By how many seconds clocks are put forward or back."""

WAYS_TO_CHEAT = (*CHEATS, "repeats itself")


class FaultRates(msgspec.Struct, frozen=True, kw_only=True):
    """How bad a storm is. Rates are shares of all steps."""

    nodes: int
    pairs: tuple[tuple[int, int, bool], ...]
    """Pairs of nodes that share a channel, and whether it is in the token; some share two."""
    shy: bool
    """Whether the last node keeps its channels out of gossip."""
    cheat: str
    """What the second node does to others; empty: nothing."""
    shares: bool
    """Whether two pay one invoice now and then."""
    steps: int
    pause: float
    aftermath: float
    """Seconds after the last step in which it goes on to rage, with nobody asking for anything."""
    interval: float
    confirmations: int
    delay: float
    crashes: float
    sleeps: float
    """Of crashes after which a node stays away past all expiries."""
    cuts: float
    outages: float
    reorganisations: float
    closes: float
    policies: float
    chaos: Chaos | None
    """How the chain node of each lies; None: all tell the truth."""
    strangers: int
    """How many knock at the nodes' doors."""
    clocks: float
    """How often somebody's clock is put forward or back."""


def draw_rates(rng: random.Random, steps: int, *, small: bool = False) -> FaultRates:
    """Draw a storm, or one for few nodes; each kind of fault is absent in some."""

    def rate(most: float) -> float:
        return round(rng.choice((0.0, most / 4, most)), 3)

    nodes = rng.choice((3, 3, 4) if small else (4, 5, 6))
    ring = [(index, (index + 1) % nodes, False) for index in range(nodes)]
    pairs = rng.choice((nodes, nodes + 1)) if small else rng.choice((7, 8, 9))
    others = [tuple(sorted(rng.sample(range(nodes), 2))) for _ in range(pairs - nodes)]
    token = rng.random() < 0.4
    return FaultRates(
        nodes=nodes,
        pairs=(*ring, *((one, other, token) for one, other in others)),
        shy=rng.random() < 0.6,
        cheat=rng.choice(("", "", *WAYS_TO_CHEAT)),
        shares=rng.random() < 0.4,
        steps=steps,
        pause=rng.choice((1.0, 5.0, 15.0)),
        aftermath=rng.choice((0.0, 60.0, 60.0, 250.0, LOCK_SECONDS + 200.0)),
        interval=rng.choice((15.0, 30.0) if small else (5.0, 10.0, 20.0)),
        confirmations=rng.choice((2, 3)),
        delay=rng.choice((0.002, 0.05, 0.5)),
        crashes=rate(0.12),
        sleeps=rng.choice((0.0, 0.2)),
        cuts=rate(0.12),
        outages=rate(0.06),
        reorganisations=rate(0.06),
        closes=rate(0.05),
        policies=rate(0.06),
        chaos=_draw_chaos(rng),
        strangers=rng.choice((0, 1, 3) if small else (0, 2, 6)),
        clocks=rate(0.06),
    )


def _draw_chaos(rng: random.Random) -> Chaos | None:
    """Draw how chain nodes lie: not at all, in a few ways, or in all."""
    lies = rng.choice(((), *(tuple(rng.sample(list(Lie), count)) for count in (1, 3, 3)), tuple(Lie), tuple(Lie)))
    return (
        Chaos(
            lies=lies,
            rate=rng.choice((0.1, 0.5, 0.9)),
            spell=(5.0, rng.choice((20.0, 120.0, 400.0))),
            calm=(1.0, rng.choice((10.0, 60.0))),
            lag=rng.choice((2, 12)),
        )
        if lies
        else None
    )
