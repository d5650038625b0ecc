"""Keeps the list of a node's channels with its towers, for the day when it has nothing left but its key."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId, Terms
from tallystick.sdk.node.whereabouts import known_place
from tallystick.watchtower.client import TowerClient
from tallystick.watchtower.fetching import FETCHES_AT_ONCE
from tallystick.watchtower.listing import (
    PAGE_CHANNELS,
    PAGES_MAX,
    Listed,
    PageKeys,
    list_channel,
    make_page,
    name_of,
    names_on,
    page_name,
)


class Listing:
    """The list, page by page, as it should be with each tower. A channel stays on its page, also over restarts."""

    def __init__(self, towers: Sequence[TowerClient]) -> None:
        self._towers = towers
        self._keys: PageKeys | None = None
        self._pages: dict[int, dict[ChannelId, tuple[Terms, Listed]]] = {}
        self._page_of: dict[ChannelId, int] = {}
        self._places: dict[bytes, int] = {}
        """On which page the towers have a channel, by its name there."""
        self._taken: dict[int, set[bytes]] = {}
        """Which channels have a place on a page, by their names there."""
        self._read_marks()

    def _read_marks(self) -> None:
        empty = 0
        for number in range(PAGES_MAX):
            names = [name for tower in self._towers for name in names_on(tower.covered_mark(page_name(number)))]
            for name in names:
                if name not in self._places and len(self._taken.setdefault(number, set())) < PAGE_CHANNELS:
                    self._places[name] = number
                    self._taken[number].add(name)
            empty = 0 if names else empty + 1
            if empty == FETCHES_AT_ONCE:  # whoever reads the list looks no further
                return

    def keep(self, channel: Channel) -> None:
        """Take in a channel as it is now: a node that knows nothing finds it by the list, until it is gone."""
        known = channel.id in self._page_of
        if channel.phase is Phase.GONE:
            if not known:
                return
            number = self._page_of.pop(channel.id)
            del self._pages[number][channel.id]
            self._taken[number].discard(name_of(channel.id))
            self._places.pop(name_of(channel.id), None)
        elif known or channel.phase is Phase.OPENING:
            return
        else:
            number = self._place(name_of(channel.id))
            self._page_of[channel.id] = number
            where = known_place(self._towers[0].store, channel.peer_key)
            listed = list_channel(channel.terms, channel.peer_key, where)
            self._pages.setdefault(number, {})[channel.id] = channel.terms, listed
        if page := self._pages[number]:  # an old entry does no harm: the chain says what is over
            self._offer(number, page)

    def _place(self, name: bytes) -> int:
        """Return the number of the page that a channel is on, or comes to: the first with room."""
        number = self._places.get(name)
        if number is None:
            number = next(n for n in range(len(self._taken) + 1) if len(self._taken.get(n, ())) < PAGE_CHANNELS)
            self._places[name] = number
        self._taken.setdefault(number, set()).add(name)
        return number

    def _offer(self, number: int, page: dict[ChannelId, tuple[Terms, Listed]]) -> None:
        if self._keys is None:
            terms = next(iter(page.values()))[0]
            self._keys = PageKeys(self._towers[0].key, terms.chain_id, terms.contract)
        offer = make_page(self._keys.of(number), page)
        for tower in self._towers:
            tower.offer_page(page_name(number), offer)
