"""What a router and those around it say to each other: locks that end here, and who pays and is paid (`service`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet
from tallystick.router.onion.payload import FinalPayload


class FinalLock(Discreet, msgspec.Struct, frozen=True):
    """A lock that ends at this node."""

    channel: ChannelId
    lock: Lock
    payload: FinalPayload
    secret: bytes
    """Shared with the payer by the onion: `Router.refuse` needs it."""
    asset: Address = NATIVE
    """Of the channel."""
    again: bool = False
    """It was pending when the node went down, and handed to the payee before."""


class PayeeSeam(Protocol):
    """Who takes payments in. Called within the commit of what happened: must neither wait nor raise."""

    def arrived(self, final: FinalLock) -> Sequence[Moment]:
        """A lock ends here: `Router.reveal` or `Router.refuse` it, now or later. Told again after a restart."""
        ...

    def gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """An incoming lock that is no forwarded one has ended, paid for its secret or (empty) taken back."""
        ...

    def time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        ...


class PayerSeam(Protocol):
    """Who sends payments. Told of all locks of ours that are not forwarded ones, as `LockKeeper` says."""

    def secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """The lock will be paid."""
        ...

    def lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """The peer gives it back; it is not ours again yet."""
        ...

    def lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """It is agreed gone."""
        ...

    def lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """It was given up unsigned."""
        ...

    def channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """A channel can carry locks (again)."""
        ...

    def time_passed(self) -> Sequence[Moment]:
        """Chain time has passed."""
        ...
