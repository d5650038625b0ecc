"""What a node's virtual channels ask of its engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tallystick.channels.limits import Policy
from tallystick.channels.node.views import Sessions
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Message
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import ChannelChanged
from tallystick.channels.session.expected import ExpectedLocks
from tallystick.channels.session.inputs import Asks
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer


class EnginePort(Protocol):
    """What is asked of the engine."""

    key: PrivateKey
    chain_id: int
    contract: Address
    chain: ChainTime
    policy: Policy
    sessions: Sessions
    expected: ExpectedLocks
    writer: Writer
    players: list[Any]

    def send(self, peer: bytes, message: Message) -> None:
        """Send to a peer, after the next commit."""

    def store(self, moments: list[Moment]) -> None:
        """Write moments in the commit of this step."""

    def emit(self, event: ChannelChanged) -> None:
        """Tell an event, after the next commit."""

    def then(self, act: Callable[[], None]) -> None:
        """Do something after the next commit, before events are told."""

    def apply(self, channel: ChannelId, command: Asks[object]) -> object:
        """Let something happen to a channel."""

    def add_channel(self, channel: Channel) -> object:
        """Take in a channel that is being opened."""

    def forget_channel(self, channel: ChannelId) -> None:
        """Drop a channel in which nothing was signed; raise InvalidInput if something was."""
