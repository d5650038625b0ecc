"""How an account sends: counts of blocks, tries, money. They follow the chain's pace and its depth. Pure."""

from __future__ import annotations

from tallystick.channels.values.arguments import Options
from tallystick.settlement.port import PACE, ChainFigures

LOOKS_KEPT = 20
"""Heads of which is remembered what the chain said."""

AHEAD = 60
"""Seconds that a head's time is believed to be ahead of the confirmed time, if blocks come as they should."""


class SendingPolicy(Options, frozen=True, kw_only=True):
    """How an account sends."""

    confirmations: int = 3
    """Depth (1: in the head block) at which a receipt counts."""
    resting_depth: int = 128
    """Depth at which nothing is expected to change any more."""
    patience: int = 50
    """The window, in blocks, of an obligation without a deadline."""
    in_flight: int = 16
    """Nonces bound and not mined; chain nodes drop what is too far ahead. Twice as many if the rest pay the way."""
    tries: int = 5
    """Times that a call may fail before it is quarantined, or be refused before its nonce is used up otherwise."""
    together: int = 32
    """Calls that travel in one transaction at most; 1: each alone."""
    filler_budget: int = 10**16
    """The most to pay in fees for using up one nonce."""
    pace: int = 1
    """How many blocks take as long as one of `PACE` seconds: by that, counts of blocks that stand for a time are
    multiplied."""

    @property
    def heads(self) -> int:
        """Heads in a row, looked at each, over which the chain has to say the same: `confirmations`, if as many are
        remembered."""
        return min(self.confirmations, LOOKS_KEPT - 1)

    @property
    def ahead(self) -> float:
        """Seconds that a head's time is believed to be ahead of the confirmed time at most."""
        return max(AHEAD, 2 * (self.confirmations - 1) * PACE / self.pace)


def policy_for(figures: ChainFigures, confirmations: int | None = None) -> SendingPolicy:
    """Return how an account sends on a chain; `confirmations`: None takes what is enough for little."""
    depth = figures.confirmations if confirmations is None else confirmations
    usual = SendingPolicy()
    return SendingPolicy(
        confirmations=depth,
        resting_depth=max(usual.resting_depth, figures.final_blocks, depth),
        patience=usual.patience * figures.pace,
        pace=figures.pace,
    )
