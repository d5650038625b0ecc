"""What the parts of a session ask of it: streams, locks and counts work through this, on one channel each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tallystick.channels.limits import Policy
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Message
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import Effects
from tallystick.channels.session.inputs import SubmitLock
from tallystick.channels.session.link_state import LinkState
from tallystick.channels.session.outbox import Outbox
from tallystick.channels.session.standing import Headroom


class LocksPort(Protocol):
    """The locks of a session, as its streams see them."""

    fresh: Callable[[], bool]
    """Whether the view of the chain is up to date."""


class SessionPort(Protocol):
    """A `Session`, as its parts see it."""

    channel: Channel
    link: LinkState
    key: PrivateKey
    policy: Policy
    chain: ChainTime
    effects: Effects
    outbox: Outbox

    @property
    def locks(self) -> LocksPort:
        """Its locks."""

    @property
    def standing(self) -> Headroom:
        """What the channel's present state means for payments."""

    def add_lock(self, asked: SubmitLock) -> int:
        """Queue a lock and return its id."""

    def change(self, channel: Channel) -> None:
        """Put another state of the channel in its place, durably."""

    def enter(self, phase: Phase) -> None:
        """Move to another phase, durably."""

    def learn(self, **changes: Any) -> None:
        """Note what was said on the present link."""

    def tell_changed(self) -> None:
        """Say that the channel has changed, after the commit."""

    def send(self, message: Message) -> None:
        """Send to this channel's peer, after the commit."""

    def greet(self) -> None:
        """Say where this side is."""
