"""Asks a tower for all that it holds for the owner of a key who has nothing else: the list of channels, and each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tallystick.channels.errors import InvalidInput, LinkClosed, MalformedMessage, PeerError
from tallystick.channels.ports import Link, Network, PeerAddress
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.watchtower.fetching import FETCHES_AT_ONCE, fetch_held
from tallystick.watchtower.listing import PAGES_MAX, PageKeys, mark_of_page, page_name
from tallystick.watchtower.recovery import (
    Holdings,
    Shown,
    Sought,
    read_appointment,
    read_page,
    useless_page,
)
from tallystick.watchtower.schema import Coverage
from tallystick.watchtower.sealing import locator_of


@dataclass(eq=False)
class _Asking:
    """What one tower has answered so far."""

    key: PrivateKey
    tower: Address
    within: float
    sought: dict[ChannelId, Sought] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    revisions: list[tuple[ChannelId, int]] = field(default_factory=list)
    pages: list[tuple[int, int, tuple[ChannelId, ...]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def list_channels(self, link: Link, keys: PageKeys) -> None:
        """Read page after page, until there is none for a while."""
        for first in range(0, PAGES_MAX, FETCHES_AT_ONCE):
            openers = [keys.of(number) for number in range(first, first + FETCHES_AT_ONCE)]
            locators = [locator_of(opener, self.tower, self.key.address) for opener in openers]
            pages = await fetch_held(link, locators, self.within)
            for number, (opener, held) in enumerate(zip(openers, pages, strict=True), first):
                if held is None:
                    continue
                try:
                    found = {channel_id(w.terms): w for w in read_page(held, opener, self.tower, self.key)}
                except (MalformedMessage, InvalidInput) as error:
                    self.faults.append(useless_page(error))
                    continue
                self.sought |= found
                self.pages.append((number, held.revision, tuple(found)))
            if not any(pages):
                return

    async def show_channels(self, link: Link) -> None:
        """Read the appointment of each channel that is listed; none of it counts if the tower stops in between."""
        locators = [locator_of(one.opener, self.tower, self.key.address) for one in self.sought.values()]
        for (channel, sought), held in zip(
            self.sought.items(), await fetch_held(link, locators, self.within), strict=True
        ):
            if held is None:
                self.shown.append(Shown(sought.terms, sought.listed.peer_key, sought.listed.place))
                continue
            shown, fault = read_appointment(held, sought, self.tower, self.key.address)
            self.shown.append(shown)
            if fault:
                self.faults.append(fault)
            else:
                self.revisions.append((channel, held.revision))


async def ask_tower(
    network: Network, tower: PeerAddress, key: PrivateKey, contract: tuple[int, Address], within: float
) -> Holdings:
    """Return all that a tower holds for the owner of a key; what it does wrongly is among the faults, never raised.

    `contract` is the chain's id, and the contract's address there; `within`: seconds for each answer.
    """
    asking = _Asking(key, PublicKey(tower.key).address, within)
    answered = False
    try:
        link = await network.dial(tower)
        try:
            await asking.list_channels(link, PageKeys(key, *contract))
            await asking.show_channels(link)
            answered = True
        finally:
            await link.aclose()
    except (LinkClosed, PeerError) as error:
        asking.faults.append(f"the tower at {tower}: {error}")
    found = tuple(asking.shown), tuple(asking.revisions), tuple(asking.pages)
    return Holdings(tower, answered, *found, tuple(asking.faults))


def coverage_of(holdings: Holdings, whole: Collection[ChannelId], listed: Collection[ChannelId]) -> list[Coverage]:
    """Return up to which revisions a tower has something, so that what it is sent from now on is newer.

    Only of channels of which our data has all (`whole`), and of pages on which it knows every channel (`listed`): the
    tower goes on refusing to have the rest overwritten.
    """
    tower = PublicKey(holdings.tower.key).address
    found = [Coverage(tower, name, revision) for name, revision in holdings.revisions if name in whole]
    for number, revision, channels in holdings.pages:
        if all(channel in listed for channel in channels):
            found.append(Coverage(tower, page_name(number), revision, claims=mark_of_page(channels)))
    return found
