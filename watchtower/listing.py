"""The list of a client's channels, kept with its towers page by page, for a client that has nothing left but its key.

An appointment can be found and opened only with the channel's close key, which takes the peer's public key and the
channel's terms. So a client leaves a list of these with each tower, too: as appointments that look as any other, under
locators and keys that follow from its own key alone, so that no close ever opens them.

    page key(n) = keccak("tallystick/tower/listing/1" ‖ ECDH(own key, own key) ‖ n)      in a close key's place
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, close_key, keccak
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.watchtower.messages import Account
from tallystick.watchtower.offers import PageOffer

PLACE_MAX = 44
"""Characters of a peer's host and port: longer ones are left out, and looked up by gossip."""

PAGE_CHANNELS = 30
"""Channels on one page: what fits into the larger size of blobs, at the most that each can take."""

PAGES_MAX = 4_096


class Listed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One channel, as far as its close key and its terms do not follow from the rest."""

    peer_key: Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
    asset: Account
    number: int
    challenge_period: int
    place: str = ""
    """Host and port where the peer was reached, empty if that is not known."""


class Page(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Some of a client's channels."""

    chain_id: int
    contract: Account
    channels: tuple[Listed, ...] = ()


PAGE: Codec[Page] = Codec(Page)


def page_key(key: PrivateKey, number: int) -> bytes:
    """Return what the client's page of that number is sealed with (32 bytes): none but the key's holder knows it."""
    return keccak(b"tallystick/tower/listing/1" + key.shared_secret(key.public) + number.to_bytes(4, "big"))


def page_name(number: int) -> ChannelId:
    """Return what stands for a page where channels are named (32 bytes)."""
    return ChannelId(keccak(b"tallystick/tower/listing/name" + number.to_bytes(4, "big")))


def list_channel(terms: Terms, peer_key: bytes, place: str) -> Listed:
    """Return what is listed of a channel."""
    return Listed(peer_key, terms.asset, terms.number, terms.challenge_period, place if len(place) <= PLACE_MAX else "")


def make_page(key: PrivateKey, number: int, listed: Iterable[tuple[Terms, Listed]]) -> PageOffer:
    """Return the page of that number, with these channels (one at least)."""
    channels = list(listed)
    first = channels[0][0]
    packed = PAGE.encode(Page(first.chain_id, first.contract, tuple(each for _, each in channels)))
    return PageOffer(page_key(key, number), packed, keccak(packed)[:16])


def terms_of(key: PrivateKey, page: Page, listed: Listed) -> tuple[Terms, bytes]:
    """Return a listed channel's terms and close key; raise InvalidInput if there can be no such channel."""
    peer = PublicKey(listed.peer_key)
    first, second = sorted((key.address, peer.address))
    terms = Terms(
        page.chain_id,
        Address(page.contract),
        (first, second),
        Address(listed.asset),
        listed.number,
        listed.challenge_period,
        bytes(32),
    )
    opener = close_key(key, peer, channel_id(terms))
    return msgspec.structs.replace(terms, close_hash=keccak(opener)), opener
