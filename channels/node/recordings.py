"""Which channels of a node are being recorded."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session.recording.document import Recording, written
from tallystick.channels.session.recording.recorder import Recorder
from tallystick.channels.session.session import Session

SLICE = 16
"""Inputs that are written down before others have their turn."""


class Recordings:
    """Begun and ended by whoever wants to know what happens in a channel; in memory alone, and gone with the node."""

    def __init__(self, sessions: Mapping[ChannelId, Session]) -> None:
        self._sessions = sessions
        self._recorders: dict[ChannelId, Recorder] = {}

    def begin(self, channel: ChannelId) -> None:
        """Record a channel from now on, anew if it is recorded already; raise InvalidInput if it is unknown."""
        self.end(channel)
        self._recorders[channel] = Recorder(self._sessions[channel])

    def end(self, channel: ChannelId) -> None:
        """Record it no longer, and forget what was recorded."""
        recorder = self._recorders.pop(channel, None)
        if recorder is not None:
            recorder.end()

    async def export(self, channel: ChannelId) -> bytes:
        """Return the file of what `of` returns, letting others work meanwhile. Raises as it does."""
        made: Recording | None = None
        for number, part in enumerate(self._recorder(channel).build()):
            made = part
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
        assert made is not None
        return written(made)

    def of(self, channel: ChannelId) -> Recording:
        """Return what was recorded of a channel so far, without secrets; raise InvalidInput if nothing was."""
        return self._recorder(channel).recording()

    def _recorder(self, channel: ChannelId) -> Recorder:
        recorder = self._recorders.get(channel)
        if recorder is None:
            raise InvalidInput(
                f"channel {channel.hex()[:8]} is not being recorded: `tally channel record` begins, and what happens "
                "from then on can be exported"
            )
        return recorder
