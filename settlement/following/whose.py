"""What the following of a chain and the sending of transactions say about whose data a directory holds."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.identity import Identity
from tallystick.channels.storage.store import Store


def said_by_settlement(store: Store) -> Iterator[Identity]:
    """Return whose obligations there are, and which chains were followed."""
    for chain_id, account in store.read("SELECT DISTINCT chain_id, account FROM obligations"):
        yield Identity(Address(account), chain_id)
    for (chain_id,) in store.read("SELECT DISTINCT chain_id FROM followed_headers"):
        yield Identity(chain_id=chain_id)
