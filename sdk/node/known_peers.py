"""Where peers were last found, so that a restarted node dials them again."""

from __future__ import annotations

import contextlib

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, table


class PeerKnown(Moment, frozen=True):
    """A peer's address, as the user gave it."""

    key: bytes
    address: str


_PEERS = table("peers", "key address", learned=True)


def _known(rows: Rows, moment: PeerKnown) -> None:
    rows.put(_PEERS, moment.key, moment.address)


PEERS = Subject("peers", (_PEERS,), {PeerKnown: _known})


def known_peers(store: Store) -> list[PeerAddress]:
    """Return the addresses of all peers that were ever connected to.

    What is none any more (older versions looked less closely) is left out: it must not keep a node from starting.
    """
    found = []
    for _, address in store.read(_PEERS.rows()):
        with contextlib.suppress(InvalidInput):
            found.append(PeerAddress.parse(address))
    return found
