"""The list of a client's channels, kept with its towers page by page, for a client that has nothing left but its key.

An appointment can be found and opened only with the channel's close key, which takes the peer's public key and the
channel's terms. So a client leaves a list of these with each tower, too: as appointments that look as any other, under
locators and keys that follow from its own key alone, so that no close ever opens them.

    page key(n) = keccak("tallystick/tower/listing/1" ‖ ECDH(own key, own key) ‖ chain id ‖ contract ‖ n)

It stands in a close key's place. A channel stays on its page: moved to another one it might for a moment be on none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class ListingPage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Some of a client's channels."""

    chain_id: int
    contract: Account
    channels: tuple[Listed, ...] = ()


PAGE: Codec[ListingPage] = Codec(ListingPage)

_NAME_SIZE = 8
"""Bytes of a channel's id by which a page's mark names it."""

_HASH_SIZE = 16


class PageKeys:
    """What the pages of one key's channels, with one contract on one chain, are sealed with: only its holder knows."""

    def __init__(self, key: PrivateKey, chain_id: int, contract: Address) -> None:
        place = chain_id.to_bytes(32, "big") + contract
        self._root = b"tallystick/tower/listing/1" + key.shared_secret(key.public) + place

    def of(self, number: int) -> bytes:
        """Return the key of the page of that number (32 bytes)."""
        return keccak(self._root + number.to_bytes(4, "big"))

    def __repr__(self) -> str:
        return "<PageKeys>"


def page_name(number: int) -> ChannelId:
    """Return what stands for a page where channels are named (32 bytes)."""
    return ChannelId(keccak(b"tallystick/tower/listing/name" + number.to_bytes(4, "big")))


def list_channel(terms: Terms, peer_key: bytes, place: str) -> Listed:
    """Return what is listed of a channel."""
    return Listed(peer_key, terms.asset, terms.number, terms.challenge_period, place if len(place) <= PLACE_MAX else "")


def make_page(opener: bytes, listed: Mapping[ChannelId, tuple[Terms, Listed]]) -> PageOffer:
    """Return the page with these channels (one at least), to be sealed with `opener`."""
    first = next(iter(listed.values()))[0]
    packed = PAGE.encode(ListingPage(first.chain_id, first.contract, tuple(each for _, each in listed.values())))
    return PageOffer(opener, packed, mark_of_page(listed, packed))


def mark_of_page(channels: Iterable[ChannelId], packed: bytes = b"") -> bytes:
    """Return what tells a page from others, and which channels are on it; without its content it equals no page's."""
    names = b"".join(channel[:_NAME_SIZE] for channel in channels)
    return names + (keccak(packed)[:_HASH_SIZE] if packed else bytes(_HASH_SIZE))


def names_on(mark: bytes) -> list[bytes]:
    """Return the beginnings of the ids of the channels that a page's mark names."""
    names = mark[:-_HASH_SIZE]
    return [names[at : at + _NAME_SIZE] for at in range(0, len(names), _NAME_SIZE)]


def name_of(channel: ChannelId) -> bytes:
    """Return by what a page's mark names a channel."""
    return channel[:_NAME_SIZE]


def terms_of(key: PrivateKey, page: ListingPage, listed: Listed) -> tuple[Terms, bytes]:
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
