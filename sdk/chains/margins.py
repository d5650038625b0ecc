"""How much longer a lock on one chain must live than the lock on another that is to pay for it. Pure; docs/chains.md.

A maker is paid by locks on the *source*, until its time to settle is over there (`until`, some time before they
expire), and pays by locks on the *target*, which expire at `expires`. Its payee may show the secret on the target in
the last block that still counts. From then on until the maker has settled on the source there may pass, one after the
other:

    the target    a reorganisation of `depth` blocks brings the block with the secret, after it stood still for `stall`;
                  the maker's node, which was down for `absence`, sees it `look` later
    two clocks    the source's is ahead by what its newest block showed (`skew` at most, or nothing is begun), and by
                  the age of that block: `look` and a block
    the source    stands still for `stall`, and is seen `look` later; a node that was down goes on with what it holds a
                  block after the one that shows it that its view is up to date

The sum is `margin`; whoever begins no payment on the target with `expires + margin > until` is paid for each. After
`until`, the secret has to be mined on the source before the lock expires there: `claim_seconds`, which the node keeps
between both. One registry decides locks of two assets on one chain, with one clock: there, only the first part is left.
"""

from __future__ import annotations

import math
from typing import Annotated

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Count, Seconds
from tallystick.channels.values.argument_rules import Real, Whole
from tallystick.channels.values.arguments import Options
from tallystick.settlement.following.freshness import BOUND
from tallystick.settlement.port import ChainFigures

Pace = Annotated[float, Real(0.001, 86_400)]
Blocks = Annotated[int, Whole(1, 2**20)]


class ChainRisk(Options, frozen=True, kw_only=True):
    """What a maker takes one chain to be capable of, at its worst. Times in seconds."""

    block_seconds: Pace
    """Between two blocks, when the chain goes on."""
    depth: Blocks = 3
    """The most blocks that a reorganisation replaces."""
    inclusion: Blocks = 3
    """Blocks within which what pays enough is mined."""
    stall: Seconds = 600
    """How long the chain may stand still, in all, while one payment crosses."""
    look: Seconds = BOUND
    """How long after a block our node has seen it, if it runs."""


class MakerRisk(Options, frozen=True, kw_only=True):
    """What a maker takes into account of itself, and of any two chains together. Times in seconds."""

    absence: Count = 600
    """How long it may be down while a payment crosses."""
    skew: Count = 60
    """How far the clock of a source may be ahead of a target's, by their newest blocks, for anything to be begun."""


def risk_of(figures: ChainFigures, confirmations: int) -> ChainRisk:
    """Return what to take into account of a chain of which nothing else is known than how it moves."""
    return ChainRisk(block_seconds=figures.block_seconds, depth=max(confirmations, figures.confirmations))


def _blocks(count: int, chain: ChainRisk) -> int:
    return math.ceil(count * chain.block_seconds)


def seen_seconds(target: ChainRisk, maker: MakerRisk) -> int:
    """Return how long after a lock's expiry on the target a secret that came in time may become known to the maker."""
    return _blocks(target.depth + 1, target) + math.ceil(target.stall + target.look) + maker.absence


def margin(source: ChainRisk, target: ChainRisk, maker: MakerRisk, *, one_registry: bool = False) -> int:
    """Return by how many seconds the time to settle on the source must end after the locks on the target expire."""
    if one_registry:
        return seen_seconds(target, maker)
    clocks = maker.skew + math.ceil(source.look) + _blocks(1, source)
    return seen_seconds(target, maker) + clocks + math.ceil(source.stall + source.look) + _blocks(1, source)


def claim_seconds(source: ChainRisk) -> int:
    """Return how long a secret may take on the source until it is registered to stay, if the chain goes on."""
    return _blocks(source.depth + source.inclusion + 1, source) + math.ceil(source.look)


def check_source(source: ChainRisk, *, settles_before: int, registers_before: int) -> None:
    """Raise InvalidInput unless a node gives itself the time that the source needs.

    `settles_before`, `registers_before`: seconds before a lock's expiry up to which a held payment is settled, and from
    which on its secret goes to the chain if the peer did not pay.
    """
    least = claim_seconds(source)
    if settles_before < least:
        raise InvalidInput(
            f"a held payment may be settled until {settles_before} s before its locks expire, and here a secret "
            f"may take {least} s until it is registered to stay: raise payments.patience.claim to {2 * least}"
        )
    needed = least + math.ceil(source.stall)
    if registers_before < needed:
        raise InvalidInput(
            f"secrets go to the chain {registers_before} s before a lock expires, and this chain may stand still for "
            f"{math.ceil(source.stall)} s: raise duties.secret_margin to {needed}"
        )
