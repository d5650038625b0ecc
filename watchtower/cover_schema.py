"""What is kept of covers: by the tower, what it offered and the proofs that it promised on; by the client, both
statements of the tower's.

`offered_covers` has one row per cover, `promised_proofs` the newest proof of each side of a channel, for each client:
numbers only rise. `taken_covers` and `taken_promises` are the client's. All of it goes when a cover has ended.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof, Terms
from tallystick.channels.storage.store import Moment, Subject
from tallystick.channels.storage.tables import Reader, Rows, at_least, decode_column, find, table
from tallystick.settlement.modules.covers import TowerCover, TowerPromise, end_of
from tallystick.watchtower.disputes import Defence


class CoverOffered(Moment, frozen=True):
    """The tower is about to sign this cover, whose digest is `name`."""

    name: bytes
    terms: Terms
    cover: TowerCover


class ProofsPromised(Moment, frozen=True):
    """The tower is about to promise under a cover: of each side it keeps the highest proof that it was shown."""

    name: bytes
    channel: ChannelId
    client: Address
    proofs: tuple[SignedProof | None, SignedProof | None]


class CoversOver(Moment, frozen=True):
    """These covers are not set apart, and cannot be any more: they go, and the proofs of channels without another."""

    names: tuple[bytes, ...]


class CoverTaken(Moment, frozen=True):
    """A tower has signed this cover for a channel of ours."""

    name: bytes
    cover: TowerCover
    signature: bytes


class PromiseTaken(Moment, frozen=True):
    """A tower has signed this promise. Those that count for no time that is left go."""

    promise: TowerPromise
    signature: bytes
    needless: tuple[TowerPromise, ...] = ()
    """Promises under the same cover that go."""


class OfferedCover(NamedTuple):
    """A cover that a tower has offered, as it keeps it."""

    name: bytes
    terms: Terms
    cover: TowerCover
    promised: bool
    """Whether it promised anything under it."""


class SignedCover(NamedTuple):
    """A cover with the tower's signature, as a client keeps it."""

    name: bytes
    cover: TowerCover
    signature: bytes


class SignedPromise(NamedTuple):
    """A promise with the tower's signature, as a client keeps it."""

    promise: TowerPromise
    signature: bytes


_TERMS: Codec[Terms] = Codec(Terms, canonical=False)
_COVER: Codec[TowerCover] = Codec(TowerCover, canonical=False)
_PROOF: Codec[SignedProof] = Codec(SignedProof, canonical=False)

_OFFERED = table("offered_covers", "name channel client ends promised terms data", keys=1)
_PROOFS = table("promised_proofs", "channel client sender seq data", keys=3)
_TAKEN = table("taken_covers", "name channel tower data signature", keys=1)
_PROMISES = table("taken_promises", "name since seq0 seq1 signature", keys=4)


def read_offered(store: Reader, channel: ChannelId | None = None) -> list[OfferedCover]:
    """Return the covers that a tower has offered, for one channel or all."""
    query = _OFFERED.rows() if channel is None else _OFFERED.rows(channel=channel)
    return [_offer(row) for row in store.read(query)]


def find_offered(store: Reader, name: bytes) -> OfferedCover | None:
    """Return a cover that a tower has offered, None if it offered none of that name."""
    row = find(store, _OFFERED, name)
    return None if row is None else _offer(row)


def _offer(row: tuple[object, ...]) -> OfferedCover:
    name, _, _, _, promised, terms, data = row
    at = "offered_covers"
    return OfferedCover(
        bytes(name),  # type: ignore[call-overload]  # columns are what was put
        decode_column(_TERMS, terms, at, name),
        decode_column(_COVER, data, at, name),
        bool(promised),
    )


def read_promised(store: Reader, channel: ChannelId) -> dict[Address, tuple[SignedProof | None, SignedProof | None]]:
    """Return the newest proofs of a channel that a tower promised on, by client."""
    found: dict[Address, list[SignedProof | None]] = {}
    for _, client, sender, _, data in store.read(_PROOFS.rows(channel=channel)):
        proofs = found.setdefault(Address(client), [None, None])
        proofs[sender] = decode_column(_PROOF, data, "promised_proofs", channel, client, sender)
    return {client: (first, second) for client, (first, second) in found.items()}


def promised_defences(store: Reader, channel: ChannelId) -> list[Defence]:
    """Return what the tower has promised on: checked when it did, and to be shown at up to what it answers for."""
    found = []
    for party, proofs in read_promised(store, channel).items():
        covers = [each for each in read_offered(store, channel) if each.cover.client == party]
        found.append(Defence(party, proofs, None, b"", (), sum(each.cover.amount for each in covers if each.promised)))
    return found


def read_taken(store: Reader, channel: ChannelId | None = None) -> list[SignedCover]:
    """Return the covers that towers signed for our channels, or for one of them."""
    query = _TAKEN.rows() if channel is None else _TAKEN.rows(channel=channel)
    return [
        SignedCover(bytes(name), decode_column(_COVER, data, "taken_covers", name), bytes(signature))
        for name, _, _, data, signature in store.read(query)
    ]


def read_promises(store: Reader, name: bytes) -> list[SignedPromise]:
    """Return what a tower promised us under a cover, the oldest first."""
    return [
        SignedPromise(TowerPromise(bytes(of), since, seq0, seq1), bytes(signature))
        for of, since, seq0, seq1, signature in store.read(_PROMISES.rows(name=name))
    ]


def _offered(rows: Rows, moment: CoverOffered) -> None:
    cover = moment.cover
    ends = end_of(cover, moment.terms.challenge_period)
    data = _TERMS.encode(moment.terms), _COVER.encode(cover)
    rows.keep(_OFFERED, moment.name, cover.channel, cover.client, ends, 0, *data)


def _promised(rows: Rows, moment: ProofsPromised) -> None:
    rows.update(_OFFERED, {"promised": 1}, name=moment.name)
    for sender, signed in enumerate(moment.proofs):
        if signed is None:
            continue
        name, seq = (moment.channel, moment.client, sender), signed.proof.seq
        if not rows.read(_PROOFS.rows(at_least("seq", seq), channel=name[0], client=name[1], sender=sender)):
            rows.put(_PROOFS, *name, seq, _PROOF.encode(signed))


def _ended(rows: Rows, moment: CoversOver) -> None:
    for name in moment.names:
        for _, channel, client, *_ in rows.read(_OFFERED.rows(name=name)):
            rows.delete(_OFFERED, name=name)
            if not rows.read(_OFFERED.rows(channel=channel, client=client)):
                rows.delete(_PROOFS, channel=channel, client=client)


def _cover_taken(rows: Rows, moment: CoverTaken) -> None:
    cover = moment.cover
    rows.put(_TAKEN, moment.name, cover.channel, cover.tower, _COVER.encode(cover), moment.signature)


def _promise_taken(rows: Rows, moment: PromiseTaken) -> None:
    promise = moment.promise
    rows.put(_PROMISES, promise.cover, promise.since, promise.seq0, promise.seq1, moment.signature)
    for old in moment.needless:
        rows.delete(_PROMISES, name=old.cover, since=old.since, seq0=old.seq0, seq1=old.seq1)


TOWER_COVERS = Subject(
    "tower-covers",
    (_OFFERED, _PROOFS),
    {CoverOffered: _offered, ProofsPromised: _promised, CoversOver: _ended},
)
CLIENT_COVERS = Subject("tower-promises", (_TAKEN, _PROMISES), {CoverTaken: _cover_taken, PromiseTaken: _promise_taken})
