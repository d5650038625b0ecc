"""What a node keeps, in SQLite: the parts of all its subjects."""

from __future__ import annotations

from tallystick.channels.storage.sqlite.channels import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.storage.sqlite.identity import IDENTITY_SCHEMA
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.router.forwarding.sqlite import SCHEMA as CIRCUITS_SCHEMA
from tallystick.router.gossip.sqlite import GOSSIP_SCHEMA
from tallystick.router.onion.sqlite import SCHEMA as REPLAY_SCHEMA
from tallystick.router.pathfinding.sqlite import SCHEMA as LIQUIDITY_SCHEMA
from tallystick.router.receiving.sqlite import SCHEMA as INVOICES_SCHEMA
from tallystick.router.sending.sqlite import SCHEMA as PAYMENTS_SCHEMA
from tallystick.sdk.node.known_peers import PEERS
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
    CIRCUITS_SCHEMA,
    REPLAY_SCHEMA,
    PAYMENTS_SCHEMA,
    INVOICES_SCHEMA,
    LIQUIDITY_SCHEMA,
    GOSSIP_SCHEMA,
)
