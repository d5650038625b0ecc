"""What a client that lost its data gets back from its towers: its channels, with the newest that both signed. Pure.

    towers        →  pages of the list of channels (`listing`)  →  appointments  →  the highest proof of each side

Every tower may lie, or hold less than another, and be in league with a peer, who knows the key of each appointment: a
proof counts by its two signatures alone, so of all that are shown the highest is taken, side by side; locks count if
they make up the root that was signed, claims if they pay. A channel that was brought back is RECOVERING: it signs
nothing, closes nothing by itself, and asks its peer to close. What a node signed after the last receipt is not with
any tower, and a close without it would convict the node itself (PROTOCOL section 6). What it has serves to challenge,
to register, to settle and to redeem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tallystick.channels.errors import InvalidInput, MalformedMessage
from tallystick.channels.limits import KIND_MAX, UINT64_MAX
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.core import Channel, KnownSecret, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.eip712 import channel_id, locks_root
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId, Lock, SignedProof, Terms
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.storage.schema import ChannelSaved, StreamSaved
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.watchtower.claims import LockClaim
from tallystick.watchtower.disputes import check
from tallystick.watchtower.listing import PAGE, Listed, terms_of
from tallystick.watchtower.messages import Held
from tallystick.watchtower.sealing import PendingLocks, unseal, unseal_page

KEEPS = (Phase.CLOSED, Phase.SETTLED, Phase.GONE, Phase.CLOSING)
"""Phases in which nothing is to be recovered any more: a close is on its way, or was."""


class Shown(Discreet, msgspec.Struct, frozen=True):
    """What one tower shows of a channel; what is not signed by both, or pays nothing, is left out."""

    terms: Terms
    peer_key: bytes
    place: str
    proofs: tuple[SignedProof | None, SignedProof | None] = (None, None)
    claims: tuple[LockClaim, ...] = ()
    pending: PendingLocks = ((), ())


class Sought(Discreet, msgspec.Struct, frozen=True):
    """A channel that a page lists, and what its appointment is found and opened with."""

    listed: Listed
    terms: Terms
    opener: bytes


class Holdings(Discreet, msgspec.Struct, frozen=True):
    """What one tower answered."""

    tower: PeerAddress
    answered: bool = False
    """Whether it answered all that it was asked."""
    shown: tuple[Shown, ...] = ()
    revisions: tuple[tuple[ChannelId, int], ...] = ()
    """Of the appointments that were read whole, by channel: what comes next has to be higher."""
    pages: tuple[tuple[int, int, tuple[ChannelId, ...]], ...] = ()
    """Of the pages that were read: number, revision, the channels on it."""
    faults: tuple[str, ...] = ()
    """What it did not do, or did wrongly, each as a sentence."""


class Recovered(Discreet, msgspec.Struct, frozen=True):
    """The newest of one channel, of all that towers showed."""

    terms: Terms
    peer_key: bytes
    places: tuple[str, ...]
    proofs: tuple[SignedProof | None, SignedProof | None]
    claims: tuple[LockClaim, ...]
    pending: tuple[tuple[Lock, ...], tuple[Lock, ...]]
    """The locks behind each proof; if no tower told all of them, those that can be claimed."""
    is_whole: bool
    """Whether these are all."""


def read_page(held: Held, opener: bytes, tower: Address, key: PrivateKey) -> list[Sought]:
    """Return the channels on a page that a tower holds; raise MalformedMessage or InvalidInput if it is of no use."""
    page = PAGE.decode(unseal_page(held.blob, opener, tower, key.address))
    return [Sought(listed, *terms_of(key, page, listed)) for listed in page.channels]


def read_appointment(held: Held, sought: Sought, tower: Address, party: Address) -> tuple[Shown, str]:
    """Return what an appointment shows of a channel, as far as it is right, and what is wrong with the rest."""
    terms, listed = sought.terms, sought.listed
    nothing, name = Shown(terms, listed.peer_key, listed.place), channel_id(terms).hex()[:8]
    try:
        appointment = unseal(held.blob, sought.opener, tower, party)
    except MalformedMessage as error:
        return nothing, f"what a tower holds of channel {name} is of no use: {error}"
    proofs = check(appointment, terms, party, tower).proofs
    claims = tuple(claim for claim in appointment.claims if _fits(claim.lock) and claim.is_sane and claim.worth)
    shown = msgspec.structs.replace(nothing, proofs=proofs, claims=claims, pending=appointment.pending)
    if proofs != appointment.proofs:
        return shown, f"a tower shows a proof of channel {name} that both never signed: it is left out"
    if claims != appointment.claims:
        return shown, f"a tower shows a secret of channel {name} that pays for nothing: it is left out"
    return shown, ""


def newest_of(key: PrivateKey, holdings: Iterable[Holdings]) -> list[Recovered]:
    """Return each channel once, with the highest proof of each side, and what belongs to these."""
    by_channel: dict[ChannelId, list[Shown]] = {}
    for held in holdings:
        for shown in held.shown:
            by_channel.setdefault(channel_id(shown.terms), []).append(shown)
    return [_newest(key, shown) for shown in by_channel.values()]


def _newest(key: PrivateKey, shown: Sequence[Shown]) -> Recovered:
    terms = shown[0].terms
    peer = 1 - terms.side_of(key.address)
    proofs = (_highest(shown, 0), _highest(shown, 1))
    best: dict[Lock, LockClaim] = {}
    for each in shown:
        for claim in each.claims:
            if claim.lock not in best or claim.worth > best[claim.lock].worth:
                best[claim.lock] = claim
    claimed = tuple(sorted(best, key=lambda lock: lock.id))
    whole = [_behind(proofs[side], [each.pending[side] for each in shown]) for side in (0, 1)]
    if whole[peer] is None:
        whole[peer] = _behind(proofs[peer], [claimed])
    pending = [locks or () for locks in whole]
    if whole[peer] is None:
        pending[peer] = _within(proofs[peer], claimed)
    return Recovered(
        terms,
        shown[0].peer_key,
        tuple(dict.fromkeys(each.place for each in shown if each.place)),
        proofs,
        tuple(claim for lock, claim in best.items() if lock in pending[peer]),
        (pending[0], pending[1]),
        None not in whole,
    )


def _highest(shown: Sequence[Shown], side: int) -> SignedProof | None:
    proofs = [signed for each in shown if (signed := each.proofs[side]) is not None]
    return max(proofs, key=lambda signed: signed.proof.seq, default=None)


def _behind(signed: SignedProof | None, candidates: Iterable[tuple[Lock, ...]]) -> tuple[Lock, ...] | None:
    """Return the locks that make up a proof's root; None if nobody told them."""
    root = bytes(32) if signed is None else signed.proof.locks_root
    told = (locks for locks in ((), *candidates) if all(_fits(lock) for lock in locks))
    return next((locks for locks in told if locks_root(locks) == root), None)


