"""Answers to incoming locks: each is claimed, or given back for a reason that nobody but the payer can read."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.forwarding.admission import Admission
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.onion.failures import Failure, first_wrap
from tallystick.router.onion.payload import FinalLock


class IncomingLocks:
    """Answers to incoming locks: see the module's docstring. Who decides is above it: relay, forwarder and payee."""

    def __init__(self, channels: NodeChannels, admission: Admission, update_of: Callable[[ChannelId], bytes]) -> None:
        """`update_of` gives the newest policy of a channel of ours, as gossip carries it, for failures."""
        self._channels = channels
        self._admission = admission
        self._update_of = update_of

    def reveal(self, channel: ChannelId, lock: int, secret: bytes) -> bool:
        """Claim a lock; return whether it is there (still) to be claimed."""
        if not self._channels.reveal(channel, lock, secret):
            return False
        self._admission.on_claimed(self._channels.view(channel), lock)
        return True

    def release(self, channel: ChannelId, lock: int, reason: bytes) -> None:
        """Give a lock back. One that is gone, or was claimed, stays as it is."""
        if self._channels.reject(channel, lock, reason):
            self._admission.on_freed(channel, lock)

    def refuse(self, final: FinalLock, failure: Failure) -> None:
        """Let a lock that ends here go."""
        self.release(final.channel, final.lock.id, self.hide(final.secret, failure))

    def hide(self, secret: bytes, failure: Failure) -> bytes:
        """Return the reason that tells the payer of a failure of ours, with the newest policy of what it is about."""
        if failure.code.of_policy and failure.channel and not failure.update:
            failure = msgspec.structs.replace(failure, update=self._update_of(ChannelId(failure.channel)))
        return first_wrap(secret, failure)
