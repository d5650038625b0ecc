"""What a client that lost its data gets back from its towers: its channels, with the newest that both signed.

    towers        →  pages of the list of channels (`listing`)  →  appointments  →  the highest proof of each side

Every tower may lie, or hold less than another: a proof counts by its two signatures alone, so of all that are shown the
highest is taken, side by side. A channel that was brought back is RECOVERING: it signs nothing, closes nothing by
itself, and asks its peer to close. What a node signed after the last receipt is not with any tower, and a close
without it would convict the node itself (PROTOCOL section 6). What it has serves to challenge, to register, to settle
and to redeem.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import InvalidInput, LinkClosed, MalformedMessage, PeerError
from tallystick.channels.ports import Network, PeerAddress
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.core import Channel, KnownSecret, Phase, SignedSimplex, new_channel
from tallystick.channels.protocol.eip712 import channel_id, locks_root
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId, Lock, SignedProof, Terms
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.storage.schema import ChannelSaved, StreamSaved
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.watchtower.claims import LockClaim
from tallystick.watchtower.disputes import check
from tallystick.watchtower.fetching import FETCHES_AT_ONCE, fetch_held
from tallystick.watchtower.listing import PAGE, PAGES_MAX, Listed, page_key, page_name, terms_of
from tallystick.watchtower.messages import Held
from tallystick.watchtower.schema import Coverage
from tallystick.watchtower.sealing import PendingLocks, locator_of, unseal, unseal_page

KEEPS = (Phase.CLOSED, Phase.SETTLED, Phase.GONE, Phase.CLOSING)
"""Phases in which nothing is to be recovered any more: a close is on its way, or was."""


class Shown(Discreet, msgspec.Struct, frozen=True):
    """What one tower shows of a channel; proofs that are not signed by both are left out."""

    terms: Terms
    peer_key: bytes
    place: str
    proofs: tuple[SignedProof | None, SignedProof | None] = (None, None)
    claims: tuple[LockClaim, ...] = ()
    pending: PendingLocks = ((), ())


class Holdings(Discreet, msgspec.Struct, frozen=True):
    """What one tower answered."""

    tower: PeerAddress
    shown: tuple[Shown, ...] = ()
    revisions: tuple[tuple[ChannelId, int], ...] = ()
    """By channel, or by the name of a page: what comes next has to be higher."""
    faults: tuple[str, ...] = ()
    """What it did not do, or did wrongly, each as a sentence."""


class Recovered(Discreet, msgspec.Struct, frozen=True):
    """The newest of one channel, of all that towers showed."""

    terms: Terms
    peer_key: bytes
    places: tuple[str, ...]
    proofs: tuple[SignedProof | None, SignedProof | None]
    claims: tuple[LockClaim, ...]
    pending: tuple[tuple[Lock, ...] | None, tuple[Lock, ...] | None]
    """The locks behind each proof; None if no tower told all of them."""


async def ask_tower(network: Network, tower: PeerAddress, key: PrivateKey, within: float) -> Holdings:
    """Return all that a tower holds for the owner of a key; what it does wrongly is among the faults, never raised."""
    shown: list[Shown] = []
    revisions: list[tuple[ChannelId, int]] = []
    faults: list[str] = []
    try:
        address = PublicKey(tower.key).address
        link = await network.dial(tower)
        try:
            wanted: dict[ChannelId, tuple[Terms, Listed, bytes]] = {}
            for first in range(0, PAGES_MAX, FETCHES_AT_ONCE):
                openers = [page_key(key, number) for number in range(first, first + FETCHES_AT_ONCE)]
                pages = await fetch_held(link, [locator_of(o, address, key.address) for o in openers], within)
                for number, (opener, held) in enumerate(zip(openers, pages, strict=True), first):
                    if held is not None:
                        revisions.append((page_name(number), held.revision))
                        _read_page(held, opener, address, key, wanted, faults)
                if not any(pages):
                    break
            locators = [locator_of(opener, address, key.address) for _, _, opener in wanted.values()]
            answers = await fetch_held(link, locators, within)
            for (channel, (terms, listed, opener)), held in zip(wanted.items(), answers, strict=True):
                found = Shown(terms, listed.peer_key, listed.place)
                if held is not None:
                    revisions.append((channel, held.revision))
                    found = _read_appointment(held, found, opener, address, key.address, faults)
                shown.append(found)
        finally:
            await link.aclose()
    except (LinkClosed, PeerError) as error:
        faults.append(f"the tower at {tower}: {error}")
    return Holdings(tower, tuple(shown), tuple(revisions), tuple(faults))


def _read_page(
    held: Held,
    opener: bytes,
    tower: Address,
    key: PrivateKey,
    wanted: dict[ChannelId, tuple[Terms, Listed, bytes]],
    faults: list[str],
) -> None:
    """Add the channels of a page to what is wanted."""
    try:
        page = PAGE.decode(unseal_page(held.blob, opener, tower, key.address))
        for listed in page.channels:
            terms, close = terms_of(key, page, listed)
            wanted[channel_id(terms)] = terms, listed, close
    except (MalformedMessage, InvalidInput) as error:
        faults.append(f"a page of the list of channels is of no use: {error}")


def _read_appointment(
    held: Held, found: Shown, opener: bytes, tower: Address, party: Address, faults: list[str]
) -> Shown:
    """Return what an appointment shows of a channel, as far as it is right."""
    name = channel_id(found.terms).hex()[:8]
    try:
        appointment = unseal(held.blob, opener, tower, party)
    except MalformedMessage as error:
        faults.append(f"what a tower holds of channel {name} is of no use: {error}")
        return found
    proofs = check(appointment, found.terms, party, tower).proofs
    if proofs != appointment.proofs:
        faults.append(f"a tower shows a proof of channel {name} that both never signed: it is left out")
    return msgspec.structs.replace(found, proofs=proofs, claims=appointment.claims, pending=appointment.pending)


def newest_of(key: PrivateKey, holdings: Iterable[Holdings]) -> list[Recovered]:
    """Return each channel once, with the highest proof of each side, and what belongs to these."""
    by_channel: dict[ChannelId, list[Shown]] = {}
    for held in holdings:
        for shown in held.shown:
            by_channel.setdefault(channel_id(shown.terms), []).append(shown)
    return [_newest(key, shown) for shown in by_channel.values()]


def _newest(key: PrivateKey, shown: list[Shown]) -> Recovered:
    terms = shown[0].terms
    peer = 1 - terms.side_of(key.address)
    proofs = (_highest(shown, 0), _highest(shown, 1))
    candidates: tuple[list[tuple[Lock, ...]], ...] = ([], [])
    for each in shown:
        for side in (0, 1):
            candidates[side].append(each.pending[side])
        candidates[peer].append(tuple(claim.lock for claim in sorted(each.claims, key=lambda c: c.lock.id)))
    pending = tuple(_behind(proofs[side], candidates[side]) for side in (0, 1))
    claims = {claim.lock: claim for each in shown for claim in sorted(each.claims, key=lambda c: c.steps)}
    return Recovered(
        terms,
        shown[0].peer_key,
        tuple(dict.fromkeys(each.place for each in shown if each.place)),
        proofs,
        tuple(claims.values()),
        (pending[0], pending[1]),
    )


def _highest(shown: list[Shown], side: int) -> SignedProof | None:
    proofs = [signed for each in shown if (signed := each.proofs[side]) is not None]
    return max(proofs, key=lambda signed: signed.proof.seq, default=None)


def _behind(signed: SignedProof | None, candidates: list[tuple[Lock, ...]]) -> tuple[Lock, ...] | None:
    """Return the locks that make up a proof's root; None if nobody told them."""
    root = bytes(32) if signed is None else signed.proof.locks_root
    return next((locks for locks in ((), *candidates) if locks_root(locks) == root), None)


def restored(key: PrivateKey, found: Recovered, known: Channel | None, signed_seq: int = 0) -> Channel | None:
    """Return the channel as it is to be kept; None if our data (`known`) has all of it, or it needs none any more.

    `signed_seq`: up to which number our data has statements of our own, though the peer did not acknowledge them.
    """
    channel = known or new_channel(found.terms, found.terms.side_of(key.address), found.peer_key)
    if channel.phase in KEEPS:
        return None
    states: dict[str, SignedSimplex] = {}
    for name, side, seq in (
        ("ours", channel.side, max(signed_seq, channel.newest.proof.seq)),
        ("theirs", channel.peer_side, channel.theirs.seq),
    ):
        signed = found.proofs[side]
        if signed is not None and signed.proof.seq > seq:
            simplex = Simplex(signed.proof, found.pending[side] or ())
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


def coverage_of(holdings: Holdings) -> list[Coverage]:
    """Return up to which revisions a tower has something, so that what it is sent from now on is newer."""
    tower = PublicKey(holdings.tower.key).address
    return [Coverage(tower, name, revision) for name, revision in holdings.revisions]