def _within(signed: SignedProof | None, claimed: Iterable[Lock]) -> tuple[Lock, ...]:
    """Return which of these locks may be among those of a proof: each number once, no more than was signed in all."""
    left, found = 0 if signed is None else signed.proof.locked, dict[int, Lock]()
    for lock in claimed:
        if lock.id not in found and lock.amount <= left:
            found[lock.id] = lock
            left -= lock.amount
    return tuple(found.values())


def _fits(lock: Lock) -> bool:
    """Whether the numbers of a lock are such as can be signed."""
    return lock.kind <= KIND_MAX and lock.expiry <= UINT64_MAX and len(lock.condition) == 32


def restored(found: Recovered, side: int, known: Channel | None, signed_seq: int = 0) -> Channel | None:
    """Return the channel as it is to be kept; None if our data (`known`) has all of it, or it needs none any more.

    `side` is ours; `signed_seq`: up to which number our data has statements of our own, though the peer did not
    acknowledge them.
    """
    channel = known or new_channel(found.terms, side, found.peer_key)
    if channel.phase in KEEPS:
        return None
    states: dict[str, SignedSimplex] = {}
    for name, sender, seq in (
        ("ours", channel.side, max(signed_seq, channel.newest.proof.seq)),
        ("theirs", channel.peer_side, channel.theirs.seq),
    ):
        signed = found.proofs[sender]
        if signed is not None and signed.proof.seq > seq:
            simplex = Simplex(signed.proof, found.pending[sender])
            states[name] = SignedSimplex(simplex, signed.signature, signed.countersignature)
    if known is not None and not states:
        return None
    channel = msgspec.structs.replace(channel, phase=Phase.RECOVERING, **states)
    if "ours" in states:
        channel = msgspec.structs.replace(channel, flight=())
    secrets = {known_secret.lock: known_secret for known_secret in channel.secrets}
    for claim in found.claims:
        if claim.lock.kind == HASH and channel.theirs.simplex.lock(claim.lock.id) == claim.lock:
            secrets[claim.lock.id] = KnownSecret(claim.lock.id, claim.proof)
    pending = {lock.id for lock in channel.theirs.simplex.locks}
    kept = tuple(secrets[number] for number in sorted(secrets) if number in pending)
    return msgspec.structs.replace(channel, secrets=kept)


def moments_of(channel: Channel, found: Recovered) -> list[Moment]:
    """Return what to store of a channel that was restored: it, and the deepest links of the streams that pay us."""
    streams = [
        StreamSaved(channel.id, channel.peer_side, claim.lock.id, claim.proof)
        for claim in found.claims
        if claim.lock.kind == STREAM and channel.theirs.simplex.lock(claim.lock.id) == claim.lock
    ]
    return [ChannelSaved(channel), *streams]


def has_all(channel: Channel, found: Recovered) -> bool:
    """Whether our data has all that towers showed of a channel."""
    known = (channel.newest.proof.seq, channel.theirs.seq)
    shown = (found.proofs[channel.side], found.proofs[channel.peer_side])
    return found.is_whole and all(
        signed is None or signed.proof.seq <= seq for signed, seq in zip(shown, known, strict=True)
    )


def useless_page(error: MalformedMessage | InvalidInput) -> str:
    """Return the sentence about a page that cannot be read."""
    return f"a page of the list of channels is of no use: {error}"
