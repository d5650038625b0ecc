"""The issued invoices in SQLite, and how those of older versions were brought to this one."""

from __future__ import annotations

from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.receiving.issued import INVOICES

_MIGRATION_1 = """
CREATE TABLE invoices (
    hash BLOB PRIMARY KEY, position INTEGER NOT NULL, payment_secret BLOB NOT NULL, secret BLOB NOT NULL,
    amount BLOB NOT NULL, hold INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    memo TEXT NOT NULL, text TEXT NOT NULL, ended INTEGER, received BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX invoices_by_position ON invoices (position)
"""

_MIGRATION_2 = """
ALTER TABLE invoices ADD COLUMN paid INTEGER;
UPDATE invoices SET paid = position WHERE received > zeroblob(16);
CREATE UNIQUE INDEX invoices_by_claim ON invoices (paid) WHERE paid IS NOT NULL
"""

_MIGRATION_3 = """
ALTER TABLE invoices ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
CREATE INDEX invoices_of_others ON invoices (position) WHERE NOT own
"""

_MIGRATION_4 = f"ALTER TABLE invoices ADD COLUMN asset BLOB NOT NULL DEFAULT x'{NATIVE.hex()}'"

SCHEMA = Schema(INVOICES, (_MIGRATION_1, _MIGRATION_2, _MIGRATION_3, _MIGRATION_4))
