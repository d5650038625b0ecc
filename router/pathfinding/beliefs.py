"""What is believed of the balance of others' channels: before anything is known, and by what passed or failed.

What was learned is stored: one row per channel, replaced as payments teach, pruned with the belief. Each asset has a
`Knowledge` of its own, whose rows are told apart by the asset. Nothing hangs on these rows but the quality of plans:
they may be written late, and lost without harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, below, table


class Prior(msgspec.Struct, frozen=True):
    """How balances are distributed before anything is known, by share of the capacity.

    The density falls as exp(−slope · share) from both ends towards the middle; slope 0 is uniform.
    """

    slope: float = 10.0

    def below(self, share: float) -> float:
        """Return how probable a balance under that share of the capacity is."""
        share = min(1.0, max(0.0, share))
        if self.slope <= 0.0:
            return share
        ends = math.exp(-self.slope)
        return 0.5 * (1.0 - math.exp(-self.slope * share) + math.exp(self.slope * (share - 1.0)) - ends) / (1.0 - ends)


BIMODAL = Prior()
UNIFORM = Prior(0.0)


class Belief(msgspec.Struct, frozen=True):
    """What is known of a channel's direction to that of its ends whose key is the smaller one."""

    lower: int
    """That much passed."""
    upper: int
    """That much did not; more than the capacity: nothing failed yet."""
    time: float

    def with_fading(self, capacity: int, now: float, half_life: float) -> Belief:
        """Return what is left of it."""
        if now <= self.time:
            return self
        left = 2.0 ** (-(now - self.time) / half_life)
        lower = int(self.lower * left)
        return Belief(lower, max(lower + 1, capacity + 1 - int((capacity + 1 - self.upper) * left)), now)

    def with_ends_swapped(self, capacity: int) -> Belief:
        """Return the same of the other direction."""
        return Belief(max(0, capacity + 1 - self.upper), max(1, capacity + 1 - self.lower), self.time)

    def passes(self, amount: int, capacity: int) -> Belief:
        """Return it with the news that `amount` passed. Where news contradicts, what was known is out of date."""
        upper = self.upper if self.upper > amount else capacity + 1
        return Belief(max(self.lower, min(amount, capacity)), upper, self.time)

    def fails(self, amount: int) -> Belief:
        """Return it with the news that `amount` did not pass."""
        return Belief(self.lower if self.lower < amount else 0, max(1, min(self.upper, amount)), self.time)

    def with_payment(self, amount: int, capacity: int) -> Belief:
        """Return it after `amount` was paid over the direction."""
        lower = min(capacity, max(0, self.lower - amount))
        return Belief(lower, max(lower + 1, min(capacity + 1, self.upper - amount)), self.time)


# --- what is stored ---------------------------------------------------------------------------------------------


class BeliefLearned(Moment, frozen=True):
    """What is known of a channel changed."""

    channel: ChannelId
    belief: Belief
    asset: Address


class BeliefsForgotten(Moment, frozen=True):
    """Nothing is known any more of an asset's channels last heard of before that time."""

    before: float
    asset: Address


_WIDTH = 17
"""Bytes of an amount: one more than the largest amount takes, as `upper` may be capacity + 1."""

_LIQUIDITY = table("liquidity", "channel lower upper time asset", learned=True)


def _learned(rows: Rows, moment: BeliefLearned) -> None:
    belief = moment.belief
    lower, upper = belief.lower.to_bytes(_WIDTH, "big"), belief.upper.to_bytes(_WIDTH, "big")
    rows.put(_LIQUIDITY, moment.channel, lower, upper, belief.time, moment.asset)


def _forgotten(rows: Rows, moment: BeliefsForgotten) -> None:
    rows.delete(_LIQUIDITY, below("time", moment.before), asset=moment.asset)


LIQUIDITY = Subject("liquidity", (_LIQUIDITY,), {BeliefLearned: _learned, BeliefsForgotten: _forgotten})


def load_beliefs(store: Store, asset: Address = NATIVE) -> Iterator[tuple[ChannelId, Belief]]:
    """Yield what was known of each channel in an asset, the oldest first: for `Knowledge.restore`."""
    for channel, lower, upper, time, _ in store.read(_LIQUIDITY.rows(asset=asset, order=("time", "channel"))):
        yield ChannelId(channel), Belief(int.from_bytes(lower, "big"), int.from_bytes(upper, "big"), time)
