"""What the chain says of a channel at any height is the fold of its events up to there, whatever was asked before."""

from __future__ import annotations

from simulation.disputes import ChannelFixture
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.settlement.chain import Block, ChannelOpened, Deposited, Event, Header
from tallystick.settlement.following.index import ChainIndex
from tallystick.settlement.following.sqlite import INDEX_SCHEMA

FIXTURE = ChannelFixture()


def block(number: int, *events: Event) -> Block:
    return Block(Header(number, bytes([number]) * 32, bytes(32), 1_000 + number), events)


def test_a_view_follows_every_event_and_every_block_that_leaves_the_chain() -> None:
    index = ChainIndex(FIXTURE.terms.participants[0], SimulatedDisk([INDEX_SCHEMA]).open())

    def deposits(up_to: int) -> int | None:
        view = index.view(FIXTURE.id, up_to)
        return None if view is None else view.deposits[0]

    assert deposits(9) is None
    index.add(block(1, ChannelOpened(FIXTURE.id, FIXTURE.terms), Deposited(FIXTURE.id, 0, 5)))
    assert [deposits(number) for number in (0, 1, 9)] == [None, 5, 5]
    index.add(block(2, Deposited(FIXTURE.id, 0, 7)))
    assert [deposits(number) for number in (0, 1, 2, 9)] == [None, 5, 7, 7]
    index.remove(2, 1_001)
    assert deposits(9) == 5
    index.add(block(2, Deposited(FIXTURE.id, 0, 8)))
    assert [deposits(number) for number in (1, 2)] == [5, 8]
    index.remove(2, 1_001)
    index.remove(1, 1_000)
    assert deposits(9) is None


def test_a_view_of_what_was_mended_is_that_of_all_its_events_at_every_height() -> None:
    index = ChainIndex(FIXTURE.terms.participants[0], SimulatedDisk([INDEX_SCHEMA]).open())
    index.add(block(1, ChannelOpened(FIXTURE.id, FIXTURE.terms)))
    index.add(block(9, Deposited(FIXTURE.id, 0, 7)))
    heights = (1, 4, 5, 8, 9)
    for number in heights:
        index.view(FIXTURE.id, number)
    index.mend(FIXTURE.id, index.mended(FIXTURE.id, [block(5, Deposited(FIXTURE.id, 1, 3))]))
    views = [index.view(FIXTURE.id, number) for number in heights]
    assert [view and view.deposits for view in views] == [(0, 0), (0, 0), (0, 3), (0, 3), (7, 3)]
