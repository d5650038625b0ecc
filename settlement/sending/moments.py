"""What following a chain and sending transactions write to the store: moments, tables and readers.

Two tables, both keyed by chain id, so that one store may serve several chains. `followed_headers` holds the last
headers of the branch that was followed, and its first for ever: the newest is the position. `obligations` holds every
obligation ever taken on, one row each, replaced in place and never deleted.
"""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.identity import Identity
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import (
    CAME,
    Reader,
    Rows,
    above,
    at_least,
    at_most,
    decode_column,
    equals,
    find,
    table,
)
from tallystick.settlement.chain import Header
from tallystick.settlement.errors import read_revert
from tallystick.settlement.following.follower import HEADERS_KEPT, RECHECKED, BlockAdded, BlockRemoved, Followed, Step
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationBook, change


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


def step_moment(chain_id: int, step: Step, kept: int = HEADERS_KEPT) -> ChainAdvanced | ChainRewound:
    """Return the moment that moves the stored position by `step`: it belongs into the commit of the step's effects."""
    match step:
        case BlockAdded(block):
            return ChainAdvanced(chain_id, block.header, kept)
        case BlockRemoved(header):
            return ChainRewound(chain_id, header)


_HEADERS = table("followed_headers", "chain_id number hash parent time", keys=2)
_OBLIGATIONS = table("obligations", "chain_id account id resting highest_nonce data", keys=3)


def read_followed(
    store: Reader, chain_id: int, start: int, rechecked: int = RECHECKED, kept: int = HEADERS_KEPT
) -> Followed:
    """Return how far the chain was followed; `start` is the first block to follow and stays the same for ever."""
    headers = tuple(Header(*row[1:]) for row in store.read(_HEADERS.rows(chain_id=chain_id)))
    connected = next((at for at in range(len(headers) - 1, 0, -1) if headers[at].parent != headers[at - 1].hash), 0)
    deep = connected > 0 or len(headers) >= kept  # what is not connected to the newest ones was a history
    root = headers[0] if headers and (headers[0].number == 0 or deep) else None
    return Followed(start, headers[connected:][-kept:], kept=kept, root=root, rechecked=rechecked)


def read_book(store: Reader, chain_id: int, account: Address) -> ObligationBook:
    """Return the account's obligations that are not at rest, and the highest nonce it ever bound."""
    own = (equals("chain_id", chain_id), equals("account", account))
    rows = store.read(_OBLIGATIONS.rows(*own, columns="id data", order=(CAME,), resting=0))
    top = store.read(_OBLIGATIONS.rows(*own, columns="highest_nonce", order=("-highest_nonce",), limit=1))
    found = [_read(data, name) for name, data in rows]
    return ObligationBook({}, top[0][0] if top else -1).with_(*found)


def read_obligation(store: Reader, chain_id: int, account: Address, identifier: str) -> Obligation | None:
    """Return one obligation, at rest or not, None if there never was one of that id."""
    row = find(store, _OBLIGATIONS, chain_id, account, identifier)
    return _read(row[-1], identifier) if row else None


def _read(data: bytes, name: str) -> Obligation:
    """Return a stored obligation. In data of 0.1.0, ids and texts of receipts say what has fields of its own now."""
    found = decode_column(_CODEC, data, "obligations", name)
    base, slash, attempt = found.id.partition("/")
    kind = base.partition(":")[0]
    if found.duty is None and kind in _DUTIES:
        found = change(found, duty=Duty(kind), attempt=int(attempt) if slash else 0)
    if found.receipt is not None and found.receipt.revert is None:
        revert, sentence = read_revert(found.receipt.reason)
        found = change(found, receipt=change(found.receipt, reason=sentence, revert=revert))
    return found


_DUTIES = frozenset(duty.value for duty in Duty)


def said_by_settlement(store: Store) -> Iterator[Identity]:
    """Return whose data it is, by whose obligations there are, and which chains were followed."""
    for chain_id, account, _ in store.read(_OBLIGATIONS.groups(columns="chain_id account")):
        yield Identity(Address(account), chain_id)
    for chain_id, _ in store.read(_HEADERS.groups(columns="chain_id")):
        yield Identity(chain_id=chain_id)


def _advanced(rows: Rows, moment: ChainAdvanced) -> None:
    header, chain = moment.header, moment.chain_id
    rows.put(_HEADERS, chain, header.number, header.hash, header.parent, header.time)
    ((first,),) = rows.read(_HEADERS.rows(columns="number", chain_id=chain, limit=1))
    rows.delete(_HEADERS, at_most("number", header.number - moment.kept), above("number", first), chain_id=chain)


def _rewound(rows: Rows, moment: ChainRewound) -> None:
    rows.delete(_HEADERS, at_least("number", moment.header.number), chain_id=moment.chain_id)


def _stored(rows: Rows, moment: ObligationStored) -> None:
    chain, account, obligation = moment.chain_id, moment.account, moment.obligation
    before = find(rows, _OBLIGATIONS, chain, account, obligation.id)
    nonce = -1 if obligation.nonce is None or obligation.far else obligation.nonce
    highest = max(nonce, before[4]) if before else nonce
    rows.put(_OBLIGATIONS, chain, account, obligation.id, obligation.resting, highest, _CODEC.encode(obligation))


def _lowered(rows: Rows, moment: NoncesLowered) -> None:
    higher = above("highest_nonce", moment.highest)
    lowered = {"highest_nonce": moment.highest}
    rows.update(_OBLIGATIONS, lowered, higher, chain_id=moment.chain_id, account=moment.account)


SETTLEMENT = Subject(
    "settlement",
    (_HEADERS, _OBLIGATIONS),
    {ChainAdvanced: _advanced, ChainRewound: _rewound, ObligationStored: _stored, NoncesLowered: _lowered},
)
