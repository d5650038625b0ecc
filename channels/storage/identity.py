"""Whose a data directory is.

From its first commit on, a directory remembers whose data it holds: which key's, on which chain, under which contract.
Opened for another one, everything in it would be taken for something that it is not, down to closing the channels of
others, so it is refused by name before anything is done. Directories of version 0.1.0 did not remember it: `known` is
what follows from the rest of their data.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import StoreForeign
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Rows, table


class Identity(msgspec.Struct, frozen=True):
    """Whose data it is. None: unknown."""

    account: Address | None = None
    chain_id: int | None = None
    contract: Address | None = None


class DirectoryClaimed(Moment, frozen=True):
    """The data is this one's from now on."""

    identity: Identity


_IDENTITY = table("identity", "account chain_id contract")


def _claimed(rows: Rows, moment: DirectoryClaimed) -> None:
    identity = moment.identity
    rows.add(_IDENTITY, identity.account, str(identity.chain_id), identity.contract)


IDENTITY = Subject("identity", (_IDENTITY,), {DirectoryClaimed: _claimed})


def read_identity(store: Store) -> Identity | None:
    """Return whose the data is, None if it was never said."""
    rows = store.read(_IDENTITY.rows())
    return Identity(Address(rows[0][0]), int(rows[0][1]), Address(rows[0][2])) if rows else None


def claim_directory(store: Store, ours: Identity, known: Iterable[Identity], place: str) -> None:
    """See to it that the data in `place` is ours, and stays so; `known` is what the data itself says, if it is older.

    Raise StoreForeign if it is another one's: then nothing was done.
    """
    said = read_identity(store)
    for theirs in [said] if said is not None else known:
        _compare(theirs, ours, place)
    if said is None:
        store.commit([DirectoryClaimed(ours)])


def _compare(theirs: Identity, ours: Identity, place: str) -> None:
    if theirs.account is not None and theirs.account != ours.account:
        raise StoreForeign(
            f"the data in {place} belongs to the key {shown(theirs.account)}, and this is the key "
            f"{shown(ours.account)}: nothing was done; give it the key that it belongs to, or choose another directory"
        )
    if theirs.chain_id is not None and theirs.chain_id != ours.chain_id:
        raise StoreForeign(
            f"the data in {place} belongs to the chain of id {theirs.chain_id}, and this is the chain {ours.chain_id}: "
            "nothing was done; give it a node of that chain, or choose another directory"
        )
    if theirs.contract is not None and theirs.contract != ours.contract:
        raise StoreForeign(
            f"the data in {place} belongs to the contract {shown(theirs.contract)}, and this is the contract "
            f"{shown(ours.contract)}: nothing was done; give it its own contract, or choose another directory"
        )


def shown(address: bytes | None) -> str:
    """Return an address as people read it."""
    return "none" if address is None else f"0x{address.hex()}"
