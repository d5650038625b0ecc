"""Where peers were last found, so that a restarted node dials them again."""

from __future__ import annotations

import contextlib
import sqlite3

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store


class PeerKnown(Moment, frozen=True):
    """A peer's address, as the user gave it."""

    key: bytes
    address: str


def _write(connection: sqlite3.Connection, moment: PeerKnown) -> None:
    connection.execute("INSERT OR REPLACE INTO peers VALUES (?, ?)", (moment.key, moment.address))


PEERS_SCHEMA = Schema(
    "peers",
    ("CREATE TABLE peers (key BLOB PRIMARY KEY, address TEXT NOT NULL)",),
    {PeerKnown: _write},
    (Sealed("peers", heal=True),),
)


def known_peers(store: Store) -> list[PeerAddress]:
    """Return the addresses of all peers that were ever connected to.

    What is none any more (older versions looked less closely) is left out: it must not keep a node from starting.
    """
    found = []
    for (address,) in store.read("SELECT address FROM peers ORDER BY key"):
        with contextlib.suppress(InvalidInput):
            found.append(PeerAddress.parse(address))
    return found
