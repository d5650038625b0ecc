"""What a node keeps, in SQLite: the parts of all its subjects."""

from __future__ import annotations

from tallystick.channels.node.app_store import APPS_PLAYED
from tallystick.channels.node.virtual_store import VIRTUALS
from tallystick.channels.storage.sqlite.channels import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.channels import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.sqlite import SCHEMAS as ROUTER_SCHEMAS
from tallystick.sdk.node.standings import STANDINGS
from tallystick.sdk.node.whereabouts import PEERS
from tallystick.settlement.following.sqlite import INDEX_SCHEMA
from tallystick.settlement.sending.sqlite import SCHEMA as SETTLEMENT_SCHEMA
from tallystick.watchtower.sqlite import CLIENT_COVERS_SCHEMA, CLIENT_SCHEMA

PEERS_SCHEMA = Schema(PEERS, ("CREATE TABLE peers (key BLOB PRIMARY KEY, address TEXT NOT NULL)",))

_APPS = """
CREATE TABLE apps (
    instance BLOB PRIMARY KEY, peer BLOB NOT NULL, channel BLOB NOT NULL, over INTEGER NOT NULL,
    held BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX apps_played ON apps (over) WHERE over = 0
"""

APPS_SCHEMA = Schema(APPS_PLAYED, (_APPS,))

_VIRTUALS = """
CREATE TABLE virtuals (channel BLOB PRIMARY KEY, over INTEGER NOT NULL, holding BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX virtuals_open ON virtuals (over) WHERE over = 0
"""

VIRTUALS_SCHEMA = Schema(VIRTUALS, (_VIRTUALS,))

_STANDINGS = """
CREATE TABLE standings (
    role TEXT NOT NULL, peer BLOB NOT NULL, kept INTEGER NOT NULL, broken INTEGER NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (role, peer)) WITHOUT ROWID
"""

STANDINGS_SCHEMA = Schema(STANDINGS, (_STANDINGS,))

SCHEMAS = (
    IDENTITY_SCHEMA,
    CHANNELS_SCHEMA,
    SETTLEMENT_SCHEMA,
    INDEX_SCHEMA,
    PEERS_SCHEMA,
    APPS_SCHEMA,
    VIRTUALS_SCHEMA,
    STANDINGS_SCHEMA,
    CLIENT_SCHEMA,
    CLIENT_COVERS_SCHEMA,
    *ROUTER_SCHEMAS,
)
