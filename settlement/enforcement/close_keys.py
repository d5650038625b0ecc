"""The keys that let a tower close a node's channels, derived when they are asked for."""

from __future__ import annotations

from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, close_key
from tallystick.channels.protocol.objects import ChannelId


class CloseKeys:
    """The keys that open channels' `close_hash`, derived once each."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._known: dict[ChannelId, bytes] = {}

    def __call__(self, channel: Channel) -> bytes:
        """Return a channel's close key, 32 bytes."""
        known = self._known.get(channel.id)
        if known is None:
            known = self._known[channel.id] = close_key(self._key, PublicKey(channel.peer_key), channel.id)
        return known
