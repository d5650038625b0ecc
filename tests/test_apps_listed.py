"""The apps that are over are paged through by their ids: each comes once, whatever the size of a page."""

from __future__ import annotations

import pytest

from tallystick.channels.apps.instance import AppInstance
from tallystick.channels.node.app_store import AppSaved, PlayedApp, load_apps
from tallystick.channels.protocol.apps import AppTerms
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.sdk.node.sqlite import APPS_SCHEMA


def played(nonce: int) -> PlayedApp:
    terms = AppTerms(
        chain_id=1,
        contract=Address(bytes(20)),
        app=bytes(32),
        start=bytes(32),
        players=(Address(b"a" * 20), Address(b"b" * 20)),
        stakes=(1, 1),
        assets=(NATIVE, NATIVE),
        expiry=9,
        period=60,
        nonce=nonce,
    )
    return PlayedApp(AppInstance(terms=terms, player=0, start=b""), b"peer", ChannelId(b""))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_each_app_that_is_over_comes_on_one_page(size: int) -> None:
    store = SimulatedDisk([APPS_SCHEMA]).open()
    everything = [played(nonce) for nonce in range(9)]
    store.commit([AppSaved(each, number != 4) for number, each in enumerate(everything)])
    pages, after = list[list[PlayedApp]](), b""
    while page := load_apps(store, over=True, after=after, limit=size):
        pages.append(page)
        after = page[-1].held.instance
    assert all(len(page) == size for page in pages[:-1])
    over = sorted((each for each in everything if each is not everything[4]), key=lambda each: each.held.instance)
    assert [each for page in pages for each in page] == over == load_apps(store, over=True)
