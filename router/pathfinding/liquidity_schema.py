"""What is kept of the learned liquidity: one row per channel, replaced as payments teach, pruned with the belief.

Each asset has a `Knowledge` of its own, whose rows are told apart by the asset.

Nothing hangs on these rows but the quality of plans: they may be written late, and lost without harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, below, table
from tallystick.router.pathfinding.beliefs import Belief


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
