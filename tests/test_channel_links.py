"""What a link has brought ends with it: all of it, whatever is added to it later."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.pair import Pair
from tallystick.channels.errors import Fault
from tallystick.channels.protocol.core import CloseInitiator
from tallystick.channels.protocol.messages import Error, Shutdown, encode
from tallystick.channels.session.inputs import LinkDown, LinkUp, RequestClose
from tallystick.channels.session.link_state import LinkState

FRESH = LinkState()


def said(name: str) -> object:
    """Return something for a field that is not what it is on a link that has just begun."""
    hint = typing.get_type_hints(LinkState)[name]
    return True if hint is bool else (3, 4) if "tuple" in str(hint) else 7


@pytest.mark.parametrize("name", LinkState.__struct_fields__)
def test_every_single_thing_that_was_said_on_a_link_ends_with_it(name: str) -> None:
    pair = Pair((1_000, 1_000))
    pair.connect()
    pair.settle()
    session = pair.alice.session
    assert getattr(FRESH, name) != said(name)
    session.learn(**{name: said(name)})
    pair.alice.apply(LinkDown())
    assert session.link == FRESH
    session.learn(**{name: said(name)})
    pair.alice.apply(LinkUp())  # an old link may end unnoticed
    assert session.link == LinkState(greeted=True)


@given(st.sets(st.sampled_from(LinkState.__struct_fields__)))
@settings(max_examples=30, deadline=None)
def test_a_new_link_begins_alike_whatever_the_old_one_has_brought(names: set[str]) -> None:
    pair = Pair((1_000, 1_000))
    pair.connect()
    pair.settle()
    in_step = [party.session.link for party in pair.parties]
    for party in pair.parties:
        party.session.learn(**{name: said(name) for name in names})
    pair.connect()
    pair.settle()
    assert [party.session.link for party in pair.parties] == in_step and pair.faults == []


def test_what_a_link_has_brought_cannot_be_set_piece_by_piece() -> None:
    with pytest.raises(AttributeError):
        FRESH.ready = True  # type: ignore[misc]


def test_a_wish_to_close_and_an_excuse_of_the_peers_end_with_their_link() -> None:
    pair = Pair((1_000, 1_000))
    pair.connect()
    pair.settle()
    pair.inject(pair.alice, encode(Shutdown(pair.id, 0)))
    pair.inject(pair.alice, encode(Error(pair.id, Fault.CANCEL_REFUSED, "not yet")))
    link = pair.alice.session.link
    assert (link.peer_final, link.excused, pair.alice.channel.shutdown) == (0, True, CloseInitiator.PEER)
    pair.disconnect()
    assert pair.alice.session.link == FRESH
    pair.connect()
    assert pair.alice.channel.shutdown is CloseInitiator.NONE
    pair.alice.apply(RequestClose())
    pair.settle()
    assert pair.alice.channel.offer is not None
