"""What a node keeps, in SQLite: the parts of all its subjects."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.channels import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.channels import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.sqlite import SCHEMAS as ROUTER_SCHEMAS
from tallystick.sdk.node.whereabouts import PEERS
from tallystick.settlement.following.sqlite import INDEX_SCHEMA
from tallystick.settlement.sending.sqlite import SCHEMA as SETTLEMENT_SCHEMA
from tallystick.watchtower.sqlite import CLIENT_SCHEMA

PEERS_SCHEMA = Schema(PEERS, ("CREATE TABLE peers (key BLOB PRIMARY KEY, address TEXT NOT NULL)",))

SCHEMAS = (
    IDENTITY_SCHEMA,
    CHANNELS_SCHEMA,
    SETTLEMENT_SCHEMA,
    INDEX_SCHEMA,
    PEERS_SCHEMA,
    CLIENT_SCHEMA,
    *ROUTER_SCHEMAS,
)
