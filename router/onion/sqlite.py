"""The onions that came, in SQLite."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.onion.replay import ONIONS

SCHEMA = Schema(
    ONIONS,
    (
        "CREATE TABLE onions (tag BLOB PRIMARY KEY, channel BLOB NOT NULL, lock INTEGER NOT NULL, "
        "expiry INTEGER NOT NULL) WITHOUT ROWID; CREATE INDEX onions_by_expiry ON onions (expiry)",
    ),
)
