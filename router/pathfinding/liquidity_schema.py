"""What is kept of the learned liquidity: one row per channel, replaced as payments teach, pruned with the belief.

Each asset has a `Knowledge` of its own, whose rows are told apart by the asset.

Nothing hangs on these rows but the quality of plans: they may be written late, and lost without harm.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store
from tallystick.router.pathfinding.beliefs import Belief
from tallystick.router.pathfinding.liquidity import Changes


class BeliefLearned(Moment, frozen=True):
    """What is known of a channel changed."""

    channel: ChannelId
    belief: Belief
    asset: Address


class BeliefsForgotten(Moment, frozen=True):
    """Nothing is known any more of an asset's channels last heard of before that time."""

    before: float
    asset: Address


def moments_of(changes: Changes, asset: Address = NATIVE) -> list[Moment]:
    """Return what to commit of what was learned in one asset, in order."""
    moments: list[Moment] = []
    if changes.forgotten_before > -math.inf:
        moments.append(BeliefsForgotten(changes.forgotten_before, asset))
    return [*moments, *(BeliefLearned(channel, belief, asset) for channel, belief in changes.learned)]


_MIGRATION_1 = """
CREATE TABLE liquidity (
    channel BLOB PRIMARY KEY, lower BLOB NOT NULL, upper BLOB NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX liquidity_by_time ON liquidity (time)
"""

_MIGRATION_2 = f"ALTER TABLE liquidity ADD COLUMN asset BLOB NOT NULL DEFAULT x'{NATIVE.hex()}'"

_WIDTH = 17
"""Bytes of an amount: one more than the largest amount takes, as `upper` may be capacity + 1."""


def _learned(connection: sqlite3.Connection, moment: BeliefLearned) -> None:
    belief = moment.belief
    lower, upper = belief.lower.to_bytes(_WIDTH, "big"), belief.upper.to_bytes(_WIDTH, "big")
    connection.execute(
        "INSERT OR REPLACE INTO liquidity (channel, lower, upper, time, asset) VALUES (?, ?, ?, ?, ?)",
        (moment.channel, lower, upper, belief.time, moment.asset),
    )


def _forgotten(connection: sqlite3.Connection, moment: BeliefsForgotten) -> None:
    connection.execute("DELETE FROM liquidity WHERE time < ? AND asset = ?", (moment.before, moment.asset))


SCHEMA = Schema(
    "liquidity",
    (_MIGRATION_1, _MIGRATION_2),
    {BeliefLearned: _learned, BeliefsForgotten: _forgotten},
    (Sealed("liquidity", heal=True),),
)


def load_beliefs(store: Store, asset: Address = NATIVE) -> Iterator[tuple[ChannelId, Belief]]:
    """Yield what was known of each channel in an asset, the oldest first: for `Knowledge.restore`."""
    sql = "SELECT channel, lower, upper, time FROM liquidity WHERE asset = ? ORDER BY time"
    for channel, lower, upper, time in store.read(sql, (asset,)):
        yield ChannelId(channel), Belief(int.from_bytes(lower, "big"), int.from_bytes(upper, "big"), time)
