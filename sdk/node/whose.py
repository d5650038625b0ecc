"""What a node's data of version 0.1.0, which did not remember it, says about whose it is."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.storage.identity import Identity
from tallystick.channels.storage.schema import load_channels
from tallystick.channels.storage.store import Store
from tallystick.settlement.sending.moments import said_by_settlement


def said_by_node(store: Store) -> Iterator[Identity]:
    """Return whose channels there are, and whose transactions."""
    for channel in load_channels(store):
        terms = channel.terms
        yield Identity(terms.participants[channel.side], terms.chain_id, terms.contract)
    yield from said_by_settlement(store)
