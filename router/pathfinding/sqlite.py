"""The learned liquidity in SQLite."""

from __future__ import annotations

from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.pathfinding.liquidity_schema import LIQUIDITY

_MIGRATION_1 = """
CREATE TABLE liquidity (
    channel BLOB PRIMARY KEY, lower BLOB NOT NULL, upper BLOB NOT NULL, time REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX liquidity_by_time ON liquidity (time)
"""

_MIGRATION_2 = f"ALTER TABLE liquidity ADD COLUMN asset BLOB NOT NULL DEFAULT x'{NATIVE.hex()}'"

SCHEMA = Schema(LIQUIDITY, (_MIGRATION_1, _MIGRATION_2))
