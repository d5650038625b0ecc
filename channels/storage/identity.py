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
from tallystick.channels.storage.tables import Reader, Rows, table


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


def read_identity(store: Reader) -> Identity | None:
    """Return whose the data is, None if it was never said."""
    rows = store.read(_IDENTITY.rows())
    return Identity(Address(rows[0][0]), int(rows[0][1]), Address(rows[0][2])) if rows else None


def claim_directory(store: Store, ours: Identity, known: Iterable[Identity], place: str) -> None:
    """See to it that the data in `place` is ours, and stays so; `known` is what the data itself says, if it is older.

    Raise StoreForeign if it is another one's: then nothing was done.
    """
    said = read_identity(store)
    for theirs in [said] if said is not None else known:
        compare_identities(theirs, ours, place)
    if said is None:
        store.commit([DirectoryClaimed(ours)])


def compare_identities(theirs: Identity, ours: Identity, place: str) -> None:
    """Raise StoreForeign if the data in `place` is `theirs`, and that is not what `ours` is."""
    for said, own, kind, cure in (
        (theirs.account, ours.account, "the key", "the key that it belongs to"),
        (theirs.chain_id, ours.chain_id, "the chain", "a node of that chain"),
        (theirs.contract, ours.contract, "the contract", "its own contract"),
    ):
        if said is not None and said != own:
            raise StoreForeign(
                f"the data in {place} belongs to {kind} {shown(said)}, and this is {kind} {shown(own)}: nothing was "
                f"done; give it {cure}, or choose another directory"
            )


def shown(part: bytes | int | None) -> str:
    """Return an address, or a chain's id, as people read it."""
    return f"0x{part.hex()}" if isinstance(part, bytes) else "none" if part is None else f"of id {part}"
