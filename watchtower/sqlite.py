"""What a tower and its clients keep, in SQLite, and how that of older versions was brought to this one."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.channels import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.settlement.sending.sqlite import SCHEMA as SETTLEMENT_SCHEMA
from tallystick.watchtower.cover_schema import CLIENT_COVERS, TOWER_COVERS
from tallystick.watchtower.schema import CLIENT, TOWER

TOWER_SCHEMA = Schema(
    TOWER,
    (
        """
CREATE TABLE appointments (
    client BLOB NOT NULL, locator BLOB NOT NULL, revision INTEGER NOT NULL, blob BLOB NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (client, locator));
CREATE INDEX appointments_by_locator ON appointments (locator);
CREATE TABLE cases (channel BLOB PRIMARY KEY, terms BLOB NOT NULL);
CREATE TABLE case_events (
    channel BLOB NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (channel, number, position))
""",
        """
CREATE TABLE appointment_sources (
    client BLOB NOT NULL, locator BLOB NOT NULL, source BLOB NOT NULL, PRIMARY KEY (client, locator));
CREATE INDEX appointment_sources_by_source ON appointment_sources (source);
CREATE INDEX appointment_sources_by_locator ON appointment_sources (locator)
""",
        """
CREATE TABLE timely_claims (
    client BLOB NOT NULL, locator BLOB NOT NULL, source BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (client, locator));
CREATE INDEX timely_claims_by_source ON timely_claims (source)
""",
    ),
)

CLIENT_SCHEMA = Schema(
    CLIENT,
    (
        """
CREATE TABLE tower_coverage (
    tower BLOB NOT NULL, channel BLOB NOT NULL, revision INTEGER NOT NULL, seq0 INTEGER NOT NULL,
    seq1 INTEGER NOT NULL, moved BLOB NOT NULL, receipt BLOB NOT NULL, PRIMARY KEY (tower, channel)) WITHOUT ROWID
""",
        """
CREATE TABLE tower_claims (
    tower BLOB NOT NULL, channel BLOB NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (tower, channel)) WITHOUT ROWID
""",
    ),
)
"""A node that uses towers has this schema in its store."""

TOWER_COVERS_SCHEMA = Schema(
    TOWER_COVERS,
    (
        """
CREATE TABLE offered_covers (
    name BLOB PRIMARY KEY, channel BLOB NOT NULL, client BLOB NOT NULL, ends INTEGER NOT NULL,
    promised INTEGER NOT NULL, terms BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX offered_covers_by_channel ON offered_covers (channel);
CREATE TABLE promised_proofs (
    channel BLOB NOT NULL, client BLOB NOT NULL, sender INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (channel, client, sender))
""",
    ),
)

CLIENT_COVERS_SCHEMA = Schema(
    CLIENT_COVERS,
    (
        """
CREATE TABLE taken_covers (
    name BLOB PRIMARY KEY, channel BLOB NOT NULL, tower BLOB NOT NULL, data BLOB NOT NULL, signature BLOB NOT NULL);
CREATE INDEX taken_covers_by_channel ON taken_covers (channel);
CREATE TABLE taken_promises (
    name BLOB NOT NULL, since INTEGER NOT NULL, seq0 INTEGER NOT NULL, seq1 INTEGER NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (name, since, seq0, seq1))
""",
    ),
)
"""So has one with covers."""

SCHEMAS = (IDENTITY_SCHEMA, SETTLEMENT_SCHEMA, TOWER_SCHEMA, TOWER_COVERS_SCHEMA)
"""What is in a tower's store."""
