"""Does a tower know what the chain says? What it holds of disputes against what the chain's events say anew. Pure.

What matters is what can still be challenged, so disputes whose window was over at the tower's position are left aside:
a tower drops them a while after, and may hold one longer than another.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from tallystick.channels.protocol.objects import ChannelId
from tallystick.settlement.chain import Header
from tallystick.watchtower.disputes import Dispute, DisputeEvent


class DifferenceKind(enum.StrEnum):
    """How what a tower holds differs from what the chain says."""

    POSITION_GONE = "position-gone"
    """The newest block that it followed is none of the chain's, and deeper than a reorganisation reaches."""
    DISPUTE_UNKNOWN = "dispute-unknown"
    """The chain shows a close that the tower does not know."""
    DISPUTE_MADE_UP = "dispute-made-up"
    """The tower knows a close that the chain does not show."""
    EVENTS_DIFFER = "events-differ"
    """Both know the close, and what happened since is not the same."""
    DUTY_MISSING = "duty-missing"
    """Something is to be done on chain, and nothing is on its way."""


class Difference(msgspec.Struct, frozen=True):
    """One of them."""

    kind: DifferenceKind
    text: str
    """One sentence."""
    channel: ChannelId | None = None


class PlacedEvent(msgspec.Struct, frozen=True):
    """An event of a dispute as the chain shows it, with its place in its block."""

    position: int
    seen: DisputeEvent


def is_open(dispute: Dispute, now: int) -> bool:
    """Whether a dispute can be challenged at that time."""
    closed = dispute.closed
    return closed is not None and dispute.settled is None and closed.deadline >= now


def compare(
    held: Mapping[ChannelId, Dispute], rebuilt: Mapping[ChannelId, Dispute], position: Header
) -> list[Difference]:
    """Return how disputes that are held differ from those that were rebuilt, both at the block of `position`."""
    found = []
    for channel in sorted(held.keys() | rebuilt.keys()):
        ours, theirs = held.get(channel), rebuilt.get(channel)
        if not any(dispute is not None and is_open(dispute, position.time) for dispute in (ours, theirs)):
            continue
        name = f"channel {channel.hex()[:8]}"
        if ours is None or ours.closed is None:
            assert theirs is not None
            text = f"{name} was closed{_in_block(theirs)}, and the tower does not know that"
            found.append(Difference(DifferenceKind.DISPUTE_UNKNOWN, text, channel))
        elif theirs is None or theirs.closed is None:
            text = f"the tower holds that {name} was closed{_in_block(ours)}, which the chain does not show"
            found.append(Difference(DifferenceKind.DISPUTE_MADE_UP, text, channel))
        elif ours.sightings != theirs.sightings:
            text = f"of {name} the tower knows {_events(ours)}, and the chain shows {_events(theirs)}"
            found.append(Difference(DifferenceKind.EVENTS_DIFFER, text, channel))
    return found


def _in_block(dispute: Dispute) -> str:
    closed = dispute.closed
    assert closed is not None
    number = next(one.block.number for one in dispute.sightings if one.event is closed)
    return f" in block {number}, with a window until {closed.deadline}"


def _events(dispute: Dispute) -> str:
    words = [f"{type(one.event).__name__.lower()} in block {one.block.number}" for one in dispute.sightings]
    return ", ".join(words)
