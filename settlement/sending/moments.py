"""What following a chain and sending transactions write to the store: `SCHEMA`, its moments and their readers.

Two tables, both keyed by chain id, so that one store may serve several chains. `followed_headers` holds the last
headers of the branch that was followed, and its first for ever: the newest is the position. `obligations` holds every
obligation ever taken on, one row each, replaced in place and never deleted.
"""

from __future__ import annotations

import sqlite3

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.seals import Sealed
from tallystick.channels.storage.store import Moment, Schema, Store, decoded
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import read_revert
from tallystick.settlement.following.follower import HEADERS_KEPT, BlockAdded, BlockRemoved, Followed, Step
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationBook, book_of, change


class ChainAdvanced(Moment, frozen=True):
    """The block of `header` was followed, and what it brought is in the same commit."""

    chain_id: int
    header: Header
    kept: int = HEADERS_KEPT


class ChainRewound(Moment, frozen=True):
    """The block of `header` left the best branch, and what it had brought is undone in the same commit."""

    chain_id: int
    header: Header


class ObligationStored(Moment, frozen=True):
    """An obligation was taken on, or has changed."""

    chain_id: int
    account: Address
    obligation: Obligation


class NoncesLowered(Moment, frozen=True):
    """Nonces above `highest` that were bound are free again, as the chain has shown."""

    chain_id: int
    account: Address
    highest: int


_CODEC: Codec[Obligation] = Codec(Obligation, canonical=False)


def step_moment(chain_id: int, step: Step) -> ChainAdvanced | ChainRewound:
    """Return the moment that moves the stored position by `step`: it belongs into the commit of the step's effects."""
    match step:
        case BlockAdded(block):
            return ChainAdvanced(chain_id, block.header)
        case BlockRemoved(header):
            return ChainRewound(chain_id, header)


def read_followed(store: Store, chain_id: int, start: int) -> Followed:
    """Return how far the chain was followed; `start` is the first block to follow and stays the same for ever."""
    rows = store.read(
        "SELECT number, hash, parent, time FROM followed_headers WHERE chain_id = ? ORDER BY number", (chain_id,)
    )
    headers = tuple(Header(*row) for row in rows)
    root = headers[0] if headers and (headers[0].number == 0 or len(headers) >= HEADERS_KEPT) else None
    return Followed(start, headers[-HEADERS_KEPT:] if len(headers) > HEADERS_KEPT else headers, root=root)


def read_book(store: Store, chain_id: int, account: Address) -> ObligationBook:
    """Return the account's obligations that are not at rest, and the highest nonce it ever bound."""
    rows = store.read(
        "SELECT id, data FROM obligations WHERE chain_id = ? AND account = ? AND resting = 0 ORDER BY rowid",
        (chain_id, account),
    )
    top = store.read(
        "SELECT max(highest_nonce) FROM obligations WHERE chain_id = ? AND account = ?", (chain_id, account)
    )
    highest = top[0][0]
    found = [_read(data, name) for name, data in rows]
    return book_of(found, -1 if highest is None else highest)


def read_obligation(store: Store, chain_id: int, account: Address, identifier: str) -> Obligation | None:
    """Return one obligation, at rest or not, None if there never was one of that id."""
    rows = store.read(
        "SELECT data FROM obligations WHERE chain_id = ? AND account = ? AND id = ?", (chain_id, account, identifier)
    )
    return _read(rows[0][0], identifier) if rows else None


def _read(data: bytes, name: str) -> Obligation:
    """Return a stored obligation. In data of 0.1.0, ids and texts of receipts say what has fields of its own now."""
    found = decoded(_CODEC, data, "obligations", name)
    base, slash, attempt = found.id.partition("/")
    kind = base.partition(":")[0]
    if found.duty is None and kind in _DUTIES:
        found = change(found, duty=Duty(kind), attempt=int(attempt) if slash else 0)
    if found.receipt is not None and found.receipt.revert is None:
        revert, sentence = read_revert(found.receipt.reason)
        found = change(found, receipt=change(found.receipt, reason=sentence, revert=revert))
    return found


_DUTIES = frozenset(duty.value for duty in Duty)


def _write_advanced(connection: sqlite3.Connection, moment: ChainAdvanced) -> None:
    header = moment.header
    connection.execute(
        "INSERT OR REPLACE INTO followed_headers VALUES (?, ?, ?, ?, ?)",
        (moment.chain_id, header.number, header.hash, header.parent, header.time),
    )
    connection.execute(
        """DELETE FROM followed_headers WHERE chain_id = ?1 AND number <= ?2
        AND number > (SELECT min(number) FROM followed_headers WHERE chain_id = ?1)""",
        (moment.chain_id, header.number - moment.kept),
    )


def _write_rewound(connection: sqlite3.Connection, moment: ChainRewound) -> None:
    connection.execute(
        "DELETE FROM followed_headers WHERE chain_id = ? AND number >= ?", (moment.chain_id, moment.header.number)
    )


def _write_obligation(connection: sqlite3.Connection, moment: ObligationStored) -> None:
    obligation = moment.obligation
    connection.execute(
        """INSERT INTO obligations (chain_id, account, id, resting, highest_nonce, data) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (chain_id, account, id) DO UPDATE SET resting = excluded.resting, data = excluded.data,
        highest_nonce = max(highest_nonce, excluded.highest_nonce)""",
        (
            moment.chain_id,
            moment.account,
            obligation.id,
            obligation.resting,
            -1 if obligation.nonce is None or obligation.far else obligation.nonce,
            _CODEC.encode(obligation),
        ),
    )


def _write_lowered(connection: sqlite3.Connection, moment: NoncesLowered) -> None:
    connection.execute(
        "UPDATE obligations SET highest_nonce = ?3 WHERE chain_id = ?1 AND account = ?2 AND highest_nonce > ?3",
        (moment.chain_id, moment.account, moment.highest),
    )


_TABLES = """
CREATE TABLE followed_headers (
    chain_id INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, parent BLOB NOT NULL,
    time INTEGER NOT NULL, PRIMARY KEY (chain_id, number)) WITHOUT ROWID;
CREATE TABLE obligations (
    chain_id INTEGER NOT NULL, account BLOB NOT NULL, id TEXT NOT NULL, resting INTEGER NOT NULL,
    highest_nonce INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chain_id, account, id));
CREATE INDEX obligations_at_work ON obligations (chain_id, account) WHERE resting = 0
"""

SCHEMA = Schema(
    name="settlement",
    migrations=(_TABLES,),
    writes={
        ChainAdvanced: _write_advanced,
        ChainRewound: _write_rewound,
        ObligationStored: _write_obligation,
        NoncesLowered: _write_lowered,
    },
    sealed=(Sealed("followed_headers"), Sealed("obligations")),
)
"""Include it in `open_store` of whatever follows a chain or sends transactions."""
