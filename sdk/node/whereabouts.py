"""Where this node and its peers are: what is told to the network, what is stored, and `connect`.

A stored address is replaced only once the node was reached at the new one, and no attempt ends a connection that works.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import trio

from tallystick.channels.errors import ChannelNotReady, InvalidInput, LinkClosed, PeerError
from tallystick.channels.node.engine import Engine
from tallystick.channels.node.peers import Peers
from tallystick.channels.ports import PeerAddress
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, find, table
from tallystick.router.network.routing import Routing
from tallystick.sdk.node.places import is_one_machine, places_to_announce, places_to_dial

CONNECT_SECONDS = 30.0
"""How long `connect` waits for a peer."""


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


def known_place(store: Store, key: bytes) -> str:
    """Return host and port where a peer was reached, empty if it never was."""
    row = find(store, _PEERS, key)
    return "" if row is None else str(row[1]).partition("@")[2]


@dataclass
class Whereabouts:
    """The addresses of this node and of its peers: see the module's docstring. Made by `Node`."""

    _engine: Engine
    _peers: Peers
    _routing: Routing
    _setting: str
    """`Config.announce_address`."""
    listening: PeerAddress | None = None
    """Where peers connect; None if this node only dials, or does not run yet."""

    def begin(self) -> None:
        """Keep connections to all with whom there is business: where they were, or where they say that they are."""
        for address in known_peers(self._engine.writer.store):
            if self._engine.has_business_with(address.key):
                self._peers.keep(address)
        partners = {key for players in self._engine.players for key in players.partners}
        for key in partners | {channel.peer_key for channel in self._engine.views.channels}:
            self._peers.dialer.seek(key)

    def listen(self, address: PeerAddress | None) -> None:
        """Take in where this node listens."""
        self.listening = address
        self._describe()

    async def connect(self, address: PeerAddress) -> None:
        """Connect to a node and keep the connection; return once it was reached at this address.

        Raise ChannelNotReady if it is not there within CONNECT_SECONDS.
        """
        dialer, key = self._peers.dialer, address.key
        if not self._engine.is_connected(key):
            if all(known.key != key for known in known_peers(self._engine.writer.store)):
                await self._engine.writer.commit([PeerKnown(key, str(address))])
            self._peers.keep(address)
        with trio.move_on_after(CONNECT_SECONDS) as timeout:
            await self._peers.wait_connected(key)
            try:
                await dialer.prove(address)
            except (LinkClosed, PeerError) as error:
                raise ChannelNotReady(
                    f"the node is not at {address}, and its address is kept as it was: the connection with it goes on"
                ) from error
        if timeout.cancelled_caught:
            raise ChannelNotReady(f"{address} does not answer; this node goes on dialing it, try again later")
        self._peers.keep(address)
        await self._engine.writer.commit(())  # what was reached is durable

    def _local(self) -> bool:
        return is_one_machine(self.listening, self._peers.dialer.known_addresses)

    def _describe(self) -> None:
        """Tell the network where we are."""
        self._routing.describe(places_to_announce(self._setting, self.listening, self._local()))

    def on_reached(self, address: PeerAddress) -> None:
        """A node was reached at this address, the first time or after another one."""
        if address not in known_peers(self._engine.writer.store):
            self._engine.writer.add([PeerKnown(address.key, str(address))])
        self._describe()

    def announced_by(self, peer: bytes) -> tuple[str, ...]:
        """Return the addresses, <host>:<port>, that a node tells the network, as far as they may lead to it."""
        return places_to_dial(self._routing.gossip.addresses_of(peer), self._local())
