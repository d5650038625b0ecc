"""How bad the world of a campaign is, drawn from its seed."""

from __future__ import annotations

import random

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How bad a world is. Rates are shares of all steps."""

    steps: int
    """Things that happen in the safety phase."""
    pause: float
    """Seconds between two of them, at most."""
    interval: float
    """Seconds between blocks."""
    confirmations: int
    window: int
    delay: float
    """Seconds that a message takes at most."""
    crashes: float
    cuts: float
    reorganisations: float
    outages: float
    congestion: float
    closes: float
    peers: tuple[str, ...]
    streams: bool = False
    """Whether there are streams among what is paid."""


def draw_options(rng: random.Random, steps: int, streams: bool = False) -> Options:
    """Draw a world, with streams or without; each kind of fault is absent in some worlds."""

    def rate(most: float) -> float:
        return round(rng.choice((0.0, most / 4, most)), 3)

    return Options(
        steps=steps,
        pause=rng.choice((0.05, 1.0, 20.0)),
        interval=rng.choice((2.0, 5.0, 12.0)),
        confirmations=rng.choice((1, 2, 3, 6)),
        window=rng.choice((1, 2, 8, 64)),
        delay=rng.choice((0.001, 0.02, 1.0)),
        crashes=rate(0.12),
        cuts=rate(0.2),
        reorganisations=rate(0.1),
        outages=rate(0.06),
        congestion=rate(0.04),
        closes=rate(0.04),
        peers=rng.choice((("alice", "bob"), ("alice", "bob", "carol"))),
        streams=streams,
    )
